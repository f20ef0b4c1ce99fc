"""The arena of TensorFlow Lite Micro: what its allocator gives to a graph, byte for byte.

Head: the tensors and scratch buffers, laid out by TFLM's greedy planner
(`memory_planner/greedy_memory_planner.cc`, `micro_allocation_info.cc`). Tail: structs that live
as long as the interpreter (`micro_allocator.cc`, `micro_interpreter.cc`, `kernels/*.h`); their
sizes depend on the width of a pointer. The 64-bit sizes are those of the PyPI package
tflite-micro, whose recording allocator is the referee of the tests; the 32-bit sizes are the
same structs counted with pointers of 4 bytes, which no referee here can measure.
"""

from __future__ import annotations

import bisect
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.cost.lower import Graph
from tuner.cost.scratch import kernel_sums_bytes, scratch_buffers

ALIGNMENT_BYTES = 16
"""Of each buffer in the arena (`MicroArenaBufferAlignment`)."""

_PER_CHANNEL = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV"})

SCRATCH_REQUESTS_PER_OPERATOR = 12
"""Requests that the allocator keeps room for while it prepares an operator."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Structs:
    """Sizes in bytes of TFLM's structs on one kind of machine.

    Args:
        pointer: a pointer.
        fixed: allocator, planner and what else each interpreter has once.
        eval_tensor: `TfLiteEvalTensor`, one a tensor of the file, constants included.
        node: `NodeAndRegistration`, one an operator.
        parameters: the parsed options, by kind of operator.
        state: the kernel's own data, by kind of operator.
        tensor: `TfLiteTensor`, one an input and output.
        quantization: `TfLiteAffineQuantization`, one an input and output.
        allocation_info: one a tensor and scratch buffer while planning.
        planned_buffer: the planner's tables, one a buffer while planning.
        scratch_request: one a scratch buffer while planning.
    """

    pointer: int
    fixed: int
    eval_tensor: int
    node: int
    parameters: Mapping[str, int]
    state: Mapping[str, int]
    tensor: int
    quantization: int
    allocation_info: int
    planned_buffer: int = 40
    scratch_request: int


_PARAMETERS = {
    "CONV_2D": 28, "DEPTHWISE_CONV_2D": 28, "TRANSPOSE_CONV": 20, "FULLY_CONNECTED": 32,
    "MAX_POOL_2D": 40, "AVERAGE_POOL_2D": 40, "MEAN": 1, "SUM": 1, "REDUCE_MAX": 1, "ADD": 8,
    "SUB": 8, "MUL": 4, "RESHAPE": 36, "SQUEEZE": 36, "CONCATENATION": 12, "SOFTMAX": 4,
    "LEAKY_RELU": 4, "L2_NORMALIZATION": 4, "RESIZE_NEAREST_NEIGHBOR": 2, "RESIZE_BILINEAR": 2,
    "STRIDED_SLICE": 28, "SPLIT": 0, "SPACE_TO_DEPTH": 4, "DEPTH_TO_SPACE": 4, "PACK": 8,
    "GATHER": 8, "ARG_MAX": 4, "BATCH_MATMUL": 3, "PAD": 0, "PADV2": 0, "TRANSPOSE": 0,
    "LOGISTIC": 0, "TANH": 0, "RELU": 0, "RELU6": 0, "ELU": 0, "HARD_SWISH": 0, "QUANTIZE": 0,
    "DEQUANTIZE": 0, "ABS": 0, "NEG": 0, "EXP": 0, "RSQRT": 0, "MAXIMUM": 0, "MINIMUM": 0,
    "SQUARED_DIFFERENCE": 0, "EXPAND_DIMS": 0,
}  # fmt: skip

_STATE_64 = {
    "CONV_2D": 80, "DEPTHWISE_CONV_2D": 80, "TRANSPOSE_CONV": 88, "FULLY_CONNECTED": 72,
    "MAX_POOL_2D": 32, "AVERAGE_POOL_2D": 32, "MEAN": 44, "SUM": 44, "REDUCE_MAX": 44, "ADD": 60,
    "SUB": 52, "MUL": 36, "CONCATENATION": 80, "SOFTMAX": 80, "LOGISTIC": 16, "TANH": 16,
    "PAD": 56, "PADV2": 56, "HARD_SWISH": 20, "LEAKY_RELU": 24, "STRIDED_SLICE": 84, "RELU": 28,
    "ELU": 256, "QUANTIZE": 32, "DEQUANTIZE": 32, "ABS": 28, "RSQRT": 28,
    "SPACE_TO_DEPTH": 20, "DEPTH_TO_SPACE": 20, "L2_NORMALIZATION": 4, "GATHER": 20,
    "SQUARED_DIFFERENCE": 112, "BATCH_MATMUL": 76, "RELU6": 28,
    "RESHAPE": 0, "SQUEEZE": 0, "TRANSPOSE": 0, "RESIZE_NEAREST_NEIGHBOR": 0,
    "RESIZE_BILINEAR": 0, "SPLIT": 0, "MAXIMUM": 0, "MINIMUM": 0, "PACK": 0, "ARG_MAX": 0,
    "NEG": 0, "EXP": 0, "EXPAND_DIMS": 0,
}  # fmt: skip
"""Recorded by tflite-micro, but for RELU6, which is assumed like RELU."""

_OTHER_PARAMETERS = 40
_OTHER_STATE = 128
"""Assumed for a kind not in the tables: as much as the largest recorded, tables aside."""

_PARTLY_KNOWN: dict[str, frozenset[str]] = {
    "reference": frozenset({"RELU6", "BATCH_MATMUL"}),
    "cmsis-nn": frozenset({"RELU6", "BATCH_MATMUL", "TRANSPOSE_CONV"}),
    "esp-nn": frozenset({"RELU6", "BATCH_MATMUL"}),
}
"""Kinds of the tables that may need more than they say: RELU6 was not recorded, a matrix product
may keep transposed copies (`kernels/batch_matmul.cc`), and CMSIS-NN's transposed convolution asks
for scratch of its own (`arm_transpose_conv_get_buffer_sizes_s8.c`)."""

HOST_64 = Structs(
    pointer=8,
    fixed=488,
    eval_tensor=24,
    node=64,
    parameters=_PARAMETERS,
    state=_STATE_64,
    tensor=64,
    quantization=24,
    allocation_info=32,
    scratch_request=16,
)
"""The PyPI package tflite-micro (compression switched on) on x86-64."""

DEVICE_32 = Structs(
    pointer=4,
    fixed=244,  # half of the 64-bit figure, which holds the recorder too: on the safe side
    eval_tensor=12,
    node=32,
    parameters=_PARAMETERS,
    # Kernels whose state holds pointers or serves compression; the others' does not change.
    state=_STATE_64
    | {"CONV_2D": 56, "DEPTHWISE_CONV_2D": 56, "TRANSPOSE_CONV": 64, "FULLY_CONNECTED": 48},
    tensor=40,
    quantization=12,
    allocation_info=24,
    scratch_request=12,
)
"""A microcontroller with 32-bit pointers, built without compression."""

_KERNEL_STATE = {
    "cmsis-nn": {
        "CONV_2D": 4, "DEPTHWISE_CONV_2D": 4, "MAX_POOL_2D": 4, "AVERAGE_POOL_2D": 4,
        "FULLY_CONNECTED": 28,
    },
    "esp-nn": {"CONV_2D": 8, "DEPTHWISE_CONV_2D": 4, "SOFTMAX": 4},
}  # fmt: skip
"""What a kernel library's `OpData` adds to the reference's on a 32-bit device
(`kernels/cmsis_nn/*.cc`, `kernels/esp_nn/*.cc`): buffer indices; for dense layers also three
pointers and three sizes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Buffer:
    """One buffer of the head: size in bytes, and the first and last operator that need it."""

    size: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Arena:
    """What a graph takes of the arena.

    Args:
        head_bytes: tensors and scratch buffers.
        tail_bytes: persistent structs.
        planning_bytes: what preparing and planning take where the head will be; an arena must
            hold the larger of both. Decides for small deep nets only.
        peak_at: the node at which the head is fullest; empty where planning takes more.
        alive_bytes: tensors and scratch alive while each operator runs, in order.
    """

    head_bytes: int
    tail_bytes: int
    planning_bytes: int
    peak_at: str
    alive_bytes: tuple[int, ...]

    @property
    def total_bytes(self) -> int:
        """The smallest arena that the model runs in."""
        return max(self.head_bytes, self.planning_bytes) + self.tail_bytes


