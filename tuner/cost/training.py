"""The work of training on one image, in seconds."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.cost.lower import lower
from tuner.spec import Architecture, Throughput

SECONDS_PER_MAC = 42.7e-12
SECONDS_PER_DEPTHWISE_MAC = 545e-12
SECONDS_PER_ELEMENT = 6.6e-9
SECONDS_PER_INPUT_ELEMENT = 11.8e-9
SECONDS_PER_IMAGE = 16e-6
SECONDS_PER_OPERATOR_STEP = 128e-6
SECONDS_PER_PARAMETER_STEP = 3.4e-9
"""Reference rates of training on one thread of an x86-64 with AVX-512, two slots at work,
TensorFlow 2.21: least squares on 60 nets of the space mixed_stages at 8x8 to 96x96 pixels. Mean
error 12 %; 57 of the 60 within a factor of 1.3. `Throughput` scales them to this machine."""


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
    operators = lower(architecture).operators
    image = architecture.input
    depthwise = sum(item.macs for item in operators if item.kind == "DEPTHWISE_CONV_2D")
    parameters = sum(item.weights + 3 * item.channels for item in operators)
    return TrainingLoad(
        compute=SECONDS_PER_MAC * (sum(item.macs for item in operators) - depthwise),
        memory=SECONDS_PER_DEPTHWISE_MAC * depthwise
        + SECONDS_PER_ELEMENT * sum(item.output_elements for item in operators)
        + SECONDS_PER_INPUT_ELEMENT * image.height * image.width * image.channels,
        overhead=SECONDS_PER_IMAGE
        + SECONDS_PER_OPERATOR_STEP * len(operators) / batch_size
        + SECONDS_PER_PARAMETER_STEP * parameters / batch_size,
    )


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
