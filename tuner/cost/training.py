"""The work of one image, for inference (MACs) and for training (seconds)."""

from __future__ import annotations

from tuner.cost.lower import lower
from tuner.spec import Architecture, Throughput


def macs(architecture: Architecture) -> int:
    """Multiply-accumulates of one inference; pools and means have none."""
    return sum(operator.macs for operator in lower(architecture).operators)


def macs_by_operator(architecture: Architecture) -> dict[str, int]:
    """Multiply-accumulates of one inference by node, in the order of execution."""
    return {operator.name: operator.macs for operator in lower(architecture).operators}


def training_load(architecture: Architecture) -> tuple[int, int, int]:
    """The terms of `Throughput` for one image.

    Returns:
        MACs without the depthwise ones, depthwise MACs, and elements written, all of one
        forward pass.
    """
    operators = lower(architecture).operators
    depthwise = sum(item.macs for item in operators if item.kind == "DEPTHWISE_CONV_2D")
    return (
        sum(item.macs for item in operators) - depthwise,
        depthwise,
        sum(item.output_elements for item in operators),
    )


def train_seconds_per_image(architecture: Architecture, throughput: Throughput) -> float:
    """Seconds that one slot needs for one training image; the formula is `Throughput`'s."""
    other, depthwise, elements = training_load(architecture)
    return (
        throughput.image_seconds
        + other / throughput.macs_per_second
        + depthwise / throughput.depthwise_macs_per_second
        + elements * throughput.element_seconds
    )
