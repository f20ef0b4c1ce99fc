"""The nets behind the public latency points, layer by layer, as Graphs.

Each is written from its published description, and a test holds its MACs to the published or
counted figure:

* the four models of MLPerf Tiny: mlcommons/tiny, benchmark/training/*/keras_model.py and
  vww_model.py, without their softmax; batch normalizations of the auto-encoder fold into its dense
  layers;
* MobileNetV1 and V2 of any width and resolution: keras.applications;
* mcunet-in0 to in4: mit-han-lab/tinyml, mcunet/assets/configs (10fps, 5fps, 256kb-1mb, 320kb-1mb
  and 512kb-2mb); ProxylessNAS mobile: the same folder, proxyless_mobile.json.

Names: `resnet8`, `dscnn`, `autoencoder`, `mobilenet_v1 WIDTH SIDE CHANNELS OUTPUTS`,
`mobilenet_v2 WIDTH SIDE CHANNELS OUTPUTS`, `mobilenet_v2_scaled WIDTH SIDE` and `proxyless WIDTH
SIDE` (their last convolution is scaled too), `mcunet-in0`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence

from tuner.cost.lower import Graph, lower
from tuner.errors import SpecError
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    Node,
    Operator,
)

Block = tuple[int, int, int, int]
"""An inverted residual: kernel, stride, channels inside (0: no expansion), channels out."""

MOBILENET_V1 = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
                (1024, 2), (1024, 1)]  # fmt: skip
"""Channels at width 1 and stride of each of the 13 separable blocks."""

MOBILENET_V2 = [(1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1),
                (6, 160, 3, 2), (6, 320, 1, 1)]  # fmt: skip
"""Expansion, channels at width 1, repeats and first stride of each stage."""

PROXYLESS: list[list[tuple[int, int, int, int]]] = [
    [(3, 1, 1, 16)],
    [(5, 2, 3, 32), (3, 1, 3, 32)],
    [(7, 2, 3, 40), (3, 1, 3, 40), (5, 1, 3, 40), (5, 1, 3, 40)],
    [(7, 2, 6, 80), (5, 1, 3, 80), (5, 1, 3, 80), (5, 1, 3, 80)],
    [(5, 1, 6, 96), (5, 1, 3, 96), (5, 1, 3, 96), (5, 1, 3, 96)],
    [(7, 2, 6, 192), (7, 1, 6, 192), (7, 1, 3, 192), (7, 1, 3, 192)],
    [(7, 1, 6, 320)],
]
"""Kernel, stride, expansion and channels at width 1 of each block."""

MCUNET: dict[str, tuple[int, int, list[Block]]] = {
    "mcunet-in0": (48, 24, [
        (3, 1, 0, 16), (5, 2, 64, 16), (3, 1, 48, 16), (3, 1, 64, 16), (7, 2, 80, 24),
        (5, 1, 96, 24), (5, 1, 120, 24), (7, 2, 120, 48), (5, 1, 192, 48), (3, 1, 240, 56),
        (5, 1, 224, 56), (3, 1, 280, 56), (3, 2, 336, 112), (5, 1, 448, 112), (3, 1, 672, 192)]),
    "mcunet-in1": (96, 16, [
        (3, 1, 0, 8), (3, 2, 32, 16), (3, 1, 48, 16), (7, 2, 48, 24), (3, 1, 120, 24),
        (3, 2, 120, 40), (7, 1, 160, 40), (5, 1, 160, 48), (3, 1, 144, 48), (3, 1, 192, 48),
        (7, 2, 240, 96), (5, 1, 384, 96), (5, 1, 384, 96), (3, 1, 576, 160)]),
    "mcunet-in2": (160, 16, [
        (3, 1, 0, 8), (5, 2, 24, 16), (7, 1, 96, 16), (3, 1, 80, 16), (5, 1, 80, 16),
        (3, 2, 80, 24), (7, 1, 144, 24), (5, 1, 144, 24), (7, 2, 96, 40), (5, 1, 200, 40),
        (3, 1, 200, 48), (5, 1, 240, 48), (3, 1, 192, 48), (5, 2, 288, 96), (5, 1, 384, 96),
        (5, 1, 288, 96), (3, 1, 384, 96), (5, 1, 480, 160)]),
    "mcunet-in3": (176, 16, [
        (3, 1, 0, 8), (7, 2, 24, 16), (3, 1, 80, 16), (7, 1, 80, 16), (5, 1, 64, 16),
        (5, 2, 80, 24), (5, 1, 120, 24), (5, 1, 120, 24), (3, 2, 120, 40), (7, 1, 240, 40),
        (5, 1, 160, 40), (5, 1, 200, 48), (7, 1, 240, 48), (3, 1, 240, 48), (3, 2, 288, 96),
        (7, 1, 480, 96), (3, 1, 384, 96), (7, 1, 480, 160)]),
    "mcunet-in4": (160, 32, [
        (3, 1, 0, 16), (7, 2, 48, 24), (3, 1, 120, 24), (5, 1, 96, 24), (7, 2, 120, 40),
        (3, 1, 160, 40), (7, 1, 160, 40), (7, 2, 120, 80), (3, 1, 240, 80), (7, 1, 240, 80),
        (3, 1, 320, 96), (5, 1, 288, 96), (5, 1, 288, 96), (7, 2, 384, 192), (7, 1, 576, 192),
        (5, 1, 576, 192), (5, 1, 768, 320)]),
}  # fmt: skip
"""Resolution, channels of the first convolution, and blocks."""

INVERTED = ("mcunet-in0", "mcunet-in1", "mcunet-in2", "mcunet-in3", "mcunet-in4",
            "mobilenet_v2_scaled 0.35 144", "proxyless 0.3 176")  # fmt: skip
"""The nets whose mean mix stands for an inverted-residual net with unpublished layers."""


class _Builder:
    """Nodes one after the other, each named after what it is and its place."""

    def __init__(self, height: int, width: int, channels: int) -> None:
        image = Input(height=height, width=width, channels=channels)
        self.nodes = [Node(name="image", op=image)]
        self.last = "image"

    def add(self, operator: Operator, *inputs: str) -> str:
        name = f"{operator.kind}_{len(self.nodes)}"
        self.nodes.append(Node(name=name, op=operator, inputs=inputs or (self.last,)))
        self.last = name
        return name

    def end(self, outputs: int | None = None) -> Architecture:
        if outputs is not None:
            self.add(GlobalAveragePool2D())
            self.add(Dense(units=outputs))
        return Architecture(nodes=tuple(self.nodes), outputs=(self.last,))


@functools.cache
def net(name: str) -> Graph:
    """The int8 graph of a net, by the names that the module lists.

    Raises:
        SpecError: no such net.
    """
    return lower(architecture(name))


def architecture(name: str) -> Architecture:
    """The net as an Architecture; see `net`."""
    kind, *rest = name.split()
    if name == "resnet8":
        return _resnet8()
    if name == "dscnn":
        return _dscnn()
    if name == "autoencoder":
        return _autoencoder()
    if kind == "mobilenet_v1" and len(rest) == 4:
        side, channels, outputs = (int(word) for word in rest[1:])
        return _mobilenet_v1(float(rest[0]), side, channels, outputs)
    if kind == "mobilenet_v2" and len(rest) == 4:
        alpha = float(rest[0])
        side, channels, outputs = (int(word) for word in rest[1:])
        last = _round8(1280 * alpha) if alpha > 1 else 1280
        return _mobilenet_v2(alpha, side, channels, outputs, last)
    if kind == "mobilenet_v2_scaled" and len(rest) == 2:
        alpha = float(rest[0])
        return _mobilenet_v2(alpha, int(rest[1]), 3, 1000, _round8(1280 * alpha))
    if name in MCUNET:
        side, first, blocks = MCUNET[name]
        return _inverted(side, 3, first, blocks, 0, 1000)
    if kind == "proxyless" and len(rest) == 2:
        return _proxyless(float(rest[0]), int(rest[1]))
    raise SpecError(f"expected a net that tuner/cost/latency_nets.py lists. Received: '{name}'.")


def _resnet8() -> Architecture:
    build = _Builder(32, 32, 3)
    trunk = build.add(Conv2D(filters=16))
    for filters, stride in ((16, 1), (32, 2), (64, 2)):
        build.add(Conv2D(filters=filters, stride=stride), trunk)
        branch = build.add(Conv2D(filters=filters, activation="linear"))
        if stride > 1:
            shortcut = Conv2D(
                filters=filters, kernel=1, stride=stride, activation="linear", batch_norm=False
            )
            trunk = build.add(shortcut, trunk)
        trunk = build.add(Add(activation="relu"), trunk, branch)
    build.add(AveragePool2D(size=8))
    build.add(Flatten())
    build.add(Dense(units=10))
    return build.end()


def _dscnn() -> Architecture:
    build = _Builder(49, 10, 1)
    build.add(Conv2D(filters=64, kernel=10, kernel_width=4, stride=2))
    build.add(Dropout(rate=0.2))
    for _ in range(4):
        build.add(DepthwiseConv2D())
        build.add(Conv2D(filters=64, kernel=1))
    build.add(Dropout(rate=0.4))
    build.add(AveragePool2D(size=25, size_width=5))
    build.add(Flatten())
    build.add(Dense(units=12))
    return build.end()


def _autoencoder() -> Architecture:
    build = _Builder(1, 1, 640)
    build.add(Flatten())
    for units in (*[128] * 4, 8, *[128] * 4):
        build.add(Dense(units=units, activation="relu"))
    build.add(Dense(units=640))
    return build.end()


def _mobilenet_v1(alpha: float, side: int, channels: int, outputs: int) -> Architecture:
    build = _Builder(side, side, channels)
    build.add(Conv2D(filters=int(32 * alpha), stride=2))
    for filters, stride in MOBILENET_V1:
        build.add(DepthwiseConv2D(stride=stride))
        build.add(Conv2D(filters=int(filters * alpha), kernel=1))
    build.add(AveragePool2D(size=math.ceil(side / 32)))
    build.add(Flatten())
    build.add(Dense(units=outputs))
    return build.end()


def _mobilenet_v2(alpha: float, side: int, channels: int, outputs: int, last: int) -> Architecture:
    before, blocks = _round8(32 * alpha), []
    width = before
    for expansion, filters, repeats, stride in MOBILENET_V2:
        for index in range(repeats):
            inside = width * expansion if expansion > 1 else 0
            width = _round8(filters * alpha)
            blocks.append((3, stride if index == 0 else 1, inside, width))
    return _inverted(side, channels, before, blocks, last, outputs)


def _proxyless(alpha: float, side: int) -> Architecture:
    before, blocks = _round8(32 * alpha), []
    width = before
    for stage in PROXYLESS:
        for kernel, stride, expansion, filters in stage:
            inside = width * expansion if expansion > 1 else 0
            width = _round8(filters * alpha)
            blocks.append((kernel, stride, inside, width))
    return _inverted(side, 3, before, blocks, _round8(1280 * alpha), 1000)


def _inverted(
    side: int, channels: int, first: int, blocks: Sequence[Block], last: int, outputs: int
) -> Architecture:
    """Inverted residuals between a first convolution and, unless 0, a last pointwise one."""
    build = _Builder(side, side, channels)
    trunk, width = build.add(Conv2D(filters=first, stride=2)), first
    for kernel, stride, inside, filters in blocks:
        if inside:
            build.add(Conv2D(filters=inside, kernel=1))
        build.add(DepthwiseConv2D(kernel=kernel, stride=stride))
        end = build.add(Conv2D(filters=filters, kernel=1, activation="linear"))
        trunk = build.add(Add(), end, trunk) if stride == 1 and filters == width else end
        width = filters
    if last:
        build.add(Conv2D(filters=last, kernel=1))
    return build.end(outputs)


def _round8(channels: float) -> int:
    """The multiple of 8 that MobileNetV2 takes: nearest, at least 8, never below 90 %."""
    rounded = max(8, int(channels + 4) // 8 * 8)
    return rounded + 8 if rounded < 0.9 * channels else rounded
