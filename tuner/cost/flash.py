"""Bytes of the model file, from the architecture alone, and of the runtime's code.

The converter writes a file with the Python FlatBuffer builder, and nothing of it depends on the
values of the weights but one thing: equal constants are stored once. So the size is replayed here,
table by table in the builder's order (`ModelT.Pack` of TensorFlow's
`lite/python/schema_py_generated.py`, `flatbuffers/builder.py`): vectors and strings with their
padding, tables with their shared vtables, the quantization vectors of 12 bytes a channel, and the
tensors' names, which come from the short names that the Keras builder gives to layers. The replay
is exact for trained nets; an untrained one, whose biases are all zero, makes a smaller file.
Names and metadata are those of TensorFlow 2.21 and Keras 3.15.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable

from tuner.cost.lower import WEIGHTED, Graph, GraphOperator
from tuner.spec import Quantity

_MODEL = "m_1"
"""Scope of all layers: the model's name as TensorFlow traces it."""

_DESCRIPTION = "MLIR Converted."
_SUBGRAPH = "main"
_METADATA = (("min_runtime_version", 16), ("CONVERSION_METADATA", 96))
"""Names and bytes of the metadata buffers."""

_IDENTIFIER_BYTES = 8
"""Offset of the root table and the file's identifier."""

MERGED_BYTES = 64
"""What equal constants of a trained net may save: small biases and weights, rarely."""

Fields = bytes
"""Slot and size of each field that a table holds, in turn, in the order of writing. (Bytes keep
their hash, which makes the replay twice as fast.)"""

_INDEX: Fields = bytes((0, 4))
_EMPTY: Fields = b""
_BUFFER: Fields = bytes((0, 4))
_TENSOR: Fields = bytes((0, 4, 1, 1, 2, 4, 3, 4, 4, 4, 8, 1))
_FLOAT_TENSOR: Fields = bytes((0, 4, 2, 4, 3, 4, 4, 4, 8, 1))  # float32 is the default type
_PER_TENSOR: Fields = bytes((2, 4, 3, 4))
_SUBGRAPH_FIELDS: Fields = bytes((0, 4, 1, 4, 2, 4, 3, 4, 4, 4))
_METADATA_FIELDS: Fields = bytes((0, 4, 1, 4))
_MODEL_FIELDS: Fields = bytes((0, 4, 1, 4, 2, 4, 3, 4, 4, 4, 6, 4, 7, 4))
_PER_LAST_AXIS: Fields = bytes((2, 4, 3, 4, 6, 4))

_OPTIONS: dict[str, tuple[Fields, int]] = {
    "CONV_2D": (bytes((1, 4, 2, 4)), 3),
    "DEPTHWISE_CONV_2D": (bytes((1, 4, 2, 4, 3, 4)), 4),
    "MAX_POOL_2D": (bytes((0, 1, 1, 4, 2, 4, 3, 4, 4, 4)), 5),
    "AVERAGE_POOL_2D": (bytes((0, 1, 1, 4, 2, 4, 3, 4, 4, 4)), 5),
    "FULLY_CONNECTED": (_EMPTY, 0),
    "ADD": (_EMPTY, 0),
    "MEAN": (_EMPTY, 0),
}
"""Fields of the options by kind, and the slot of the fused activation; RESHAPE has no options."""


class _File:
    """Counts what a FlatBuffer builder writes, from the file's end to its start."""

    def __init__(self) -> None:
        self.bytes = 0
        self.alignment = 4
        self.vtables: set[bytes] = set()

    def vector(self, items: int, item_bytes: int = 4) -> None:
        size = items * item_bytes
        self.bytes += -(self.bytes + size) % 4
        if item_bytes == 8:
            self.alignment = 8
            self.bytes += -(self.bytes + size) % 8
        self.bytes += size + 4

    def string(self, length: int) -> None:
        self.bytes += -(self.bytes + length + 1) % 4 + length + 5

    def table(self, fields: Fields) -> None:
        size, vtable = _table(fields, self.bytes % 4)
        self.bytes += size
        if vtable not in self.vtables:
            self.vtables.add(vtable)
            self.bytes += 2 * (len(vtable) + 1)

    def finish(self) -> int:
        self.bytes += -(self.bytes + _IDENTIFIER_BYTES) % self.alignment + _IDENTIFIER_BYTES
        return self.bytes