def plan_arena(
    graph: Graph, *, structs: Structs = DEVICE_32, kernels: str = "reference", cpu: str = ""
) -> Arena:
    """Lay the graph out as TFLM does.

    Args:
        graph: from `tuner.cost.lower` or from a file.
        structs: the kind of machine.
        kernels: the kernel library, which asks for scratch buffers.
        cpu: as targets name it; decides the kernels' buffers, see `scratch.rules_of`.
    """
    buffers = [
        Buffer(size=_up(tensor.bytes), first=tensor.first, last=tensor.last)
        for tensor in graph.tensors
    ]
    scratch = [
        (index, size)
        for index, operator in enumerate(graph.operators, start=1)
        for size in scratch_buffers(operator, kernels, cpu=cpu, precision=graph.precision)
    ]
    buffers += [Buffer(size=_up(size), first=index, last=index) for index, size in scratch]
    offsets = greedy_offsets(buffers)
    reach, alive = [0] * len(graph.operators), [0] * len(graph.operators)
    for buffer, offset in zip(buffers, offsets, strict=True):
        end = offset + buffer.size
        for index in range(max(buffer.first, 1) - 1, buffer.last):
            reach[index] = max(reach[index], end)
            alive[index] += buffer.size
    head = max(reach)
    tail, end_bytes = _tail_bytes(graph, len(scratch), structs, kernels, cpu)
    planning = _planning_bytes(graph, len(buffers), len(scratch), structs) - end_bytes
    fullest = max(range(len(reach)), key=lambda index: (reach[index], alive[index]))
    return Arena(
        head_bytes=head,
        tail_bytes=tail,
        planning_bytes=max(0, planning),
        peak_at=graph.operators[fullest].name if head >= planning else "",
        alive_bytes=tuple(alive),
    )


