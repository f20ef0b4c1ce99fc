"""Measure how fast one slot of this machine trains."""

from __future__ import annotations

import time
from typing import Any

import numpy as np

from tuner.cost.training import training_load
from tuner.spec import (
    Architecture,
    Augmentation,
    Candidate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Operator,
    Preprocessing,
    Throughput,
    TrainingSettings,
)
from tuner.train.build import build_keras
from tuner.train.loop import Epoch, LabelledImages, train

PROBE_IMAGES = 512
PROBE_EPOCHS = 3
OUTPUTS = 10


def measure_throughput() -> Throughput:
    """Train small nets of different mixtures for a moment and solve for the four rates.

    Returns:
        Rates by non-negative least squares on relative errors; see Throughput for the model.
    """
    from scipy.optimize import nnls

    rows, seconds = [], []
    for side, operators in _probes():
        architecture = _architecture(side, operators)
        macs, depthwise_macs, elements = training_load(architecture)
        rows.append([1.0, macs / 1e9, depthwise_macs / 1e9, elements / 1e9])
        seconds.append(_seconds_per_image(architecture))
    weights = 1.0 / np.array(seconds)
    rates, _ = nnls(np.array(rows) * weights[:, None], np.ones(len(seconds)))
    # A rate that the probes cannot tell apart from nothing still costs a little.
    image, mac, depthwise, element = np.maximum(rates, [1e-6, 1e-3, 1e-3, 1e-3])
    return Throughput(
        image_seconds=float(image),
        macs_per_second=float(1e9 / mac),
        depthwise_macs_per_second=float(1e9 / depthwise),
        element_seconds=float(element / 1e9),
    )


def _probes() -> list[tuple[int, list[Operator]]]:
    plain: list[Operator] = [Conv2D(filters=16), MaxPool2D(), Conv2D(filters=32), MaxPool2D()]
    wide: list[Operator] = [Conv2D(filters=16, stride=2), Conv2D(filters=64), Conv2D(filters=64)]
    narrow: list[Operator] = [Conv2D(filters=4, stride=2), Conv2D(filters=8, stride=2)]
    separable: list[Operator] = [Conv2D(filters=16, stride=2)]
    for _ in range(3):
        separable += [DepthwiseConv2D(), Conv2D(filters=16, kernel=1)]
    return [(32, plain), (32, wide), (32, narrow), (32, separable), (64, separable[:3])]


def _architecture(side: int, operators: list[Operator]) -> Architecture:
    nodes = [Node(name="image", op=Input(height=side, width=side, channels=3))]
    for index, operator in enumerate(
        [*operators, GlobalAveragePool2D(), Dense(units=OUTPUTS)], start=1
    ):
        nodes.append(Node(name=f"n{index}", op=operator, inputs=(nodes[-1].name,)))
    return Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,))


def _seconds_per_image(architecture: Architecture) -> float:
    import keras

    image = architecture.input
    generator = np.random.default_rng(0)
    shape = (PROBE_IMAGES, image.height, image.width, image.channels)
    data = LabelledImages(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, OUTPUTS, PROBE_IMAGES),
    )
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    candidate = Candidate(
        preprocessing=Preprocessing(height=image.height, width=image.width, colour="rgb"),
        architecture=architecture,
        training=TrainingSettings(augmentation=Augmentation(shift_fraction=0.1)),
    )
    ends: list[float] = []

    def note(epoch: Epoch) -> Any:
        ends.append(time.perf_counter())

    train(
        build_keras(architecture),
        candidate,
        data,
        few,
        epochs=PROBE_EPOCHS,
        seed=0,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        on_epoch=note,
    )
    # The first epoch also traces the graph.
    return float(min(np.diff(ends))) / PROBE_IMAGES
