"""Residual nets of 3x3 convolutions: the ResNet-8 kind.

A stem convolution, 2 to 4 stages of 1 to 3 residual blocks, a global average pool and a
classifier. A block is two 3x3 convolutions whose result is added to what they read; where
stride or filters change, a 1x1 convolution brings the block's input to the new shape. Stages but
the first halve the map until it is 4x4.

Sources of the form: He et al., arXiv 1512.03385 (blocks, the nets of 20 and 18 layers); ResNet-8
as the image classification model of MLPerf Tiny (Banbury et al., arXiv 2106.07597; layers in
mlcommons/tiny, benchmark/training/image_classification/keras_model.py): with 32x32 rgb, width 16
and 10 outputs its starting point has that net's layers, 12.5 million multiply-accumulates.

Good for: images of many kinds where accuracy is worth cycles; deeper nets than plain stages
train well. Three maps of a block are alive together, which costs RAM.

Assumptions: padding `same`, ReLU, batch normalization after each convolution but the shortcut's;
a pool over the stem is 2x2, where ResNet-18 has 3x3.

Accuracy: 69.0 % int8 on the 10,000 test images of CIFAR-10 (standard error .5) after 4 minutes of
search for the Nano 33 BLE on two cores, 8,000 training images (tests/benchmarks/auto_spaces.py).
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.spec import (
    Add,
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
    stages = choices.ordered("stages", (2, 3, 4))
    stem_kernel = choices.ordered("stem_kernel", (3, 5, 7))
    stem_stride = choices.categorical("stem_stride", (2, 1))
    net.add("stem", Conv2D(filters=width, kernel=stem_kernel, stride=stem_stride))
    if net.side > SMALLEST_MAP and choices.categorical("stem_pool", (True, False)):
        net.add("stem_pool", MaxPool2D(size=2))
    for stage in range(stages):
        filters = min(MAX_FILTERS, max(4, round(width * growth**stage / 4) * 4))
        for block in range(choices.ordered(f"blocks{stage}", (1, 2, 3))):
            stride = 2 if stage and block == 0 and net.side > SMALLEST_MAP else 1
            _add_block(net, f"stage{stage}_{block}", filters, stride)
    return net.end(choices, context.outputs)


def _add_block(net: Layers, name: str, filters: int, stride: int) -> None:
    trunk = net.last
    net.add(f"{name}_first", Conv2D(filters=filters, stride=stride))
    branch = net.add(f"{name}_second", Conv2D(filters=filters, activation="linear"))
    if stride > 1 or net.channels_of(trunk) != filters:
        shortcut = Conv2D(
            filters=filters, kernel=1, stride=stride, activation="linear", batch_norm=False
        )
        trunk = net.add(f"{name}_shortcut", shortcut, trunk)
    net.add(f"{name}_sum", Add(activation="relu"), trunk, branch)


_FORMS: dict[str, dict[str, str | int | float]] = {
    "ResNet-8": {"growth": 2.0, "stages": 3, "stem_stride": 1, "stem_pool": False},
    "ResNet-20": {
        "growth": 2.0, "stages": 3, "stem_stride": 1, "stem_pool": False,
        "blocks0": 3, "blocks1": 3, "blocks2": 3,
    },
    "ResNet-18 kind": {
        "growth": 2.0, "stages": 4, "stem_kernel": 7, "stem_stride": 2, "stem_pool": True,
        "blocks0": 2, "blocks1": 2, "blocks2": 2, "blocks3": 2,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good nets, each from the most multiply-accumulates to the fewest."""
    return tuple(
        StartingPoint(
            name=name, sizes=largest_first(form, resolutions(context), "width", widths(context))
        )
        for name, form in _FORMS.items()
    )
