"""Generated C++ without an interpreter: the net as code, its weights as constants.

RAM is the planned tensors and the stack; there are no structs of an interpreter. Flash is the
weights, for each output channel a bias, a multiplier and a shift, and the code of the operators.

The figures come from a generator of int8 C++ that writes one function for each operator, with
every size a constant of its template, compiled with g++ 12.2 for three nets of 7 to 16 operators:

* the tensors took the very bytes of TFLM's head;
* constants took each weight's byte and 9 bytes a channel, within 34 bytes in all;
* an operator's code took 240 to 325 bytes with -Os and 380 to 540 with -O2 (x86-64; the same
  code for a Cortex-M4 was 9.2 KB in all with -O2 and 13.2 KB with -O3, for a net of 118,000 MACs);
* the stack held a convolution's window in int16, a depthwise convolution's sums in int32, and
  about 176 bytes beside them (Cortex-M4, -O2; 312 with -O3).

A target uses this runtime by `runtime = "generated"` in its file.
"""

from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tuner.cost.arena import plan_arena
from tuner.cost.flash import runtime_code_bytes
from tuner.cost.latency import estimate_latency, operator_latency_ms
from tuner.cost.lower import Graph, GraphOperator
from tuner.cost.scratch import preprocessing_bytes
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import Cost, Precision, Quantity, Target

__all__ = ["KERNELS", "OPERATORS", "RUN_WITH", "cost", "operator_latency_ms", "predict"]

KERNELS: frozenset[str] = frozenset({"reference", "cmsis-nn"})
RUN_WITH: tuple[str, str] = ("litert", "reference")
OPERATORS: frozenset[str] = frozenset(
    {
        "ADD", "AVERAGE_POOL_2D", "CONCATENATION", "CONV_2D", "DEPTHWISE_CONV_2D", "DEQUANTIZE",
        "FULLY_CONNECTED", "LOGISTIC", "MAX_POOL_2D", "MEAN", "PAD", "QUANTIZE", "RESHAPE",
        "RESIZE_NEAREST_NEIGHBOR", "SOFTMAX",
    }
)  # fmt: skip

STACK_BYTES = 320
"""Of the code itself, beside the buffers that `stack_bytes` adds."""

STACK_MARGIN_BYTES = 1024
"""What another compiler, or a kernel library below, may add. Assumed."""

CHANNEL_BYTES = {"int8": 9, "float32": 4}
"""int32 bias, int32 multiplier and int8 shift; or a float32 bias."""

OPERATOR_CODE_BYTES, OPERATOR_CODE_LOW_BYTES, OPERATOR_CODE_HIGH_BYTES = 450, 240, 1000
"""Code of one operator with plain kernels: -O2, -Os, -O3."""


def notice() -> str:
    """What a user is told once when a target of this runtime is searched for."""
    return (
        "There is no export of generated code yet: its costs are estimates from a prototype's "
        "figures."
    )


def cost(graph: Graph, target: Target) -> Cost:
    """Estimate what the model costs on `target`; no limits are read.

    Latency is that of TFLM's kernels: the interpreter between them takes little beside them.
    """
    arena = plan_arena(graph, kernels=target.kernels, cpu=target.cpu)
    ram = {
        "tensors": arena.head_bytes,
        "stack": stack_bytes(graph, target.kernels),
        "preprocessing": preprocessing_bytes(graph),
    }
    total = sum(ram.values())
    constants = constant_bytes(graph)
    code = _code(graph, target.kernels)
    return Cost(
        ram_bytes=Quantity(
            value=total,
            low=total - ram["stack"],
            high=total + STACK_MARGIN_BYTES,
            kind="estimated",
            basis=f"planned tensors with {target.kernels} kernels' scratch; stack of three nets "
            "generated as C++; low: no stack, high: 1 KB more",
        ),
        ram_parts=ram,
        ram_peak_at=arena.peak_at,
        flash_bytes=Quantity(
            value=constants + code.value,
            low=constants + code.low,
            high=constants + code.high,
            kind="estimated",
            basis=f"weights, biases and multipliers; {code.basis}",
        ),
        flash_parts={"constants": constants, "code": round(code.value)},
        macs=graph.macs,
        latency_ms=estimate_latency(graph, target),
    )


def stack_bytes(graph: Graph, kernels: str) -> int:
    """Bytes of the stack while the fullest operator runs.

    Args:
        graph: the net.
        kernels: `cmsis-nn` keeps its windows in scratch among the tensors, the plain kernels
            theirs on the stack.
    """
    if kernels == "cmsis-nn":
        return STACK_BYTES
    return STACK_BYTES + max(_stack_buffer(operator) for operator in graph.operators)


def constant_bytes(graph: Graph) -> int:
    """Bytes of weights, biases, multipliers and shifts, each array aligned to 4."""
    weight = 4 if graph.precision == "float32" else 1
    return sum(
        _up(weight * operator.weights) + _up(CHANNEL_BYTES[graph.precision] * operator.channels)
        for operator in graph.operators
    )


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT's reference kernels; see `Runtime.predict`.

    The prototype's code gives their bytes for 200 of 200 inputs on each of three nets.
    """
    return run_tflite(model, precision, images, "reference")


def _stack_buffer(operator: GraphOperator) -> int:
    if operator.kind == "CONV_2D":  # one window, int16
        return 2 * math.prod(operator.kernel) * operator.input_shape[-1]
    if operator.kind == "DEPTHWISE_CONV_2D":  # one int32 sum a channel
        return 4 * operator.channels
    return 0


def _code(graph: Graph, kernels: str) -> Quantity:
    """Code of the operators: a function each, or calls into a library that all of a kind share."""
    number = len(graph.operators)
    calls = Quantity(
        value=OPERATOR_CODE_BYTES * number,
        low=OPERATOR_CODE_LOW_BYTES * number,
        high=OPERATOR_CODE_HIGH_BYTES * number,
        kind="estimated",
        basis="450 bytes of code an operator, of three nets, compiled with g++ 12.2 "
        "(240 with -Os, up to 1,000 with -O3)",
    )
    if kernels == "reference":
        return calls
    library = runtime_code_bytes(graph, kernels)
    interpreter = runtime_code_bytes(replace(graph, operators=()), kernels)
    return Quantity(
        value=library.value - interpreter.value,
        low=library.low - interpreter.low,
        high=library.high - interpreter.high + calls.low,
        kind="estimated",
        basis=f"code of the {kernels} kernels of these kinds, sizes assumed",
    )


def _up(size: int) -> int:
    return -(-size // 4) * 4