@functools.lru_cache(maxsize=1024)
def _table(fields: Fields, start: int) -> tuple[int, bytes]:
    """Bytes of a table that starts at `start` modulo 4, and its vtable: size and field offsets."""
    end, ends = start, {}
    for slot, width in zip(fields[::2], fields[1::2], strict=True):
        end += -end % width + width
        ends[slot] = end
    end += -end % 4 + 4
    slots = range(max(ends, default=-1) + 1)
    offsets = (end - ends[slot] if slot in ends else 0 for slot in slots)
    return end - start, bytes((end - start, *offsets))


@functools.lru_cache(maxsize=4096)
def _name_lengths(
    kind: str, layer: int, batch_norm: bool, activation: str, channels: int, weights: int
) -> tuple[int, int, int]:
    """Lengths of the names of the output, the weights and the bias.

    The converter joins the names of what it fuses. A single channel turns the addition of the
    bias into a plain one, a single depthwise weight keeps the name of its variable.
    """
    node, normal = f"{_MODEL}/n{layer}_1", f"{_MODEL}/n{layer}b_1/batchnorm"
    fused = {"relu": "Relu", "relu6": "Relu6"}.get(activation)
    last = [f"{_MODEL}/n{layer}a_1/{fused}"] if fused else []
    add, squeeze = ("Add", "Reshape") if channels == 1 else ("BiasAdd", "Squeeze")
    if kind == "FULLY_CONNECTED":
        middle = [f"{node}/{fused}"] if fused else []
        bias = [*middle, f"{node}/{add}"]
        weight = [f"{node}/MatMul"]
        output = [*weight, *bias]
    elif kind in WEIGHTED:
        weight = [f"{node}/{'convolution' if kind == 'CONV_2D' else 'depthwise'}"]
        if batch_norm and kind == "CONV_2D":
            bias = [*last, f"{normal}/add_1", *weight, f"{normal}/sub"]
        elif batch_norm:
            if weights == 1:
                weight.insert(0, f"{weight[0]}/ReadVariableOp/resource")
            weight = [f"{normal}/mul_1", *weight, f"{normal}/mul"]
            bias = [*last, f"{normal}/add_1", *weight, f"{normal}/sub"]
        else:
            bias = [*last, f"{node}/{add}", *weight, f"{node}/{squeeze}"]
            if weights == 1 and kind == "DEPTHWISE_CONV_2D":
                weight = [f"{weight[0]}/ReadVariableOp/resource"]
        output = [*bias[:-1], f"{bias[-1]}1"]  # a digit tells it from the bias
    else:
        word = {
            "MAX_POOL_2D": "MaxPool2d",
            "AVERAGE_POOL_2D": "AvgPool",
            "MEAN": "Mean",
            "ADD": "BiasAdd" if channels else "Add",  # of maps of 1 x 1
            "RESHAPE": "Reshape",
        }[kind]
        output, weight, bias = [*last, f"{node}/{word}"], [], []
    lengths = [len(";".join(part)) for part in (output, weight, bias)]
    return lengths[0], lengths[1], lengths[2]


def model_file_bytes(graph: Graph) -> Quantity:
    """Size of the file.

    Args:
        graph: from `tuner.cost.lower`, or from a file, which then says its size itself.

    Returns:
        Bytes; the value holds for any weights, and `low` for trained ones.
    """
    if graph.file_bytes is not None:
        size = graph.file_bytes
        return Quantity(value=size, low=size, high=size, kind="measured", basis="the model's file")
    size = _file_bytes(graph)
    return Quantity(
        value=size,
        low=size - MERGED_BYTES,
        high=size,
        kind="estimated",
        basis=f"{graph.precision} file replayed; equal constants would merge",
    )


