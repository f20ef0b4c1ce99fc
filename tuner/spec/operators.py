"""The operators an Architecture is made of, as data.

A convolution stands for convolution, batch normalization and activation together, because
that is what one operator of the int8 graph computes. Padding is always `same`.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal

from tuner.errors import SpecError

Activation = Literal["linear", "relu", "relu6"]


def _positive(**values: int) -> None:
    for name, value in values.items():
        if value < 1:
            raise SpecError(f"expected {name} of 1 or more. Received: {name}={value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Input:
    """The image: height x width x channels."""

    kind: ClassVar[str] = "input"
    inputs: ClassVar[int] = 0
    height: int
    width: int
    channels: int

    def __post_init__(self) -> None:
        _positive(height=self.height, width=self.width, channels=self.channels)


@dataclass(frozen=True, slots=True, kw_only=True)
class Conv2D:
    """A convolution over all channels, `kernel` x `kernel`."""

    kind: ClassVar[str] = "conv2d"
    inputs: ClassVar[int] = 1
    filters: int
    kernel: int = 3
    stride: int = 1
    activation: Activation = "relu"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        _positive(filters=self.filters, kernel=self.kernel, stride=self.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class DepthwiseConv2D:
    """A convolution of each channel by itself, `kernel` x `kernel`."""

    kind: ClassVar[str] = "depthwise_conv2d"
    inputs: ClassVar[int] = 1
    kernel: int = 3
    stride: int = 1
    activation: Activation = "relu"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        _positive(kernel=self.kernel, stride=self.stride)


@dataclass(frozen=True, slots=True, kw_only=True)
class MaxPool2D:
    """The maximum of each `size` x `size` window, windows side by side."""

    kind: ClassVar[str] = "max_pool2d"
    inputs: ClassVar[int] = 1
    size: int = 2

    def __post_init__(self) -> None:
        _positive(size=self.size)


@dataclass(frozen=True, slots=True, kw_only=True)
class GlobalAveragePool2D:
    """The mean of each channel over all positions."""

    kind: ClassVar[str] = "global_average_pool2d"
    inputs: ClassVar[int] = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Dropout:
    """Zeroes a share `rate` of its inputs while training; nothing on the device."""

    kind: ClassVar[str] = "dropout"
    inputs: ClassVar[int] = 1
    rate: float

    def __post_init__(self) -> None:
        if not 0.0 <= self.rate < 1.0:
            raise SpecError(f"expected rate from 0 to below 1. Received: rate={self.rate}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class Dense:
    """A fully connected layer over a flat input."""

    kind: ClassVar[str] = "dense"
    inputs: ClassVar[int] = 1
    units: int
    activation: Activation = "linear"

    def __post_init__(self) -> None:
        _positive(units=self.units)


Operator = Input | Conv2D | DepthwiseConv2D | MaxPool2D | GlobalAveragePool2D | Dropout | Dense

OPERATORS: dict[str, type[Operator]] = {
    operator.kind: operator
    for operator in (
        Input,
        Conv2D,
        DepthwiseConv2D,
        MaxPool2D,
        GlobalAveragePool2D,
        Dropout,
        Dense,
    )
}
