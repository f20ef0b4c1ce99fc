"""Reads `.tflite` files as a Graph, without an interpreter and without TensorFlow.

The tables are read with the accessors that ai-edge-litert generates from TFLite's schema
(`ai_edge_litert.schema_py_generated`, loaded in about 20 ms). Weights are never copied.
"""

from __future__ import annotations

import math
import struct
from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tuner.cost.lower import Graph, GraphOperator, GraphTensor
from tuner.errors import InputError
from tuner.spec import Precision, Shape

IDENTIFIER = b"TFL3"
"""Of a TFLite file, at byte 4 (TFLite's schema, file_identifier)."""

_BYTES = {
    "FLOAT32": 4, "INT32": 4, "UINT32": 4, "INT64": 8, "UINT64": 8, "FLOAT64": 8,
    "INT16": 2, "UINT16": 2, "FLOAT16": 2, "BFLOAT16": 2, "INT8": 1, "UINT8": 1, "BOOL": 1,
    "RESOURCE": 4,
}  # fmt: skip
"""Size of one element, by type. A resource is a handle."""

_PRECISIONS: dict[str, Precision] = {"INT8": "int8", "FLOAT32": "float32"}

_HINTS = {
    "FLOAT32 with INT8": "it is quantized for its weights only (dynamic range)",
    "INT16 with INT8": "it is quantized to 16-bit activations",
    "UINT8 with UINT8": "it is quantized to uint8, as TensorFlow 1 did",
}
"""What a file with such activations and weights is."""

_WINDOWS = frozenset(
    {
        "CONV_2D", "DEPTHWISE_CONV_2D", "TRANSPOSE_CONV", "MAX_POOL_2D", "AVERAGE_POOL_2D",
        "L2_POOL_2D",
    }
)  # fmt: skip

_OPTIONS = {
    "CONV_2D": "Conv2DOptions",
    "DEPTHWISE_CONV_2D": "DepthwiseConv2DOptions",
    "TRANSPOSE_CONV": "TransposeConvOptions",
    "MAX_POOL_2D": "Pool2DOptions",
    "AVERAGE_POOL_2D": "Pool2DOptions",
    "L2_POOL_2D": "Pool2DOptions",
    "BATCH_MATMUL": "BatchMatMulOptions",
    "RESIZE_BILINEAR": "ResizeBilinearOptions",
    "RESIZE_NEAREST_NEIGHBOR": "ResizeNearestNeighborOptions",
}
"""The options of the operators whose options are read field by field."""

