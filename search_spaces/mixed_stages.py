"""Small nets of plain and depthwise-separable stages.

A stem convolution, 2 to 5 stages, a global average pool and a classifier. Each stage is made of
plain 3x3 convolutions or of depthwise-separable ones (depthwise, then 1x1): on a CPU plain
stages train faster and reach more at the same flash, on a device separable ones cost less, so
the search decides stage by stage. Each stage halves the resolution, by stride or by a max pool,
until the map is 4x4, and widens it.

Sources of the forms: plain stages with pools as in the CIFAR-10 net of CMSIS-NN (Lai et al.,
arXiv 1801.06601); separable ones as in DS-CNN (Zhang et al., arXiv 1711.07128) and MobileNetV1
(Howard et al., arXiv 1704.04861).

Assumptions: padding `same`, ReLU, batch normalization after each convolution.

Accuracy: 76.1 % int8 on the 10,000 test images of CIFAR-10 (standard error .4) after 4 minutes of
search for the Nano 33 BLE on two cores, 8,000 training images (tests/benchmarks/auto_spaces.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.spec import (
    TRAINED_WELL,
    Architecture,
    Candidate,
    Choices,
    Context,
    Conv2D,
    DepthwiseConv2D,
    Layers,
    MaxPool2D,
    Preprocessing,
    StartingPoint,
    draw_loss,
    draw_preprocessing,
    draw_training,
    resolutions,
    widths,
)

MAX_FILTERS = 256
SMALLEST_MAP = 4


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
    width = choices.ordered("width", widths(context))
    growth = choices.ordered("growth", (1.0, 1.5, 2.0))
    stages = choices.ordered("stages", (2, 3, 4, 5))
    pool = choices.categorical("downsample", ("stride", "pool")) == "pool"
    stem_stride = choices.categorical("stem_stride", (2, 1))
    stem_kernel = choices.ordered("stem_kernel", (3, 5))
    net.add("stem", Conv2D(filters=width, kernel=stem_kernel, stride=stem_stride))
    for stage in range(stages):
        filters = min(MAX_FILTERS, max(4, round(width * growth ** (stage + 1) / 4) * 4))
        plain = choices.categorical(f"kind{stage}", ("separable", "plain")) == "plain"
        blocks = choices.ordered(f"blocks{stage}", (1, 2))
        kernel = choices.ordered(f"kernel{stage}", (3, 5))
        shrink = net.side > SMALLEST_MAP
        if shrink and pool:
            net.add(f"pool{stage}", MaxPool2D(size=2))
        for block in range(blocks):
            stride = 2 if shrink and not pool and block == 0 else 1
            name = f"stage{stage}_{block}"
            if plain:
                net.add(name, Conv2D(filters=filters, kernel=kernel, stride=stride))
            else:
                net.add(f"{name}_depthwise", DepthwiseConv2D(kernel=kernel, stride=stride))
                net.add(f"{name}_pointwise", Conv2D(filters=filters, kernel=1))
    return net.end(choices, context.outputs)


_FORMS: dict[str, dict[str, str | int | float]] = {
    "plain stages": {
        "growth": 2.0, "stages": 3, "downsample": "pool", "stem_stride": 1,
        "kind0": "plain", "kind1": "plain", "kind2": "plain",
    },
    "plain, then separable": {
        "growth": 2.0, "stages": 3, "downsample": "pool", "stem_stride": 1, "stem_kernel": 3,
        "kind0": "plain", "kind1": "plain", "kind2": "separable", "blocks2": 2,
    },
    "MobileNetV1 kind": {
        "growth": 2.0, "stages": 4, "downsample": "stride", "stem_stride": 2,
        "kind0": "separable", "kind1": "separable", "kind2": "separable", "kind3": "separable",
        "blocks1": 2, "blocks2": 2,
    },
    "DS-CNN kind": {
        "growth": 1.0, "stages": 4, "downsample": "stride", "stem_stride": 2, "stem_kernel": 5,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the largest input and width to the smallest."""
    return tuple(
        StartingPoint(
            name=name,
            sizes=tuple(
                {**TRAINED_WELL, **form, "resolution": side, "width": width}
                for side in reversed(resolutions(context))
                for width in reversed(widths(context))
            ),
        )
        for name, form in _FORMS.items()
    )
