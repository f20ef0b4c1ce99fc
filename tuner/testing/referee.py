"""What TensorFlow Lite Micro itself and the converted file say of a model: referee of the costs."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tuner import catalog
from tuner.cost.arena import HOST_64, plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.propose.choices import RandomChoices
from tuner.runtimes.recorder import recorded_arena
from tuner.spec import Architecture, Context, Limits
from tuner.testing.weights import randomize_weights

__all__ = ["Comparison", "compare", "recorded_arena", "space_architectures"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """Costs of one int8 model, as planned and as they came out.

    Args:
        head_bytes: of the arena, recorded by tflite-micro.
        tail_bytes: likewise.
        planned_head_bytes: planned for the same 64-bit machine.
        planned_tail_bytes: likewise.
        file_bytes: of the converted file.
        predicted_file_bytes: from the architecture.
        seconds: conversion and recording took.
    """

    head_bytes: int
    tail_bytes: int
    planned_head_bytes: int
    planned_tail_bytes: int
    file_bytes: int
    predicted_file_bytes: int
    seconds: float

    @property
    def total_error(self) -> float:
        """Planned arena against the recorded one, as a share of the latter."""
        recorded = self.head_bytes + self.tail_bytes
        return (self.planned_head_bytes + self.planned_tail_bytes - recorded) / recorded

    @property
    def file_residual_bytes(self) -> int:
        """Predicted minus real size; negative where the file is larger than predicted."""
        return self.predicted_file_bytes - self.file_bytes

    @property
    def file_is_within(self) -> bool:
        """Never above the prediction, and at most 0.5 % or 64 bytes below it."""
        return 0 <= self.file_residual_bytes <= max(0.005 * self.file_bytes, 64)


def compare(architecture: Architecture, seed: int) -> Comparison:
    """Build the net with weights as if trained, convert it to int8 and ask tflite-micro.

    Args:
        architecture: the net.
        seed: of the weights and the calibration images.

    Raises:
        ImportError: tflite-micro or TensorFlow is not installed.
    """
    from tuner.train.build import build_keras, start_anew
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    start_anew(seed)
    model = build_keras(architecture)
    randomize_weights(model, seed)
    shape = (2, *model.input_shape[1:])
    images = np.random.default_rng(seed).uniform(-1, 0.99, shape).astype(np.float32)
    started = time.perf_counter()
    content = convert_tflite(model, "int8", images, input_range=INPUT_RANGES["signed"])
    head, tail = recorded_arena(content)
    seconds = time.perf_counter() - started
    graph = lower(architecture)
    planned = plan_arena(graph, structs=HOST_64)
    return Comparison(
        head_bytes=head,
        tail_bytes=tail,
        planned_head_bytes=planned.head_bytes,
        planned_tail_bytes=planned.tail_bytes,
        file_bytes=len(content),
        predicted_file_bytes=round(model_file_bytes(graph).high),
        seconds=seconds,
    )


def space_architectures(space: str, count: int) -> Iterator[Architecture]:
    """Draw `count` random candidates of a search space, for devices of several sizes."""
    module = catalog.load_module("search_spaces", space)
    for seed in range(count):
        context = Context(
            limits=Limits(ram_bytes=(64 << 10) << seed % 3, flash_bytes=1 << 20),
            kernels="cmsis-nn",
            accelerated=False,
            image_height=48 if seed % 4 else 33,
            image_width=64 if seed % 5 else 96,
            colour="grey" if seed % 7 == 0 else "rgb",
            outputs=2 + seed % 9,
        )
        yield module.draw(RandomChoices(seed), context).architecture
