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
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from tuner.cost.lower import WEIGHTED, Graph
from tuner.cost.scratch import scratch_buffers

ALIGNMENT_BYTES = 16
"""Of each buffer in the arena (`MicroArenaBufferAlignment`)."""

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
    "CONV_2D": 28,
    "DEPTHWISE_CONV_2D": 28,
    "MAX_POOL_2D": 40,
    "MEAN": 1,
    "FULLY_CONNECTED": 32,
}

HOST_64 = Structs(
    pointer=8,
    fixed=488,
    eval_tensor=24,
    node=64,
    parameters=_PARAMETERS,
    state={
        "CONV_2D": 80,
        "DEPTHWISE_CONV_2D": 80,
        "MAX_POOL_2D": 32,
        "MEAN": 44,
        "FULLY_CONNECTED": 72,
    },
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
    state={
        "CONV_2D": 56,
        "DEPTHWISE_CONV_2D": 56,
        "MAX_POOL_2D": 32,
        "MEAN": 44,
        "FULLY_CONNECTED": 48,
    },
    tensor=40,
    quantization=12,
    allocation_info=24,
    scratch_request=12,
)
"""A microcontroller with 32-bit pointers, built without compression."""


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
        scratch_bytes: the largest scratch of one operator, already within the head.
    """

    head_bytes: int
    tail_bytes: int
    planning_bytes: int
    peak_at: str
    scratch_bytes: int

    @property
    def total_bytes(self) -> int:
        """The smallest arena that the model runs in."""
        return max(self.head_bytes, self.planning_bytes) + self.tail_bytes


def plan_arena(graph: Graph, *, structs: Structs = DEVICE_32, kernels: str = "reference") -> Arena:
    """Lay the graph out as TFLM does.

    Args:
        graph: from `tuner.cost.lower`.
        structs: the kind of machine.
        kernels: the kernel library, which asks for scratch buffers.
    """
    buffers = [
        Buffer(size=_up(tensor.bytes), first=tensor.first, last=tensor.last)
        for tensor in graph.tensors
    ]
    scratch = [
        (index, size)
        for index, operator in enumerate(graph.operators, start=1)
        for size in scratch_buffers(operator, kernels)
    ]
    buffers += [Buffer(size=_up(size), first=index, last=index) for index, size in scratch]
    offsets = greedy_offsets(buffers)
    head = max(offset + buffer.size for offset, buffer in zip(offsets, buffers, strict=True))
    tail, end_bytes = _tail_bytes(graph, len(scratch), structs)
    planning = _planning_bytes(graph, len(buffers), len(scratch), structs)
    return Arena(
        head_bytes=head,
        tail_bytes=tail,
        planning_bytes=max(0, planning - end_bytes),
        peak_at=_peak_at(graph, buffers, offsets) if head >= planning - end_bytes else "",
        scratch_bytes=max(_scratch_by_operator(scratch).values(), default=0),
    )


def greedy_offsets(buffers: Sequence[Buffer]) -> list[int]:
    """Offsets in bytes as `GreedyMemoryPlanner` gives them.

    The largest buffer first, of equal ones the last added; each goes to the lowest offset with
    a gap between the buffers that live at the same time.
    """
    order = sorted(range(len(buffers)), key=lambda index: (-buffers[index].size, -index))
    offsets = [0] * len(buffers)
    placed: list[tuple[int, Buffer]] = []
    for index in order:
        wanted, offset = buffers[index], 0
        for start, other in placed:
            if other.first > wanted.last or wanted.first > other.last:
                continue
            if start - offset >= wanted.size:
                break
            offset = max(offset, start + other.size)
        offsets[index] = offset
        bisect.insort_right(placed, (offset, wanted), key=lambda entry: entry[0])
    return offsets


def _scratch_by_operator(scratch: Sequence[tuple[int, int]]) -> Counter[int]:
    sums: Counter[int] = Counter()
    for index, size in scratch:
        sums[index] += size
    return sums


def _peak_at(graph: Graph, buffers: Sequence[Buffer], offsets: Sequence[int]) -> str:
    """The operator whose buffers reach highest; of several the one with most bytes alive."""
    fullest, name = (-1, -1), ""
    for index, operator in enumerate(graph.operators, start=1):
        alive = [
            (offset + buffer.size, buffer.size)
            for offset, buffer in zip(offsets, buffers, strict=True)
            if buffer.first <= index <= buffer.last
        ]
        reach = (max(end for end, _ in alive), sum(size for _, size in alive))
        if reach > fullest:
            fullest, name = reach, operator.name
    return name


def _planning_bytes(graph: Graph, buffers: int, scratch_buffers: int, structs: Structs) -> int:
    """Bytes of temporary structs at their peak: the planner's tables, or one kernel's tensors.

    While a convolution prepares it holds input, output and weights twice and its bias once, each
    with its zero points.
    """
    requests = structs.scratch_request * (SCRATCH_REQUESTS_PER_OPERATOR + scratch_buffers)
    allocations = len(graph.tensors) + graph.constants + scratch_buffers
    tables = structs.allocation_info * allocations + structs.planned_buffer * buffers
    tensor = structs.tensor + structs.quantization + structs.pointer
    widest = max(operator.channels for operator in graph.operators)
    prepared = 7 * tensor + 4 * 4 + 3 * 4 * widest
    return requests + max(tables + ALIGNMENT_BYTES, prepared)


def _tail_bytes(graph: Graph, scratch_buffers: int, structs: Structs) -> tuple[int, int]:
    """Replay the allocations from the arena's end, in TFLM's order and alignment.

    Returns:
        Bytes of all, and of those that follow the planning.
    """
    used = structs.fixed
    kinds = [operator.kind for operator in graph.operators]

    def allocate(size: int, alignment: int) -> None:
        nonlocal used
        used = _up(used + size, alignment)

    allocate(structs.eval_tensor * (len(graph.tensors) + graph.constants), structs.pointer)
    allocate(structs.node * len(kinds), structs.pointer)
    for kind in kinds:
        allocate(structs.parameters[kind], 4)
    for kind in kinds:
        allocate(structs.state[kind], ALIGNMENT_BYTES)
    for operator in graph.operators:
        if operator.kind in WEIGHTED:  # multipliers and shifts of each channel
            allocate(4 * operator.channels, ALIGNMENT_BYTES)
            allocate(4 * operator.channels, ALIGNMENT_BYTES)
    allocate(structs.pointer * scratch_buffers, structs.pointer)
    planned = used
    for tensors in (1, len(graph.outputs)):
        allocate(structs.pointer * tensors, ALIGNMENT_BYTES)
        for _ in range(tensors):
            allocate(structs.tensor, structs.pointer)
            allocate(structs.quantization, structs.pointer)
            allocate(8, 4)  # the zero point as an int array
    return used, used - planned


def _up(size: int, alignment: int = ALIGNMENT_BYTES) -> int:
    return -(-size // alignment) * alignment