# Where an operator reads its weights, and the axis of the weight tensor that holds the outputs.
_WEIGHTS = {
    "CONV_2D": (1, 0),
    "DEPTHWISE_CONV_2D": (1, 3),
    "FULLY_CONNECTED": (1, 0),
    "TRANSPOSE_CONV": (1, 0),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class _Tensor:
    """One tensor as the file has it; `shape` with the batch."""

    name: str
    type: str
    shape: tuple[int, ...]
    constant: bool
    variable: bool

    @property
    def bytes(self) -> int:
        return math.prod(self.shape) * _BYTES[self.type]

    @property
    def inner_shape(self) -> Shape:
        """The shape without the batch."""
        return self.shape[1:] if len(self.shape) > 1 and self.shape[0] == 1 else self.shape


def read_graph(path: Path) -> Graph:
    """Read an int8 or float32 TFLite file.

    An int8 file may have float32 or uint8 inputs and outputs. A batch that is open (-1) counts
    as 1. State that outlives an inference (variable tensors) counts as alive all the time.

    Args:
        path: of the file.

    Returns:
        The graph, with the file's exact size. Operators have TFLite's names; custom ones, which
        no schema describes, their own. MACs are counted for convolutions, fully connected
        layers, batch matrix products and LSTMs.

    Raises:
        InputError: it is not there, not a TFLite file, damaged, or of a kind that no cost here
            describes: other precisions, several subgraphs, open shapes.
    """
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise InputError(f"Expected a TFLite file at {path}; there is none.") from None
    except IsADirectoryError:
        raise InputError(f"Expected a TFLite file at {path}. Received a folder.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read: {error.strerror}.") from None
    try:
        return parse_graph(data)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None


def parse_graph(data: bytes) -> Graph:
    """The graph of a TFLite file's bytes; see `read_graph`."""
    if data[4:8] != IDENTIFIER:
        raise InputError(
            "expected a TFLite file, with TFL3 at byte 4. "
            f"Received: {len(data)} bytes that begin with {data[:8]!r}."
        )
    try:
        return replace(_Reader(data).graph(), file_bytes=len(data))
    except InputError:
        raise
    except (
        struct.error, ValueError, TypeError, AttributeError, LookupError, ArithmeticError,
    ) as error:  # fmt: skip
        # FlatBuffers does not check its offsets: what they point at fails in many ways, and a
        # table that is not there reads as None.
        raise InputError(
            f"the TFLite file is damaged or cut off at {len(data)} bytes. Copy it again."
        ) from error


class _Reader:
    """Walks the first subgraph of a model."""

    def __init__(self, data: bytes) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self._schema = schema
        self._data = data
        self._model = schema.Model.GetRootAs(data, 0)
        subgraphs = self._model.SubgraphsLength()
        if subgraphs != 1:
            raise InputError(
                f"expected a model with one subgraph. Received: {subgraphs}; control flow such as "
                "IF and WHILE has no costs here."
            )
        self._subgraph = self._model.Subgraphs(0)
        self._kinds = [self._kind(index) for index in self._range("OperatorCodes", self._model)]
        types = _names(schema.TensorType)
        self._tensors = self._named(
            [self._tensor(index, types) for index in self._range("Tensors", self._subgraph)]
        )

    def graph(self) -> Graph:
        operators = [
            self._operator(self._subgraph.Operators(index))
            for index in self._range("Operators", self._subgraph)
        ]
        if not operators:
            raise InputError("expected at least one operator. Received: a model without any.")
        inputs, outputs = (
            tuple(self._tensors[index].name for index in indices if index >= 0)
            for indices in (_indices(self._subgraph, "Inputs"), _indices(self._subgraph, "Outputs"))
        )
        tensors = self._activations(operators, inputs, outputs)
        return Graph(
            operators=tuple(operators),
            tensors=tensors,
            constants=len(self._tensors) - len(tensors),
            inputs=inputs,
            outputs=outputs,
            precision=self._precision(operators),
        )

    def _range(self, vector: str, table: Any) -> range:
        """Indices of a vector of tables, whose length the file cannot exceed."""
        length = getattr(table, f"{vector}Length")()
        if length * 4 > len(self._data):
            raise ValueError(vector)
        return range(length)

    def _kind(self, index: int) -> str:
        """The operator's name; files older than schema 3a keep its number in another field."""
        code = self._model.OperatorCodes(index)
        number = max(code.BuiltinCode(), code.DeprecatedBuiltinCode())
        if number == self._schema.BuiltinOperator.CUSTOM:
            return (code.CustomCode() or b"CUSTOM").decode()
        return _names(self._schema.BuiltinOperator).get(number, f"BUILTIN_{number}")

    def _tensor(self, index: int, types: dict[int, str]) -> _Tensor:
        table = self._subgraph.Tensors(index)
        name = (table.Name() or b"").decode() or f"tensor{index}"
        shape = tuple(int(side) for side in _indices(table, "Shape"))
        buffer = self._model.Buffers(table.Buffer())
        if buffer.DataLength():
            buffer.DataAsNumpy()  # refuses data that reaches beyond the file
        constant = buffer.DataLength() > 0 or buffer.Offset() > 1
        kind = types[table.Type()]
        if not constant and any(side < 1 for side in shape):
            raise InputError(
                f"expected tensors of fixed shapes. '{name}' has the shape {list(shape)}; convert "
                "the model with fixed shapes."
            )
        return _Tensor(
            name=name, type=kind, shape=shape, constant=constant, variable=table.IsVariable()
        )

    def _named(self, tensors: list[_Tensor]) -> list[_Tensor]:
        """The tensors with names that differ, and inputs of a fixed shape."""
        for index in _indices(self._subgraph, "Inputs"):
            signature = _indices(self._subgraph.Tensors(index), "ShapeSignature")
            if any(side < 0 for side in signature[1:]):
                raise InputError(
                    f"expected inputs of a fixed shape. '{tensors[index].name}' has "
                    f"{list(signature)}; convert the model with fixed shapes."
                )
        seen = Counter(tensor.name for tensor in tensors)
        return [
            replace(tensor, name=f"{tensor.name}#{index}") if seen[tensor.name] > 1 else tensor
            for index, tensor in enumerate(tensors)
        ]

    def _operator(self, table: Any) -> GraphOperator:
        kind = self._kinds[table.OpcodeIndex()]
        read = [self._tensors[index] if index >= 0 else None for index in _indices(table, "Inputs")]
        written = [self._tensors[index] for index in _indices(table, "Outputs") if index >= 0]
        activations = [tensor for tensor in read if tensor and not tensor.constant]
        if not written or any(tensor.type not in _BYTES for tensor in activations + written):
            raise InputError(
                f"expected operators on numbers. {kind} has "
                f"{', '.join(sorted({item.type for item in activations + written})) or 'none'}."
            )
        if kind == "DEQUANTIZE" and read[0] and read[0].constant:
            raise InputError(
                "expected an int8 or float32 model, weights and activations alike; its weights are "
                f"{read[0].type.lower()}. Convert it again with int8 quantization, or without any."
            )
        source = (activations or written)[0]
        operator = GraphOperator(
            name=written[0].name,
            kind=kind,
            inputs=tuple(dict.fromkeys(tensor.name for tensor in activations)),
            outputs=tuple(tensor.name for tensor in written),
            input_shape=source.inner_shape,
            output_shape=written[0].inner_shape,
        )
        if kind in _WINDOWS and (len(source.shape) != 4 or source.shape[0] != 1):
            raise InputError(
                f"expected a batch of 1. {kind} '{operator.name}' reads the shape "
                f"{list(source.shape)}; convert the model with a batch of 1."
            )
        if kind in _WINDOWS and len(written[0].shape) != 4:
            raise ValueError(kind)
        if kind in _WEIGHTS:
            operator = self._with_weights(operator, read, written[0])
        elif kind == "UNIDIRECTIONAL_SEQUENCE_LSTM":
            matrices = [item for item in read if item and item.constant and len(item.shape) == 2]
            weights = sum(math.prod(item.shape) for item in matrices)
            steps = max(source.shape[:-1])  # time x batch x features, or batch first
            operator = replace(operator, weights=weights, macs=weights * steps)
        elif kind == "BATCH_MATMUL":
            operator = replace(
                operator, macs=operator.output_elements * self._inner_length(table, read)
            )
        return self._with_options(operator, table)

    def _with_weights(
        self, operator: GraphOperator, read: list[_Tensor | None], written: _Tensor
    ) -> GraphOperator:
        """Check the types, and count weights and MACs."""
        position, axis = _WEIGHTS[operator.kind]
        weights = read[position]
        # TRANSPOSE_CONV reads the shape of its output first.
        source = read[2] if operator.kind == "TRANSPOSE_CONV" else read[0]
        if weights is None or source is None or min(weights.shape) < 1:
            raise ValueError(operator.kind)
        types = f"{source.type} with {weights.type}"
        if source.type not in _PRECISIONS or weights.type != source.type:
            what = _HINTS.get(types, f"{operator.kind} '{operator.name}' computes {types} weights")
            raise InputError(
                f"expected an int8 or float32 model, weights and activations alike; {what}. "
                "Convert it again with int8 quantization, or without any."
            )
        entries, channels = math.prod(weights.shape), weights.shape[axis]
        if operator.kind == "FULLY_CONNECTED":
            macs = math.prod(source.shape) * channels
        elif operator.kind == "TRANSPOSE_CONV":  # each input element is spread by every weight
            macs = math.prod(source.shape[1:3]) * entries
        else:
            macs = math.prod(written.shape[1:3]) * entries
        return replace(
            operator,
            input_shape=source.inner_shape,
            kernel=(weights.shape[1], weights.shape[2]) if len(weights.shape) == 4 else (1, 1),
            macs=macs,
            weights=entries if weights.constant else 0,
            channels=channels if weights.constant else 0,
        )

    def _inner_length(self, table: Any, read: list[_Tensor | None]) -> int:
        """How many products one element of a batch matrix product sums up."""
        left = read[0]
        if left is None or len(left.shape) < 2:
            raise ValueError("BATCH_MATMUL")
        options = self._options(table, "BATCH_MATMUL")
        return left.shape[-2] if options is not None and options.AdjX() else left.shape[-1]

    def _with_options(self, operator: GraphOperator, table: Any) -> GraphOperator:
        """Window and fused activation, where the operator has such options."""
        options = self._options(table, operator.kind)
        if options is None:
            return operator
        if operator.kind in _WINDOWS:
            same = options.Padding() == self._schema.Padding.SAME
            padding: Literal["same", "valid"] = "same" if same else "valid"
            operator = replace(
                operator, stride=(options.StrideH(), options.StrideW()), padding=padding
            )
        if operator.kind.endswith("POOL_2D"):
            operator = replace(operator, kernel=(options.FilterHeight(), options.FilterWidth()))
        if operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D"):
            operator = replace(
                operator, dilation=(options.DilationHFactor(), options.DilationWFactor())
            )
        if operator.kind in ("RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR"):
            operator = replace(operator, half_pixel_centers=bool(options.HalfPixelCenters()))
        if min(*operator.kernel, *operator.stride, *operator.dilation) < 1:
            raise ValueError(operator.kind)
        if hasattr(options, "FusedActivationFunction"):
            functions = _names(self._schema.ActivationFunctionType)
            activation = functions[options.FusedActivationFunction()].lower()
            operator = replace(
                operator, activation="linear" if activation == "none" else activation
            )
        return operator

    def _options(self, table: Any, kind: str) -> Any:
        """The operator's options; None where the file has none, as not all operators need any."""
        union = table.BuiltinOptions()
        name = _names(self._schema.BuiltinOptions).get(table.BuiltinOptionsType(), "NONE")
        if name != _OPTIONS.get(kind, name) or (union is None and kind in _WINDOWS):
            raise ValueError(kind)
        if union is None or name == "NONE":
            return None
        options = getattr(self._schema, name)()
        options.Init(union.Bytes, union.Pos)
        return options

    def _activations(
        self, operators: list[GraphOperator], inputs: tuple[str, ...], outputs: tuple[str, ...]
    ) -> tuple[GraphTensor, ...]:
        first, last = dict.fromkeys(inputs, 0), dict.fromkeys(inputs, 0)
        end = len(operators)
        for tensor in self._tensors:
            if tensor.variable:
                first[tensor.name], last[tensor.name] = 0, end
        for index, operator in enumerate(operators, start=1):
            for name in operator.outputs:
                first.setdefault(name, index)
                last[name] = max(index, last.get(name, 0))
            for name in operator.inputs:
                if name not in first:
                    raise InputError(
                        f"'{name}', which {operator.kind} reads, is written by no operator before."
                    )
                last[name] = max(index, last[name])
        for name in outputs:
            if name in first:
                last[name] = end
        used = [tensor for tensor in self._tensors if tensor.name in first]
        used.sort(key=lambda tensor: tensor.name not in inputs)  # stable: the file's order
        return tuple(
            GraphTensor(
                name=item.name, bytes=item.bytes, first=first[item.name], last=last[item.name]
            )
            for item in used
        )

    def _precision(self, operators: list[GraphOperator]) -> Precision:
        """Of the operators with weights; without any, of the tensors."""
        types = {tensor.name: tensor.type for tensor in self._tensors}
        weighted = [item for item in operators if item.kind in _WEIGHTS]
        found = {types[item.outputs[0]] for item in weighted or operators}
        if weighted and len(found & set(_PRECISIONS)) > 1:
            raise InputError(
                "expected one precision. Received: a model with both int8 and float32 layers."
            )
        return "int8" if "INT8" in found else "float32"


def _names(enumeration: Any) -> dict[int, str]:
    """Number -> name of a schema's enumeration."""
    return {number: name for name, number in vars(enumeration).items() if isinstance(number, int)}


def _indices(table: Any, vector: str) -> list[int]:
    """A vector of whole numbers; empty where the file has none."""
    if getattr(table, f"{vector}Length")() == 0:
        return []
    return [int(number) for number in getattr(table, f"{vector}AsNumpy")()]
