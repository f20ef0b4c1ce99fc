"""The work of training on one image, in seconds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.cost.lower import lower
from tuner.spec import Architecture, Throughput

RATES: Mapping[str, float] = {
    "mac": 54.4e-12,
    "depthwise_mac": 308e-12,
    "element": 2.91e-9,
    "uneven_element": 3.12e-9,
    "input_element": 9.4e-9,
    "image": 11.5e-6,
    "operator_step": 48.7e-6,
    "parameter_step": 1.8e-9,
}
"""Reference seconds of each of `training_terms`: one thread of an x86-64 with AVX-512, the other
core at work, TensorFlow 2.21, fitted by tests/benchmarks/training_rates.py to 48 nets of the space
mixed_stages at 8x8 to 96x96 pixels, augmentation as drawn. Each net left out in turn: mean error
15 %, 41 of the 48 within a factor of 1.3, worst 0.52 and 1.54. `Throughput` scales them to this
machine."""

ROUNDING_RATES: Mapping[str, float] = {
    "element": 6.09e-10,
    "operator_step": 13.4e-6,
    "parameter_step": 11.4e-9,
}
"""Reference seconds by which quantization-aware training takes longer, of some `training_terms`:
fitted as `RATES` are, with `--rounding`, to 40 nets, which took 1.01 to 1.32 times as long as in
float32, and one of many parameters and few pixels 1.69. Each net left out in turn: mean error of
that ratio 6 %, worst 0.70 (the latter) and 1.20."""

REFERENCE = Throughput(compute_ratio=1.0, memory_ratio=1.0, overhead_ratio=1.0)
"""Of a machine as quick as that of `RATES`."""

QUANTIZATION_SHARE = 0.3
"""Of the epochs of a retraining, the last ones, in which the net rounds as its int8 file will, if
nothing else is said."""


@dataclass(frozen=True, slots=True)
class TrainingLoad:
    """Seconds of one training image at the reference rates.

    Args:
        compute: multiply-accumulates of plain and pointwise convolutions and dense layers.
        memory: depthwise convolutions, and elements read and written.
        overhead: what an image, an operator and a parameter cost each step beside arithmetic.
    """

    compute: float
    memory: float
    overhead: float


def training_load(architecture: Architecture, batch_size: int) -> TrainingLoad:
    """What training on one image costs at the reference rates."""
    seconds = {
        name: RATES[name] * count
        for name, count in training_terms(architecture, batch_size).items()
    }
    return TrainingLoad(
        compute=seconds["mac"],
        memory=sum(
            seconds[name]
            for name in ("depthwise_mac", "element", "uneven_element", "input_element")
        ),
        overhead=sum(seconds[name] for name in ("image", "operator_step", "parameter_step")),
    )


def training_terms(architecture: Architecture, batch_size: int) -> dict[str, float]:
    """What training on one image is made of.

    Returns:
        Multiply-accumulates of the forward pass, plain and depthwise; elements that operators
        write, those of them whose channels are not full vectors (batch normalization is slower
        there), and elements of the image; 1 for the image itself; and the image's share of a
        step's operators and parameters.
    """
    operators = lower(architecture).operators
    image = architecture.input
    depthwise = sum(item.macs for item in operators if item.kind == "DEPTHWISE_CONV_2D")
    normalized = [item for item in operators if item.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")]
    uneven = [item for item in normalized if item.channels != 8 and item.channels % 16]
    parameters = sum(item.weights + 3 * item.channels for item in operators)
    return {
        "mac": sum(item.macs for item in operators) - depthwise,
        "depthwise_mac": depthwise,
        "element": sum(item.output_elements for item in operators),
        "uneven_element": sum(item.output_elements for item in uneven),
        "input_element": image.height * image.width * image.channels,
        "image": 1,
        "operator_step": len(operators) / batch_size,
        "parameter_step": parameters / batch_size,
    }


def rounding_share(architecture: Architecture, batch_size: int) -> float:
    """By which share quantization-aware training on an image takes longer than plain training."""
    terms = training_terms(architecture, batch_size)
    more = sum(rate * terms[name] for name, rate in ROUNDING_RATES.items())
    load = training_load(architecture, batch_size)
    return more / (load.compute + load.memory + load.overhead)


def train_seconds_per_image(
    architecture: Architecture, batch_size: int, throughput: Throughput
) -> float:
    """Seconds that one slot of this machine needs for one training image."""
    load = training_load(architecture, batch_size)
    return (
        throughput.compute_ratio * load.compute
        + throughput.memory_ratio * load.memory
        + throughput.overhead_ratio * load.overhead
    )
