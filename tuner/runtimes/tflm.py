"""TensorFlow Lite Micro: an interpreter for microcontrollers.

RAM is the arena of a 32-bit device: TFLM's own plan for the tensors and the kernels' scratch, and
the interpreter's structs. An image can be written into the int8 input in place (pixel minus 128
flips the top bit), so preprocessing needs no buffer of its own. Flash is the model file, the
interpreter and the kernels that the net uses.

Accuracies come from LiteRT's built-in kernels without a delegate, whose arithmetic is nearest to
TFLM's reference kernels of what runs everywhere; `RUN_WITH` says so.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.cost.arena import plan_arena
from tuner.cost.flash import add, model_file_bytes, runtime_code_bytes
from tuner.cost.latency import estimate_latency
from tuner.cost.lower import lower
from tuner.cost.scratch import TFLM_KERNELS
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import Architecture, Cost, Precision, Quantity, Target

KERNELS: frozenset[str] = TFLM_KERNELS
RUN_WITH: tuple[str, str] = ("litert", "builtin")

_TAIL_MARGIN_BYTES = 128
_TAIL_MARGIN_OPERATOR_BYTES = 16


def cost(architecture: Architecture, target: Target) -> Cost:
    """Estimate what the int8 model costs on `target`; no limits are read.

    The band of the RAM covers what another version of TFLM, or the kernel library's own data of
    an operator, adds to the structs; downwards also kernels that ask for no scratch.
    """
    graph = lower(architecture)
    arena = plan_arena(graph, kernels=_scratch_kernels(target))
    without_scratch = plan_arena(graph, kernels="reference")
    margin = _TAIL_MARGIN_BYTES + _TAIL_MARGIN_OPERATOR_BYTES * len(graph.operators)
    total = arena.total_bytes
    model, code = model_file_bytes(graph), runtime_code_bytes(graph, target.kernels)
    return Cost(
        ram_bytes=Quantity(
            value=total,
            low=max(0, min(total, without_scratch.total_bytes) - margin),
            high=total + margin,
            kind="estimated",
            basis=(
                f"TFLM's memory plan with {target.kernels} kernels; structs counted for 32-bit "
                "pointers"
            ),
        ),
        ram_parts={
            "arena_head": without_scratch.head_bytes,
            "arena_tail": arena.tail_bytes,
            "scratch": total - arena.tail_bytes - without_scratch.head_bytes,
        },
        ram_peak_at=arena.peak_at,
        flash_bytes=add([model, code]),
        flash_parts={"model": round(model.value), "runtime": round(code.value)},
        macs=sum(operator.macs for operator in graph.operators),
        latency_ms=estimate_latency(architecture, target),
    )


def _scratch_kernels(target: Target) -> str:
    """The library whose scratch counts: of the ESP32s, only the S3's vector kernels ask for any."""
    if target.kernels == "esp-nn" and "LX7" not in target.cpu:
        return "reference"
    return target.kernels


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT's built-in kernels; see `Runtime.predict`."""
    return run_tflite(model, precision, images, "builtin")