def _file_bytes(graph: Graph) -> int:
    """Replay the file that the converter writes."""
    file = _File()
    quantized = graph.precision == "int8"
    kinds = dict.fromkeys(operator.kind for operator in graph.operators)
    for kind in kinds:
        # ADD has code 0; version 1, the default, is every float32 kernel's and RESHAPE's.
        number = b"" if kind == "ADD" else bytes((0, 1))
        version = bytes((2, 4)) if quantized and kind != "RESHAPE" else b""
        file.table(number + version + (b"" if kind == "ADD" else bytes((3, 4))))
    file.vector(len(kinds))
    buffers = _tensors(file, graph, quantized)
    file.vector(len(buffers))
    file.vector(len(graph.inputs))
    file.vector(len(graph.outputs))
    order = {kind: index for index, kind in enumerate(kinds)}
    for operator in graph.operators:
        _operator(file, operator, is_first_kind=order[operator.kind] == 0)
    file.vector(len(graph.operators))
    file.string(len(_SUBGRAPH))
    file.table(_SUBGRAPH_FIELDS)
    file.vector(1)  # subgraphs
    file.string(len(_DESCRIPTION))
    for size in (0, *buffers, *(size for _, size in _METADATA)):  # the first is always empty
        if size:
            file.vector(size, 1)
            file.table(_BUFFER)
        else:
            file.table(_EMPTY)
    file.vector(1 + len(buffers) + len(_METADATA))
    for name, _ in _METADATA:
        file.string(len(name))
        file.table(_METADATA_FIELDS)
    file.vector(len(_METADATA))
    file.vector(0)  # signatures
    file.table(_MODEL_FIELDS)
    return file.finish()


def _tensors(file: _File, graph: Graph, quantized: bool) -> list[int]:
    """Write all tensors; return the bytes of each one's buffer, 0 for activations."""
    buffers: list[int] = []

    def write(
        rank: int, name: int, size: int, scales: int, typed: bool, last_axis: bool = False
    ) -> None:
        buffers.append(size)
        file.vector(rank)
        file.string(name)
        if scales:
            file.vector(scales)
            file.vector(scales, 8)
        file.table((_PER_LAST_AXIS if last_axis else _PER_TENSOR) if scales else _EMPTY)
        file.table(_TENSOR if typed else _FLOAT_TENSOR)

    names = [
        _name_lengths(
            item.kind, item.layer, item.batch_norm, item.activation, item.channels, item.weights
        )
        for item in graph.operators
    ]
    item_bytes = 1 if quantized else 4
    for _ in graph.inputs:
        write(4, len("image"), 0, quantized, quantized)
    means = [item for item in graph.operators if item.kind == "MEAN"]
    shapes = {item.output_shape for item in graph.operators if item.kind == "RESHAPE"}
    if means:  # a constant of its own name, or one that several means share
        own = len(f"{_MODEL}/n{means[0].layer}_1/Mean/reduction_indices")
        write(1, own if len(means) == 1 else len("arith.constant"), 8, 0, True)
    for index, _ in enumerate(sorted(shapes), start=len(means) > 1):
        write(1, len("arith.constant") + (len(str(index)) if index else 0), 8, 0, True)
    for item, (_, weight, bias) in zip(graph.operators[::-1], names[::-1], strict=True):
        if item.kind in WEIGHTED:
            scales = item.channels if quantized else 0
            write(1, bias, 4 * item.channels, scales, quantized)
            rank = 2 if item.kind == "FULLY_CONNECTED" else 4
            last_axis = item.kind == "DEPTHWISE_CONV_2D"
            write(rank, weight, item_bytes * item.weights, scales, quantized, last_axis)
    outputs = {name: index for index, name in enumerate(graph.outputs)}
    for item, (name, _, _) in zip(graph.operators, names, strict=True):
        if item.name in outputs:
            number = outputs[item.name]
            name = len("Identity") + (len(str(number)) + 1 if number else 0)
        write(len(item.output_shape) + 1, name, 0, quantized, quantized)
    return buffers


