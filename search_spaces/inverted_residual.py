"""Inverted residuals: the MobileNetV2 and MCUNet kind.

A stem convolution and the stages of MobileNetV2, of which the last ones may be left out. A block
widens its input with a 1x1 convolution, filters each channel by itself and narrows the result
with a linear 1x1 convolution; where the shape stays, its input is added. The first stage does not
widen. Searched are the width multiplier, how many stages, and for each stage its blocks, how much
they widen and their kernel; a last 1x1 convolution before the pool is optional. Strides are those
of MobileNetV2 until the map is 4x4.

Sources of the form: Sandler et al., arXiv 1801.04381 (MobileNetV2; table 2 gives widths, repeats
and strides); Lin et al., arXiv 2007.10319 (MCUNet: kernels of 3, 5 and 7 on microcontrollers).
At 96x96 with multiplier 0.35 the first starting point has the layers of MobileNetV2 0.35.

Good for: much accuracy for few multiply-accumulates and little flash, from 64x64 pixels. The
widened maps of the first stages cost RAM; depthwise convolutions cost more time per
multiply-accumulate than plain ones on most devices, and more to train.

Assumptions: padding `same`, ReLU6, batch normalization after each convolution; filters are
multiples of 8 as published, below multiplier 0.35 of 4.

Accuracy: 65.9 % int8 on the 10,000 test images of CIFAR-10 (standard error .5) after 4 minutes of
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
    widths,
)

STEM = 32
FILTERS = (16, 24, 32, 64, 96, 160, 320)
STRIDES = (1, 2, 2, 2, 1, 2, 1)
MULTIPLIERS = (0.125, 0.25, 0.35, 0.5, 0.75, 1.0)
PUBLISHED_FROM = 0.35
"""Multipliers from here on round to 8, as published; smaller ones to 4."""

SMALLEST_MAP = 4
LARGE_IMAGE = 64


def multipliers(context: Context) -> tuple[float, ...]:
    """Width multipliers whose stem has about the filters that suit the device and the images."""
    stems = widths(context)
    return tuple(item for item in MULTIPLIERS if stems[0] <= STEM * item <= stems[-1])


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
    multiplier = choices.ordered("multiplier", multipliers(context))
    divisor = 8 if multiplier >= PUBLISHED_FROM else 4
    stages = choices.ordered("stages", (3, 4, 5, 6, 7))
    stem_stride = choices.categorical("stem_stride", (2, 1))
    stem = multiple_of(divisor, STEM * multiplier)
    net.add("stem", Conv2D(filters=stem, stride=stem_stride, activation="relu6"))
    for stage in range(stages):
        filters = multiple_of(divisor, FILTERS[stage] * multiplier)
        blocks = choices.ordered(f"blocks{stage}", (1, 2, 3, 4)) if stage else 1
        expansion = choices.ordered(f"expansion{stage}", (2, 3, 4, 6)) if stage else 1
        kernel = choices.ordered(f"kernel{stage}", (3, 5, 7))
        for block in range(blocks):
            stride = STRIDES[stage] if block == 0 and net.side > SMALLEST_MAP else 1
            _add_block(net, f"stage{stage}_{block}", expansion, kernel, stride, filters)
    last = choices.ordered("last", (0, 128, 256, 512, 1280))
    if last:
        net.add("last", Conv2D(filters=last, kernel=1, activation="relu6"))
    return net.end(choices, context.outputs)


def _add_block(
    net: Layers, name: str, expansion: int, kernel: int, stride: int, filters: int
) -> None:
    trunk = net.last
    channels = net.channels_of(trunk)
    if expansion > 1:
        wide = Conv2D(filters=channels * expansion, kernel=1, activation="relu6")
        net.add(f"{name}_expand", wide)
    net.add(f"{name}_depthwise", DepthwiseConv2D(kernel=kernel, stride=stride, activation="relu6"))
    end = net.add(f"{name}_project", Conv2D(filters=filters, kernel=1, activation="linear"))
    if stride == 1 and channels == filters:
        net.add(f"{name}_sum", Add(), end, trunk)


_FORMS: dict[str, dict[str, int]] = {
    "MobileNetV2": {
        "stages": 7, "last": 1280,
        "blocks1": 2, "blocks2": 3, "blocks3": 4, "blocks4": 3, "blocks5": 3,
        "expansion1": 6, "expansion2": 6, "expansion3": 6, "expansion4": 6, "expansion5": 6,
        "expansion6": 6,
    },
    "MCUNet kind": {
        "stages": 6, "kernel1": 5, "kernel2": 7, "kernel3": 5, "kernel5": 5,
        "blocks1": 2, "blocks2": 3, "blocks3": 2, "blocks4": 2, "blocks5": 3,
        "expansion1": 3, "expansion2": 4, "expansion3": 4, "expansion4": 4, "expansion5": 4,
    },
    "MobileNetV2, the first five stages": {
        "stages": 5, "blocks1": 2, "blocks2": 3, "blocks3": 4, "blocks4": 3,
        "expansion1": 6, "expansion2": 6, "expansion3": 6, "expansion4": 6,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the most multiply-accumulates to the fewest."""
    sides = resolutions(context)
    stem_stride = 2 if sides[-1] >= LARGE_IMAGE else 1
    return tuple(
        StartingPoint(
            name=name,
            sizes=largest_first(
                {"stem_stride": stem_stride, **form}, sides, "multiplier", multipliers(context)
            ),
        )
        for name, form in _FORMS.items()
    )