def assumed_kinds(graph: Graph, kernels: str = "reference") -> tuple[str, ...]:
    """Kinds of the graph whose structs or scratch `plan_arena` assumes, sorted.

    Args:
        graph: from `tuner.cost.lower`, which has none, or from a file.
        kernels: the kernel library.
    """
    partly = _PARTLY_KNOWN.get(kernels, _PARTLY_KNOWN["reference"])
    kinds = {operator.kind for operator in graph.operators}
    return tuple(sorted(kind for kind in kinds if kind not in _STATE_64 or kind in partly))


def greedy_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets in bytes as `GreedyMemoryPlanner` gives them.

    The largest buffer first, of equal ones the last added; each goes to the lowest offset with
    a gap between the buffers that live at the same time.
    """
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size, -index))
    offsets = [0] * len(buffers)
    placed: list[tuple[int, int, int, int, int]] = []  # offset, order, end, first, last
    for position, index in enumerate(order):
        buffer = buffers[index]
        size, first, last, offset = buffer.size, buffer.first, buffer.last, 0
        for start, _, end, other_first, other_last in placed:
            if other_first > last or first > other_last:
                continue
            if start - offset >= size:
                break
            if end > offset:
                offset = end
        offsets[index] = offset
        bisect.insort(placed, (offset, position, offset + size, first, last))
    return offsets


def _planning_bytes(graph: Graph, buffers: int, scratch_buffers: int, structs: Structs) -> int:
    """Bytes of temporary structs at their peak: the planner's tables, or one kernel's tensors.

    While a convolution prepares it holds input, output and weights twice and its bias once, each
    with its zero points.
    """
    requests = structs.scratch_request * (SCRATCH_REQUESTS_PER_OPERATOR + scratch_buffers)
    allocations = len(graph.tensors) + graph.constants + scratch_buffers
    tables = structs.allocation_info * allocations + structs.planned_buffer * buffers
    tensor = structs.tensor + structs.quantization + structs.pointer
    widest = max((operator.channels for operator in graph.operators), default=0)
    prepared = 7 * tensor + 4 * 4 + 3 * 4 * widest
    return requests + max(tables + ALIGNMENT_BYTES, prepared)


def _tail_bytes(
    graph: Graph, scratch_buffers: int, structs: Structs, kernels: str, cpu: str
) -> tuple[int, int]:
    """Replay the allocations from the arena's end, in TFLM's order and alignment.

    Returns:
        Bytes of all, and of those that follow the planning.
    """
    used = structs.fixed
    quantized = graph.precision == "int8"
    added = _KERNEL_STATE.get(kernels, {}) if structs.pointer == 4 else {}

    def allocate(size: int, alignment: int) -> None:
        nonlocal used
        if size:
            used = _up(used + size, alignment)

    allocate(structs.eval_tensor * (len(graph.tensors) + graph.constants), structs.pointer)
    allocate(structs.node * len(graph.operators), structs.pointer)
    for operator in graph.operators:
        # Of all options only a dense layer's hold a pointer.
        alignment = structs.pointer if operator.kind == "FULLY_CONNECTED" else 4
        allocate(structs.parameters.get(operator.kind, _OTHER_PARAMETERS), alignment)
    for operator in graph.operators:
        state = structs.state.get(operator.kind, _OTHER_STATE)
        allocate(state + added.get(operator.kind, 0), ALIGNMENT_BYTES)
    for operator in graph.operators:
        if operator.kind in _PER_CHANNEL or (
            operator.kind == "FULLY_CONNECTED" and quantized and operator.channels > 1
        ):  # multipliers and shifts of each channel; convolutions have them in float32 too
            allocate(4 * operator.channels, ALIGNMENT_BYTES)
            allocate(4 * operator.channels, ALIGNMENT_BYTES)
        allocate(kernel_sums_bytes(operator, kernels, cpu), ALIGNMENT_BYTES)
    allocate(structs.pointer * scratch_buffers, structs.pointer)
    planned = used
    for tensors in (len(graph.inputs), len(graph.outputs)):
        allocate(structs.pointer * tensors, ALIGNMENT_BYTES)
        for _ in range(tensors):
            allocate(structs.tensor, structs.pointer)
            if quantized:
                allocate(structs.quantization, structs.pointer)
                allocate(8, 4)  # the zero point as an int array
    return used, used - planned


def _up(size: int, alignment: int = ALIGNMENT_BYTES) -> int:
    return -(-size // alignment) * alignment
