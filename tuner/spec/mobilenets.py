"""MobileNets as keras.applications builds them, up to their heads.

Layers, widths and strides are those of MobileNet, MobileNetV2 and MobileNetV3Small with
`minimalistic=True` in Keras 3 (keras/src/applications), with `include_top=False`, so that weights
made for one serve the other; after Howard et al., arXiv 1704.04861, Sandler et al., arXiv
1801.04381, and Howard et al., arXiv 1905.02244. A padding and a `valid` convolution of stride 2
there are one `same` convolution here: the same numbers, but for MobileNet where a map's side is
odd.

The usual MobileNetV3Small is not among them: its squeeze-and-excitation blocks and hard-swish are
operators that an Architecture has not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from tuner.spec.architecture import Architecture
from tuner.spec.candidate import Preprocessing
from tuner.spec.drawing import Layers, multiple_of
from tuner.spec.operators import Activation, Add, Conv2D, DepthwiseConv2D

MobileNetKind = Literal["MobileNet", "MobileNetV2", "MobileNetV3Small minimalistic"]

ALPHAS: dict[MobileNetKind, tuple[float, ...]] = {
    "MobileNet": (0.25, 0.5, 0.75, 1.0),
    "MobileNetV2": (0.35, 0.5, 0.75, 1.0, 1.3, 1.4),
    "MobileNetV3Small minimalistic": (0.75, 1.0),
}
"""Width multipliers of each."""

IMAGENET_SIDES: dict[tuple[MobileNetKind, float], tuple[int, ...]] = {
    **{("MobileNet", alpha): (128, 160, 192, 224) for alpha in ALPHAS["MobileNet"]},
    **{
        ("MobileNetV2", alpha): (96, 128, 160, 192, 224) if alpha <= 1.0 else (224,)
        for alpha in ALPHAS["MobileNetV2"]
    },
    ("MobileNetV3Small minimalistic", 1.0): (224,),
}
"""Input sides, pixels, that Keras has ImageNet weights for, by net and alpha; of MobileNetV2 1.3
and 1.4 there is one file each, others are not found (keras-team/keras issue 16452)."""

_V1 = (
    (64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), (512, 1), (512, 1), (512, 1),
    (512, 1), (512, 1), (1024, 2), (1024, 1),
)  # fmt: skip
"""Filters and stride of each depthwise-separable block of MobileNet."""

_V2 = ((16, 1, 1), (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1))
"""Filters, blocks and first stride of each stage of MobileNetV2."""

_V3 = (
    (1.0, 16, 2), (72 / 16, 24, 2), (88 / 24, 24, 1), (4.0, 40, 2), (6.0, 40, 1), (6.0, 40, 1),
    (3.0, 48, 1), (3.0, 48, 1), (6.0, 96, 2), (6.0, 96, 1), (6.0, 96, 1),
)  # fmt: skip
"""Expansion, filters and stride of each block of MobileNetV3Small."""


@dataclass(frozen=True, slots=True, kw_only=True)
class MobileNet:
    """One of them.

    Args:
        kind: its name in keras.applications.
        alpha: width multiplier.
    """

    kind: MobileNetKind
    alpha: float

    @property
    def name(self) -> str:
        """As it is shown."""
        return f"{self.kind} {self.alpha:g}"

    def add_to(self, net: Layers) -> None:
        """Add its layers, from the first convolution to what the global pool reads."""
        if self.kind == "MobileNet":
            _add_v1(net, self.alpha)
        elif self.kind == "MobileNetV2":
            _add_v2(net, self.alpha)
        else:
            _add_v3(net, self.alpha)

    def architecture(self, preprocessing: Preprocessing) -> Architecture:
        """Its layers alone, without a head."""
        net = Layers(preprocessing)
        self.add_to(net)
        return net.without_end()


MOBILENETS = tuple(
    MobileNet(kind=kind, alpha=alpha) for kind, alphas in ALPHAS.items() for alpha in alphas
)


def _add_v1(net: Layers, alpha: float) -> None:
    net.add("conv1", Conv2D(filters=int(32 * alpha), stride=2, activation="relu6"))
    for block, (filters, stride) in enumerate(_V1, start=1):
        net.add(f"conv_dw_{block}", DepthwiseConv2D(stride=stride, activation="relu6"))
        wide = Conv2D(filters=int(filters * alpha), kernel=1, activation="relu6")
        net.add(f"conv_pw_{block}", wide)


def _add_v2(net: Layers, alpha: float) -> None:
    stem = multiple_of(8, 32 * alpha)
    net.add("Conv1", Conv2D(filters=stem, stride=2, activation="relu6"))
    block = 0
    for filters, count, first in _V2:
        narrow = multiple_of(8, int(filters * alpha))
        for index in range(count):
            wide = 6 * net.channels_of(net.last) if block else None
            stride = first if index == 0 else 1
            prefix = f"block_{block}" if block else "expanded_conv"
            _add_block(net, prefix, wide, stride, narrow, "relu6")
            block += 1
    last = multiple_of(8, 1280 * alpha) if alpha > 1.0 else 1280
    net.add("Conv_1", Conv2D(filters=last, kernel=1, activation="relu6"))


def _add_v3(net: Layers, alpha: float) -> None:
    net.add("conv", Conv2D(filters=16, stride=2, activation="relu"))
    for block, (expansion, filters, stride) in enumerate(_V3):
        wide = multiple_of(8, net.channels_of(net.last) * expansion) if block else None
        prefix = f"expanded_conv_{block}" if block else "expanded_conv"
        _add_block(net, prefix, wide, stride, multiple_of(8, filters * alpha), "relu")
    last = multiple_of(8, 6 * net.channels_of(net.last))
    net.add("conv_1", Conv2D(filters=last, kernel=1, activation="relu"))


def _add_block(
    net: Layers, prefix: str, wide: int | None, stride: int, narrow: int, activation: Activation
) -> None:
    """An inverted residual; the first block of a net does not widen."""
    trunk = net.last
    if wide is not None:
        net.add(f"{prefix}_expand", Conv2D(filters=wide, kernel=1, activation=activation))
    net.add(f"{prefix}_depthwise", DepthwiseConv2D(stride=stride, activation=activation))
    project = Conv2D(filters=narrow, kernel=1, activation="linear")
    end = net.add(f"{prefix}_project", project)
    if stride == 1 and net.channels_of(trunk) == narrow:
        net.add(f"{prefix}_add", Add(), end, trunk)
