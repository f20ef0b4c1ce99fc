"""Measure how fast one slot of this machine trains."""

from __future__ import annotations

import time

import numpy as np

from tuner.cost.training import TrainingLoad, training_load
from tuner.spec import (
    Architecture,
    Augmentation,
    Candidate,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
    Operator,
    Preprocessing,
    Throughput,
    TrainingSettings,
)
from tuner.train.build import build_keras
from tuner.train.loop import Epoch, LabelledImages, train

OUTPUTS = 10
PROBE_EPOCHS = 4
TOWARDS_COMMON = 0.05
"""Weight of the common ratio: three probes cannot tell three rates apart without doubt."""


def measure_throughput() -> Throughput:
    """Train three small nets for a moment and solve for the three ratios.

    Returns:
        Least squares on relative errors, drawn a little towards one common ratio and kept within
        a factor of 4 of it.
    """
    loads, seconds = [], []
    for side, images, batch_size, operators in _probes():
        candidate = _candidate(side, batch_size, operators)
        loads.append(training_load(candidate.architecture, batch_size))
        seconds.append(_seconds_per_image(candidate, images))
    return solve(loads, seconds)


def solve(loads: list[TrainingLoad], seconds: list[float]) -> Throughput:
    """The ratios that explain the seconds of the probes best; see `measure_throughput`."""
    terms = np.array([[load.compute, load.memory, load.overhead] for load in loads])
    measured = np.array(seconds)
    common = float(np.exp(np.mean(np.log(measured / terms.sum(axis=1)))))
    rows = np.concatenate([terms / measured[:, None], TOWARDS_COMMON / common * np.eye(3)])
    wanted = np.concatenate([np.ones(len(seconds)), np.full(3, TOWARDS_COMMON)])
    ratios = np.clip(np.linalg.lstsq(rows, wanted)[0], common / 4, common * 4)
    compute, memory, overhead = (float(ratio) for ratio in ratios)
    return Throughput(compute_ratio=compute, memory_ratio=memory, overhead_ratio=overhead)


def _probes() -> list[tuple[int, int, int, list[Operator]]]:
    """Side, images, batch and operators: one bound by arithmetic, by memory, by neither."""
    arithmetic: list[Operator] = [Conv2D(filters=32, stride=2), *[Conv2D(filters=64)] * 2]
    traffic: list[Operator] = [Conv2D(filters=16), DepthwiseConv2D(), Conv2D(filters=16, kernel=1)]
    narrow: list[Operator] = [Conv2D(filters=4, stride=2), *[Conv2D(filters=8, stride=2)] * 3]
    return [(32, 256, 64, arithmetic), (64, 128, 64, traffic), (16, 1024, 32, narrow)]


def _candidate(side: int, batch_size: int, operators: list[Operator]) -> Candidate:
    nodes = [Node(name="image", op=Input(height=side, width=side, channels=3))]
    for index, operator in enumerate([*operators, GlobalAveragePool2D(), Dense(units=OUTPUTS)]):
        nodes.append(Node(name=f"n{index}", op=operator, inputs=(nodes[-1].name,)))
    return Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour="rgb"),
        architecture=Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,)),
        training=TrainingSettings(
            batch_size=batch_size, augmentation=Augmentation(shift_fraction=0.1)
        ),
    )


def _seconds_per_image(candidate: Candidate, count: int) -> float:
    import keras

    image = candidate.architecture.input
    generator = np.random.default_rng(0)
    shape = (count, image.height, image.width, image.channels)
    data = LabelledImages(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, OUTPUTS, count),
    )
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    ends: list[float] = []

    def note(epoch: Epoch) -> None:
        ends.append(time.perf_counter())

    train(
        build_keras(candidate.architecture),
        candidate,
        data,
        few,
        epochs=PROBE_EPOCHS,
        seed=0,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        on_epoch=note,
    )
    # The first epoch also traces the graph; the median forgives a disturbance.
    return float(np.median(np.diff(ends))) / count
