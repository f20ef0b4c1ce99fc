"""TensorFlow Lite Micro: an interpreter for microcontrollers.

RAM is the arena of a 32-bit device: TFLM's own plan for the tensors and the kernels' scratch, and
the interpreter's structs; and a row of sums that resizes a camera's image on its way into the
input tensor. Flash is the model file, the interpreter and the kernels that the net uses.

Accuracies come from LiteRT's built-in kernels without a delegate, whose arithmetic is nearest to
TFLM's reference kernels of what runs everywhere; `RUN_WITH` says so.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tuner.cost.arena import assumed_kinds, plan_arena
from tuner.cost.flash import add, model_file_bytes, runtime_code_bytes
from tuner.cost.latency import estimate_latency, operator_latency_ms
from tuner.cost.lower import Graph
from tuner.cost.scratch import TFLM_KERNELS, preprocessing_bytes
from tuner.runtimes.interpreter import run_tflite
from tuner.runtimes.operator_sets import TFLM_OPERATORS
from tuner.runtimes.recorder import measure_arena, tools
from tuner.spec import Cost, Precision, Quantity, Target

__all__ = [
    "INT16_ACTIVATIONS", "KERNELS", "OPERATORS", "RUN_WITH", "cost", "measure",
    "operator_latency_ms", "predict", "tools",
]  # fmt: skip

KERNELS: frozenset[str] = TFLM_KERNELS
OPERATORS: frozenset[str] = TFLM_OPERATORS
RUN_WITH: tuple[str, str] = ("litert", "builtin")
INT16_ACTIVATIONS = True

_TAIL_MARGIN_BYTES = 128
_TAIL_MARGIN_OPERATOR_BYTES = 16


def cost(graph: Graph, target: Target) -> Cost:
    """Estimate what the model costs on `target`; no limits are read.

    The band of the RAM covers what another version of TFLM, or the kernel library's own data of
    an operator, adds to the structs; downwards also kernels that ask for no scratch, and images
    that need no resizing.
    """
    arena = plan_arena(graph, kernels=target.kernels, cpu=target.cpu)
    plain = arena if target.kernels == "reference" else plan_arena(graph, kernels="reference")
    margin = _TAIL_MARGIN_BYTES + _TAIL_MARGIN_OPERATOR_BYTES * len(graph.operators)
    preprocessing = preprocessing_bytes(graph)
    total = arena.total_bytes + preprocessing
    model, code = model_file_bytes(graph), runtime_code_bytes(graph, target.kernels)
    return Cost(
        ram_bytes=Quantity(
            value=total,
            low=max(0, min(arena.total_bytes, plain.total_bytes) - margin),
            high=total + margin,
            kind="estimated",
            basis=_ram_basis(graph, target),
        ),
        ram_parts={
            "arena_head": plain.head_bytes,
            "arena_tail": arena.tail_bytes,
            "scratch": arena.head_bytes - plain.head_bytes,
            "planning": arena.total_bytes - arena.tail_bytes - arena.head_bytes,
            "preprocessing": preprocessing,
        },
        ram_peak_at=arena.peak_at,
        flash_bytes=add([model, code]),
        flash_parts={"model": round(model.value), "runtime": round(code.value)},
        macs=graph.macs,
        latency_ms=estimate_latency(graph, target),
    )


_KERNELS = {
    "cmsis-nn": "CMSIS-NN 2.3 compiled by GCC",
    "esp-nn": "ESP-NN of 2026",
    "reference": "TFLM's own",
}
"""What the rules for scratch buffers were read from; other versions may ask for more."""


def _ram_basis(graph: Graph, target: Target) -> str:
    kinds = assumed_kinds(graph, target.kernels)
    kernels = _KERNELS.get(target.kernels, target.kernels)
    return f"TFLM's memory plan with {kernels} kernels; structs counted for 32-bit pointers" + (
        f"; structs or scratch of {', '.join(kinds)} assumed" if kinds else ""
    )


MEASURES_BY: tuple[str, ...] = ()


def measure(models: Mapping[Precision, bytes], target: Target) -> dict[str, Quantity]:
    """Ask tflite-micro's recording allocator; see `Measures.measure`.

    Args:
        models: the int8 file is measured, the float32 one where there is no other.
        target: not read: the package runs on this machine, with reference kernels.

    Returns:
        `arena_head_bytes` and `arena_tail_bytes`.
    """
    head, tail = measure_arena(models["int8"] if "int8" in models else models["float32"])
    basis = "tflite-micro's recording allocator, x86-64, reference kernels"
    return {
        name: Quantity(value=size, low=size, high=size, kind="measured", basis=basis)
        for name, size in (("arena_head_bytes", head), ("arena_tail_bytes", tail))
    }


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT's built-in kernels; see `Runtime.predict`."""
    return run_tflite(model, precision, images, "builtin")
