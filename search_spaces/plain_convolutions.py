"""Plain stages of 3x3 or 5x5 convolutions: the VGG and CMSIS-NN kind.

2 to 5 stages of 1 to 3 convolutions. Each stage ends by halving the map, with a max pool or by
the stride of its last convolution, until the map is 4x4; each begins with as many filters as the
stage before or twice as many. The classifier reads the mean of the last map or, where that is
8x8 or smaller, all of it.

Sources of the form: stages of equal convolutions whose filters double after each pool, as in VGG
(Simonyan and Zisserman, arXiv 1409.1556); three 5x5 stages with pools and a classifier over the
whole map, as in the CIFAR-10 net of CMSIS-NN (Lai et al., arXiv 1801.06601); strides in place of
pools (Springenberg et al., arXiv 1412.6806).

Good for: small images, and devices with more flash and cycles than RAM: nothing is kept beside
the current layer. The first convolution is computed at full resolution, which large images pay
for in RAM. Every runtime has fast kernels for these few operators.

Assumptions: padding `same`, ReLU, batch normalization after each convolution; pools of 2x2, where
the CMSIS-NN net has 3x3.

Accuracy: 76.8 % int8 on the 10,000 test images of CIFAR-10 (standard error .4) after 4 minutes of
search for the Nano 33 BLE on two cores, 8,000 training images (tests/benchmarks/auto_spaces.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.spec import (
    Architecture,
    Candidate,
    Choices,
    Context,
    Conv2D,
    Layers,
    MaxPool2D,
    Preprocessing,
    StartingPoint,
    draw_loss,
    draw_preprocessing,
    draw_training,
    largest_first,
    resolutions,
    widths,
)

MAX_FILTERS = 512
SMALLEST_MAP = 4
LARGEST_FLAT_MAP = 8


def draw(choices: Choices, context: Context) -> Candidate:
    """Make one candidate; the first option of each choice makes the smallest."""
    preprocessing = draw_preprocessing(choices, context)
    return Candidate(
        preprocessing=preprocessing,
        architecture=_architecture(choices, context, preprocessing),
        training=draw_loss(choices, draw_training(choices)),
    )


def _architecture(choices: Choices, context: Context, preprocessing: Preprocessing) -> Architecture:
    net = Layers(preprocessing)
    filters = choices.ordered("width", widths(context))
    stages = choices.ordered("stages", (2, 3, 4, 5))
    pool = choices.categorical("downsample", ("stride", "pool")) == "pool"
    for stage in range(stages):
        if stage:
            filters = min(MAX_FILTERS, filters * choices.ordered(f"wider{stage}", (1, 2)))
        convolutions = choices.ordered(f"convolutions{stage}", (1, 2, 3))
        kernel = choices.ordered(f"kernel{stage}", (3, 5))
        shrink = net.side > SMALLEST_MAP
        for index in range(convolutions):
            stride = 2 if shrink and not pool and index == convolutions - 1 else 1
            name = f"stage{stage}_{index}"
            net.add(name, Conv2D(filters=filters, kernel=kernel, stride=stride))
        if shrink and pool:
            net.add(f"pool{stage}", MaxPool2D(size=2))
    flat = (
        net.side <= LARGEST_FLAT_MAP
        and choices.categorical("classifier_reads", ("mean", "map")) == "map"
    )
    return net.end(choices, context.outputs, flat=flat)


_FORMS: dict[str, dict[str, str | int]] = {
    "VGG kind": {
        "stages": 3, "downsample": "pool", "wider1": 2, "wider2": 2,
        "convolutions0": 2, "convolutions1": 2, "convolutions2": 2,
    },
    "CMSIS-NN kind": {
        "stages": 3, "downsample": "pool", "wider2": 2, "classifier_reads": "map",
        "kernel0": 5, "kernel1": 5, "kernel2": 5,
    },
    "all convolutional": {
        "stages": 4, "downsample": "stride", "wider1": 2, "wider2": 2,
        "convolutions1": 2, "convolutions2": 2,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the most multiply-accumulates to the fewest."""
    return tuple(
        StartingPoint(
            name=name, sizes=largest_first(form, resolutions(context), "width", widths(context))
        )
        for name, form in _FORMS.items()
    )
