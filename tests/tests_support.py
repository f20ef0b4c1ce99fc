"""Builders of small specs for tests."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

from tuner.spec import (
    Accuracy,
    Build,
    Cost,
    Quantity,
    RamRegion,
    Result,
    Target,
    TrainingSettings,
)
from tuner.spec.target import NEED_SOURCES
from tuner.testing.specs import small_candidate

TOTAL = 20


def quantity(value: float) -> Quantity:
    """A figure without a band."""
    return Quantity(value=value, low=value, high=value, kind="estimated", basis="test")


def make_result(
    index: int,
    *,
    correct: int,
    float_correct: int | None = None,
    latency_ms: float = 1.0,
    status: str = "ok",
) -> Result:
    """A result of a two-class task with TOTAL validation images."""

    def build(precision: str, count: int) -> Build:
        return Build(
            runtime="litert",
            kernels="builtin",
            precision=precision,
            recipe="",
            artifact=f"{precision}.tflite",
            size_bytes=100,
            accuracy={"validation": Accuracy(confusion=((count, TOTAL - count), (0, 0)))},
        )

    cost = Cost(
        ram_bytes=quantity(1000),
        ram_parts={},
        ram_peak_at="stem",
        flash_bytes=quantity(2000),
        flash_parts={},
        macs=1,
        latency_ms=quantity(latency_ms),
    )
    return Result(
        index=index,
        candidate=dataclasses.replace(
            small_candidate(), training=TrainingSettings(epochs=index + 1)
        ),
        origin="test",
        status=status,
        costs={"board": cost},
        builds={
            "int8": build("int8", correct),
            "float32": build("float32", correct if float_correct is None else float_correct),
        },
    )


def targets_of_sizes(sizes: Sequence[int]) -> list[Target]:
    """Made-up microcontrollers with so many bytes of RAM, and flash in plenty."""
    return [
        Target(
            name=f"board{index}",
            title="made up",
            cpu="Cortex-M4F",
            clock_mhz=100,
            ram_regions=(RamRegion(name="RAM", size_bytes=size),),
            ram_reserved_bytes=0,
            flash_bytes=1 << 30,
            flash_reserved_bytes=0,
            runtime="tflm",
            kernels="cmsis-nn",
            sources=dict.fromkeys(NEED_SOURCES, "assumed: made up"),
        )
        for index, size in enumerate(sizes)
    ]
