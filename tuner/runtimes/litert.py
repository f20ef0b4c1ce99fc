"""LiteRT (TensorFlow Lite) on Linux boards, with XNNPACK.

RAM is resident memory of the process, which no plan gives exactly. Measured with ai-edge-litert
2.3.0 on x86-64, seven nets of 2 KB to 6 MB: loading the library took 8.7 MB, the smallest model
3.4 MB (interpreter and delegate), each byte of the file about one more (XNNPACK packs weights
again), each byte of the tensors about two. A whole Python process with NumPy held 55 MB.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tuner.cost.arena import plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.latency import estimate_latency, operator_latency_ms
from tuner.cost.lower import Graph
from tuner.runtimes.interpreter import run_tflite, tools
from tuner.runtimes.operator_sets import LITERT_OPERATORS
from tuner.spec import Cost, Precision, Quantity, Target

__all__ = [
    "INT16_ACTIVATIONS", "KERNELS", "OPERATORS", "RUN_WITH", "cost", "operator_latency_ms",
    "predict", "tools",
]  # fmt: skip

KERNELS: frozenset[str] = frozenset({"xnnpack"})
OPERATORS: frozenset[str] = LITERT_OPERATORS
RUN_WITH: tuple[str, str] = ("litert", "xnnpack")
INT16_ACTIVATIONS = True

LIBRARY_BYTES = 8_900 * 1024
INTERPRETER_BYTES = 3_500 * 1024
PYTHON_BYTES = 45 * 1024 * 1024
"""What running from Python adds: the interpreter and NumPy."""


def cost(graph: Graph, target: Target) -> Cost:
    """Estimate what the model costs on `target`; no limits are read.

    The band of the RAM goes from a C++ program that links only what it needs to a Python process.
    """
    arena = plan_arena(graph)
    file = model_file_bytes(graph)
    tensors = 2 * arena.head_bytes
    parts = {
        "arena_head": tensors,
        "weights": round(file.value),
        "interpreter": INTERPRETER_BYTES,
        "library": LIBRARY_BYTES,
    }
    value = sum(parts.values())
    return Cost(
        ram_bytes=Quantity(
            value=value,
            low=round(0.3 * value),
            high=round(1.3 * value) + PYTHON_BYTES,
            kind="estimated",
            basis="resident memory of seven nets on x86-64; low: a C++ program, high: Python",
        ),
        ram_parts=parts,
        ram_peak_at="",  # no single node decides the memory of a process
        flash_bytes=file,
        flash_parts={"model": round(file.value)},
        macs=graph.macs,
        latency_ms=estimate_latency(graph, target),
    )


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with XNNPACK; see `Runtime.predict`."""
    return run_tflite(model, precision, images, "xnnpack")