def _operator(file: _File, operator: GraphOperator, *, is_first_kind: bool) -> None:
    constants = {"MEAN": 1, "RESHAPE": 1}.get(operator.kind, 2 * (operator.kind in WEIGHTED))
    file.vector(len(operator.inputs) + constants)
    file.vector(1)
    fields, options = _operator_fields(
        operator.kind, operator.activation != "linear", operator.padding == "valid"
    )
    if options is not None:
        file.table(options)
    file.table(fields if is_first_kind else _INDEX + fields)


@functools.lru_cache(maxsize=256)
def _operator_fields(kind: str, fused: bool, valid: bool) -> tuple[Fields, Fields | None]:
    """Fields of an operator, without the index of its kind, and of its options."""
    if kind not in _OPTIONS:
        return bytes((1, 4, 2, 4)), None
    options, activation = _OPTIONS[kind]
    if valid and kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
        options = bytes((0, 1)) + options
    return bytes((1, 4, 2, 4, 3, 1, 4, 4)), options + bytes((activation, 1)) * fused


_CORE_BYTES = 16 * 1024
_KERNEL_BYTES: dict[str, dict[str, int]] = {
    "reference": {
        "CONV_2D": 6, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 4, "MAX_POOL_2D": 4,
        "AVERAGE_POOL_2D": 4, "MEAN": 6, "ADD": 4, "RESHAPE": 1,
    },
    "cmsis-nn": {
        "CONV_2D": 14, "DEPTHWISE_CONV_2D": 14, "FULLY_CONNECTED": 7, "MAX_POOL_2D": 5,
        "AVERAGE_POOL_2D": 5, "MEAN": 6, "ADD": 4, "RESHAPE": 1,
    },
    "esp-nn": {
        "CONV_2D": 18, "DEPTHWISE_CONV_2D": 22, "FULLY_CONNECTED": 6, "MAX_POOL_2D": 5,
        "AVERAGE_POOL_2D": 5, "MEAN": 6, "ADD": 4, "RESHAPE": 1,
    },
}  # fmt: skip
_OTHER_KERNEL_BYTES = 4
"""An operator that only files hold: assumed like a small kernel."""


def runtime_code_bytes(graph: Graph, kernels: str) -> Quantity:
    """Flash that TFLM's interpreter and the kernels of the graph take.

    The core of 16 KB, and 22 KB with the operators of a keyword model, on a Cortex-M3 are
    TensorFlow's own figures (tensorflow.org/lite/microcontrollers). The kernels' sizes, in KB
    here, are assumed, and so is the wide band.

    Args:
        graph: from `tuner.cost.lower` or from a file.
        kernels: the kernel library; an unknown one counts as `reference`.
    """
    table = _KERNEL_BYTES.get(kernels, _KERNEL_BYTES["reference"])
    kinds = {operator.kind for operator in graph.operators}
    value = _CORE_BYTES + 1024 * sum(table.get(kind, _OTHER_KERNEL_BYTES) for kind in kinds)
    return Quantity(
        value=value,
        low=round(0.7 * value),
        high=round(1.6 * value),
        kind="estimated",
        basis=f"TFLM core 16 KB (tensorflow.org); {kernels} kernels assumed",
    )


def add(quantities: Iterable[Quantity]) -> Quantity:
    """Sum figures and their bands; bases are joined."""
    items = list(quantities)
    return Quantity(
        value=sum(item.value for item in items),
        low=sum(item.low for item in items),
        high=sum(item.high for item in items),
        kind="estimated" if any(item.kind == "estimated" for item in items) else "measured",
        basis="; ".join(dict.fromkeys(item.basis for item in items)),
    )
