"""Wide mobile nets for Linux boards and accelerators, at 96 to 320 pixels.

A stem convolution of stride 2 and 3 to 5 stages, which begin with 64 to 1,024 filters times a
width multiplier; each but the first halves the map until it is 4x4. Every stage is of one kind:

* separable: depthwise, then 1x1 to its filters;
* inverted: 1x1 to its filters, depthwise, linear 1x1 to a quarter of them;
* fused: a plain convolution to its filters, linear 1x1 to a quarter of them.

Inverted and fused blocks add their input where the shape stays.

Sources of the form: MobileNetV1 (Howard et al., arXiv 1704.04861), whose layers the first
starting point has at any multiplier; inverted residuals (Sandler et al., arXiv 1801.04381); plain
convolutions in the place of depthwise ones, which accelerators compute faster (Xiong et al.,
arXiv 2004.14525, MobileDets).

Good for: images of 96 pixels and more on a Linux board, or on a KPU or NPU. All widths are
multiples of 8, those of separable stages of 16: vector units and the K230's KPU (24 input by
32 output channels at a time) leave less idle. Nets of this size want minutes of training each.

Assumptions: padding `same`, ReLU6, batch normalization after each convolution. Images smaller
than 96 pixels are used at their own size.

Accuracy: 99.8 % int8 on 540 test images of blood cells (standard error .2) after 4 minutes of
search for the Raspberry Pi 4 on two cores, 794 training images of about 100 pixels, three classes
(the cells of tests/benchmarks/auto_spaces.py), a set that nearly every space of `auto` solves.
"""

from __future__ import annotations

from collections.abc import Sequence

from tuner.spec import (
    SIDES,
    Add,
    Architecture,
    Candidate,
    Choices,
    Context,
    Conv2D,
    DepthwiseConv2D,
    Layers,
    Preprocessing,
    StartingPoint,
    draw_loss,
    draw_preprocessing,
    draw_training,
    largest_first,
    multiple_of,
    resolutions,
)

SMALLEST_SIDE = 96
STEM = 32
FILTERS = (64, 128, 256, 512, 1024)
MULTIPLIERS = (0.25, 0.5, 0.75, 1.0)
NARROWED = 4
"""Inverted and fused blocks hand on their filters divided by this."""

SMALLEST_MAP = 4


def suits(context: Context) -> bool:
    """Linux boards and accelerators, with images that are large enough."""
    return context.accelerated and min(context.image_height, context.image_width) >= SMALLEST_SIDE


def sides(context: Context) -> tuple[int, ...]:
    """Sides of the square input, ascending, pixels."""
    return resolutions(context, tuple(side for side in SIDES if side >= SMALLEST_SIDE))


def draw(choices: Choices, context: Context) -> Candidate:
    """Make one candidate; the first option of each choice makes the smallest."""
    preprocessing = draw_preprocessing(choices, context, sides(context))
    return Candidate(
        preprocessing=preprocessing,
        architecture=_architecture(choices, context, preprocessing),
        training=draw_loss(choices, draw_training(choices)),
    )


def _architecture(choices: Choices, context: Context, preprocessing: Preprocessing) -> Architecture:
    net = Layers(preprocessing)
    multiplier = choices.ordered("multiplier", MULTIPLIERS)
    stages = choices.ordered("stages", (3, 4, 5))
    stem = multiple_of(8, STEM * multiplier)
    net.add("stem", Conv2D(filters=stem, stride=2, activation="relu6"))
    for stage in range(stages):
        filters = multiple_of(16, FILTERS[stage] * multiplier)
        kind = choices.categorical(f"kind{stage}", ("separable", "inverted", "fused"))
        blocks = choices.ordered(f"blocks{stage}", (1, 2, 3, 4, 6))
        kernel = choices.ordered(f"kernel{stage}", (3, 5))
        for block in range(blocks):
            stride = 2 if stage and block == 0 and net.side > SMALLEST_MAP else 1
            name = f"stage{stage}_{block}"
            if kind == "separable":
                _add_depthwise(net, name, kernel, stride)
                net.add(f"{name}_pointwise", _pointwise(filters))
            else:
                _add_narrowed(net, name, filters, kernel, stride, fused=kind == "fused")
    last = choices.ordered("last", (0, 1280))
    if last:
        net.add("last", _pointwise(last))
    return net.end(choices, context.outputs)


def _pointwise(filters: int) -> Conv2D:
    return Conv2D(filters=filters, kernel=1, activation="relu6")


def _add_depthwise(net: Layers, name: str, kernel: int, stride: int) -> None:
    net.add(f"{name}_depthwise", DepthwiseConv2D(kernel=kernel, stride=stride, activation="relu6"))


def _add_narrowed(
    net: Layers, name: str, filters: int, kernel: int, stride: int, *, fused: bool
) -> None:
    """An inverted or fused block, with its input added where the shape stays."""
    trunk = net.last
    if fused:
        wide = Conv2D(filters=filters, kernel=kernel, stride=stride, activation="relu6")
        net.add(f"{name}_fused", wide)
    else:
        net.add(f"{name}_expand", _pointwise(filters))
        _add_depthwise(net, name, kernel, stride)
    narrow = multiple_of(8, filters / NARROWED)
    end = net.add(f"{name}_project", Conv2D(filters=narrow, kernel=1, activation="linear"))
    if stride == 1 and net.channels_of(trunk) == narrow:
        net.add(f"{name}_sum", Add(), end, trunk)


_FORMS: dict[str, dict[str, str | int]] = {
    "MobileNetV1": {
        "stages": 5, "blocks0": 1, "blocks1": 2, "blocks2": 2, "blocks3": 6, "blocks4": 2,
    },
    "fused, then inverted": {
        "stages": 5, "kind0": "fused", "kind1": "fused", "kind2": "inverted",
        "kind3": "inverted", "kind4": "inverted", "last": 1280,
        "blocks1": 2, "blocks2": 3, "blocks3": 4, "blocks4": 2,
    },
    "inverted": {
        "stages": 5, "kind0": "separable", "kind1": "inverted", "kind2": "inverted",
        "kind3": "inverted", "kind4": "inverted", "last": 1280,
        "blocks1": 2, "blocks2": 3, "blocks3": 6, "blocks4": 3, "kernel2": 5, "kernel4": 5,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the most multiply-accumulates to the fewest."""
    return tuple(
        StartingPoint(
            name=name, sizes=largest_first(form, sides(context), "multiplier", MULTIPLIERS)
        )
        for name, form in _FORMS.items()
    )
