"""MobileNets of the field, layer by layer as keras.applications has them.

MobileNet, MobileNetV2 and MobileNetV3Small `minimalistic`, each with its published width
multipliers ("alpha") and a new classifier; alpha and the input's resolution are searched. From
the command line they learn from scratch; with `tune --weights imagenet`, or a file of one of these
nets, the space `transfer` begins with trained weights instead and needs far fewer images.

Sources of the form: Howard et al., arXiv 1704.04861 (MobileNet); Sandler et al., arXiv 1801.04381
(MobileNetV2); Howard et al., arXiv 1905.02244 (MobileNetV3; its minimalistic form has no
squeeze-and-excitation, no hard-swish and 3x3 kernels alone). Layers and widths are those of
keras.applications, Keras 3.

Good for: comparing with published nets, and devices with room for them: 0.2 to 5 million
weights. The whole net is used however small the image, so that below 64x64 pixels the last maps
are of one pixel; the other spaces make better nets for small images.

Assumptions: padding `same`, batch normalization after each convolution, ReLU6 (ReLU in V3).
MobileNetV3Small with squeeze-and-excitation and hard-swish is left out: its operators have no
costs here yet, and swish nets lose accuracy in int8 (EfficientNet-B0 5 points, TensorRT's
published figures).

Accuracy: 67.0 % int8 on the 10,000 test images of CIFAR-10 (standard error .4) after 4 minutes of
search for the Nano 33 BLE on two cores, 8,000 training images (tests/benchmarks/auto_spaces.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.spec import (
    ALPHAS,
    Candidate,
    Choices,
    Context,
    Layers,
    MobileNet,
    MobileNetKind,
    StartingPoint,
    draw_loss,
    draw_preprocessing,
    draw_training,
    largest_first,
    resolutions,
)

ALPHA_NAMES: dict[MobileNetKind, str] = {
    "MobileNet": "alpha_v1",
    "MobileNetV2": "alpha_v2",
    "MobileNetV3Small minimalistic": "alpha_v3",
}
"""By net, the choice of its width multiplier."""


def draw(choices: Choices, context: Context) -> Candidate:
    """Make one candidate; the first option of each choice makes the smallest."""
    preprocessing = draw_preprocessing(choices, context)
    wanted = choices.categorical("net", tuple(ALPHAS))
    kind = next(kind for kind in ALPHAS if kind == wanted)
    net = Layers(preprocessing)
    MobileNet(kind=kind, alpha=choices.ordered(ALPHA_NAMES[kind], ALPHAS[kind])).add_to(net)
    return Candidate(
        preprocessing=preprocessing,
        architecture=net.end(choices, context.outputs),
        training=draw_loss(choices, draw_training(choices)),
    )


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Each net, from the most multiply-accumulates to the fewest."""
    return tuple(
        StartingPoint(
            name=kind,
            sizes=largest_first(
                {"net": kind}, resolutions(context), ALPHA_NAMES[kind], ALPHAS[kind]
            ),
        )
        for kind in ALPHAS
    )
