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
    """A convolution over all channels, `kernel` rows x `kernel_width` columns (square if None)."""

    kind: ClassVar[str] = "conv2d"
    inputs: ClassVar[int] = 1
    filters: int
    kernel: int = 3
    kernel_width: int | None = None
    stride: int = 1
    activation: Activation = "relu"
    batch_norm: bool = True

    def __post_init__(self) -> None:
        _positive(filters=self.filters, kernel=self.kernel, stride=self.stride)
        if self.kernel_width is not None:
            _positive(kernel_width=self.kernel_width)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the kernel."""
        return self.kernel, self.kernel_width or self.kernel


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

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.size, self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class AveragePool2D:
    """The mean of each window of `size` rows x `size_width` columns, windows side by side."""

    kind: ClassVar[str] = "average_pool2d"
    inputs: ClassVar[int] = 1
    size: int = 2
    size_width: int | None = None

    def __post_init__(self) -> None:
        _positive(size=self.size)
        if self.size_width is not None:
            _positive(size_width=self.size_width)

    @property
    def window(self) -> tuple[int, int]:
        """Rows and columns of the window."""
        return self.size, self.size_width or self.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Add:
    """The sum of two inputs of one shape: the end of a residual block."""

    kind: ClassVar[str] = "add"
    inputs: ClassVar[int] = 2
    activation: Activation = "linear"


@dataclass(frozen=True, slots=True, kw_only=True)
class Flatten:
    """Height x width x channels as one row of features."""

    kind: ClassVar[str] = "flatten"
    inputs: ClassVar[int] = 1


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


Operator = (
    Input
    | Conv2D
    | DepthwiseConv2D
    | MaxPool2D
    | AveragePool2D
    | GlobalAveragePool2D
    | Add
    | Flatten
    | Dropout
    | Dense
)

OPERATORS: dict[str, type[Operator]] = {
    operator.kind: operator
    for operator in (
        Input,
        Conv2D,
        DepthwiseConv2D,
        MaxPool2D,
        AveragePool2D,
        GlobalAveragePool2D,
        Add,
        Flatten,
        Dropout,
        Dense,
    )
}
