"""A float32 TFLite net whose weights and ranges can be changed before it is quantized.

TFLite's quantizer reads a float32 file that carries a range for each tensor. Its calibrator writes
them there, and so does this module; what comes out is TFLite's own int8 file either way.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_WEIGHTED = {"CONV_2D": (0, 3), "DEPTHWISE_CONV_2D": (3, 3), "FULLY_CONNECTED": (0, 1)}
"""Operators with weights, and the axes of outputs and inputs; a depthwise filter has one axis for
both."""

_SAME_SCALE = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D", "RESHAPE", "PAD"})
"""Operators whose output is quantized as their input is (TFLite's quantization specification)."""

_BY_CHANNEL = frozenset({"MAX_POOL_2D", "AVERAGE_POOL_2D", "MEAN", "RESHAPE"})
"""Operators through which a factor on each channel passes unchanged."""

RELU6 = 6.0


@dataclass(frozen=True, slots=True, kw_only=True)
class NetOperator:
    """One operator of the file.

    Args:
        kind: TFLite's name.
        inputs: tensors that it reads and that are computed, not constant.
        output: the tensor that it writes.
        weights: tensor of its weights; -1 for operators without.
        bias: tensor of its bias; -1 for operators without.
        activation: fused into it, TFLite's name.
        stride: rows and columns.
        same_padding: zeros around the input, as many as make the output input / stride large.
    """

    kind: str
    inputs: tuple[int, ...]
    output: int
    weights: int = -1
    bias: int = -1
    activation: str = "NONE"
    stride: tuple[int, int] = (1, 1)
    same_padding: bool = False


class FloatNet:
    """A float32 TFLite file, taken apart.

    Args:
        content: of the file; one image in, logits out.
    """

    def __init__(self, content: bytes) -> None:
        from tensorflow.lite.python import schema_py_generated as schema
        from tensorflow.lite.tools import flatbuffer_utils

        self._schema = schema
        self._model = flatbuffer_utils.convert_bytearray_to_object(bytearray(content))
        graph = self._model.subgraphs[0]
        self._tensors = graph.tensors
        self.input = int(graph.inputs[0])
        self.output = int(graph.outputs[0])
        self._give_each_its_own(graph.operators)
        self.operators = [self._operator(item) for item in graph.operators]

    def _give_each_its_own(self, tables: Any) -> None:
        """Let no two operators share a constant tensor: one may be changed without the other."""
        taken: set[int] = set()
        for table in tables:
            for place, index in enumerate(table.inputs):
                if index in taken and self._data(index) is not None:
                    self._tensors.append(copy.copy(self._tensors[index]))
                    table.inputs[place] = index = len(self._tensors) - 1
                taken.add(int(index))

    def _operator(self, table: Any) -> NetOperator:
        kind = _name_of(
            self._schema.BuiltinOperator, self._model.operatorCodes[table.opcodeIndex].builtinCode
        )
        indices = [int(index) for index in table.inputs]
        options = table.builtinOptions
        activation = _name_of(
            self._schema.ActivationFunctionType, getattr(options, "fusedActivationFunction", 0)
        )
        constant = [index < 0 or self._data(index) is not None for index in indices]
        weighted = kind in _WEIGHTED
        return NetOperator(
            kind=kind,
            inputs=tuple(
                index for index, fixed in zip(indices, constant, strict=True) if not fixed
            ),
            output=int(table.outputs[0]),
            weights=indices[1] if weighted else -1,
            bias=indices[2] if weighted and len(indices) > 2 else -1,
            activation=activation,
            stride=(getattr(options, "strideH", 1), getattr(options, "strideW", 1)),
            same_padding=getattr(options, "padding", None) == self._schema.Padding.SAME,
        )

    def _data(self, tensor: int) -> Any:
        data = self._model.buffers[self._tensors[tensor].buffer].data
        return None if data is None or not len(data) else data

    def constant(self, tensor: int) -> NDArray[Any]:
        """A copy of a constant tensor: float32, or int8 and int32 in a quantized file."""
        table = self._tensors[tensor]
        kind = {
            self._schema.TensorType.FLOAT32: np.float32,
            self._schema.TensorType.INT8: np.int8,
            self._schema.TensorType.INT32: np.int32,
        }[table.type]
        values = np.frombuffer(bytes(self._data(tensor)), dtype=kind)
        return values.reshape([int(side) for side in table.shape]).copy()

    def set_constant(self, tensor: int, values: NDArray[np.float32]) -> None:
        """Give a constant tensor other values, in a buffer of its own."""
        buffer = self._schema.BufferT()
        buffer.data = np.frombuffer(np.ascontiguousarray(values, np.float32).tobytes(), np.uint8)
        self._model.buffers.append(buffer)
        self._tensors[tensor].buffer = len(self._model.buffers) - 1

    def shape(self, tensor: int) -> tuple[int, ...]:
        """With the batch of 1."""
        return tuple(int(side) for side in self._tensors[tensor].shape)

    def dequantized(self, tensor: int) -> NDArray[np.float32]:
        """What the values of a constant tensor of an int8 file stand for."""
        values = self.constant(tensor).astype(np.float32)
        quantization = self._tensors[tensor].quantization
        scales = np.asarray(quantization.scale, np.float32)
        axis = [1] * values.ndim
        axis[quantization.quantizedDimension] = -1
        return values * scales.reshape(axis if len(scales) > 1 else [1] * values.ndim)

    def set_ranges(self, ranges: Mapping[int, tuple[float, float]]) -> None:
        """Give tensors the range that their int8 values shall cover."""
        for tensor, (low, high) in ranges.items():
            quantization = self._schema.QuantizationParametersT()
            quantization.min, quantization.max = [low], [high]
            self._tensors[tensor].quantization = quantization

    def content(self) -> bytes:
        """The file."""
        from tensorflow.lite.tools import flatbuffer_utils

        return bytes(flatbuffer_utils.convert_object_to_bytearray(self._model))

    def same_scale(self) -> dict[int, int]:
        """Tensors that are quantized as another one is, by that one's rule, in graph order."""
        found: dict[int, int] = {}
        for operator in self.operators:
            if operator.kind in _SAME_SCALE:
                source = operator.inputs[0]
                found[operator.output] = found.get(source, source)
        return found

    def readers(self) -> dict[int, list[NetOperator]]:
        """By tensor, the operators that read it."""
        found: dict[int, list[NetOperator]] = {}
        for operator in self.operators:
            for tensor in operator.inputs:
                found.setdefault(tensor, []).append(operator)
        return found

    def equalize(self, largest: Mapping[int, NDArray[np.float32]]) -> None:
        """Scale channels between two layers with weights, so that one range fits all of them.

        A layer's output channels are multiplied and the next layer's weights on them divided by
        the same factors, which changes no logit: cross-layer equalization (Nagel et al., arXiv
        1906.04721), with the largest activation of a channel in place of its weights' range, for
        the weights have a scale for each output channel. Where the next layer's weights have a
        scale for each input channel too (depthwise), all channels are made equally large. Else
        factors balance the activations against the next weights. A channel that a rectifier
        cuts off at 6 keeps its factor of 1, and none is made larger than 6.

        Args:
            largest: of tensors, by channel, the largest absolute value.
        """
        readers = self.readers()
        for operator in self.operators:
            if operator.weights < 0 or operator.activation not in ("NONE", "RELU", "RELU6"):
                continue
            reader = self._next_weighted(operator.output, readers)
            if reader is None:
                continue
            peaks = largest[operator.output].astype(np.float64)
            if not peaks.max() > 0:
                continue
            factors = self._factors(reader, peaks, operator.activation == "RELU6")
            self._scale_outputs(operator, factors)
            self._scale_inputs(reader, factors)

    def _next_weighted(
        self, tensor: int, readers: Mapping[int, list[NetOperator]]
    ) -> NetOperator | None:
        """The one layer with weights that a tensor reaches, by operators on channels alone."""
        while True:
            found = readers.get(tensor, [])
            if tensor == self.output or len(found) != 1:
                return None
            if found[0].weights >= 0:
                return found[0]
            if found[0].kind not in _BY_CHANNEL or len(found[0].inputs) != 1:
                return None
            tensor = found[0].output

    def _factors(
        self, reader: NetOperator, peaks: NDArray[np.float64], cut: bool
    ) -> NDArray[np.float64]:
        used = peaks > 1e-3 * peaks.max()
        safe = np.where(used, peaks, 1.0)
        if reader.kind == "DEPTHWISE_CONV_2D":
            factors = safe.max(where=used, initial=0.0) / safe
        else:
            weights = np.abs(self._by_input(reader, len(peaks))).max(axis=(0, 1))
            balance = np.sqrt(np.where(weights > 0, weights, 1.0) / safe)
            factors = balance / np.exp(np.log(balance[used]).mean())
        saturated = peaks >= RELU6 * 0.999
        if cut:
            if saturated.any():
                factors = factors / np.exp(np.log(factors[saturated]).mean())
            factors = np.minimum(factors, RELU6 / safe)
            factors[saturated] = 1.0
        return np.where(used, np.clip(factors, 1e-3, 1e3), 1.0)

    def _by_input(self, operator: NetOperator, channels: int) -> NDArray[np.float32]:
        """Weights as outputs x positions x input channels."""
        weights = self.constant(operator.weights)
        return weights.reshape(weights.shape[0], -1, channels)

    def _scale_outputs(self, operator: NetOperator, factors: NDArray[np.float64]) -> None:
        weights = self.constant(operator.weights)
        axis = [1] * weights.ndim
        axis[_WEIGHTED[operator.kind][0]] = -1
        self.set_constant(operator.weights, weights * factors.reshape(axis).astype(np.float32))
        if operator.bias >= 0:
            bias = self.constant(operator.bias) * factors.astype(np.float32)
            self.set_constant(operator.bias, bias)

    def _scale_inputs(self, operator: NetOperator, factors: NDArray[np.float64]) -> None:
        weights = self.constant(operator.weights)
        if operator.kind == "DEPTHWISE_CONV_2D":  # output k reads the input k / multiplier
            scaled = weights / np.repeat(factors, weights.shape[3] // len(factors))
        else:
            scaled = self._by_input(operator, len(factors)) / factors
        self.set_constant(operator.weights, scaled.reshape(weights.shape).astype(np.float32))

    def correct_biases(self, quantized: FloatNet, means: Mapping[int, NDArray[np.float32]]) -> None:
        """Take from each bias what rounding the layer's weights adds to its outputs in the mean.

        Nagel et al., arXiv 1906.04721, section 4.2. A layer is linear up to its activation, so
        the mean of what the weights' error adds is what it makes of the mean input.

        Args:
            quantized: the int8 file made from this one, with the same operators.
            means: of tensors, the mean over images, with the batch of 1.
        """
        for operator, rounded in zip(self.operators, quantized.operators, strict=True):
            if operator.bias < 0:
                continue
            error = quantized.dequantized(rounded.weights) - self.constant(operator.weights)
            shift = _mean_output(operator, error, means[operator.inputs[0]])
            bias = self.constant(operator.bias) - shift.astype(np.float32)
            self.set_constant(operator.bias, bias)


def _mean_output(
    operator: NetOperator, weights: NDArray[np.float32], mean: NDArray[np.float32]
) -> NDArray[np.float64]:
    """The mean over positions of what weights make of an input, by output channel."""
    if operator.kind == "FULLY_CONNECTED":
        product: NDArray[np.float64] = weights.astype(np.float64) @ mean.reshape(-1)
        return product
    rows, columns = weights.shape[1:3]
    patches = _mean_patches(mean[0], (rows, columns), operator.stride, operator.same_padding)
    if operator.kind == "DEPTHWISE_CONV_2D":
        repeated = np.repeat(patches, weights.shape[3] // patches.shape[2], axis=2)
        depthwise: NDArray[np.float64] = (weights[0] * repeated).sum(axis=(0, 1))
        return depthwise
    whole: NDArray[np.float64] = np.einsum("oijc,ijc->o", weights.astype(np.float64), patches)
    return whole


def _mean_patches(
    image: NDArray[np.float32], window: tuple[int, int], stride: tuple[int, int], same: bool
) -> NDArray[np.float64]:
    """What each weight of a window reads in the mean over the window's positions.

    Args:
        image: height x width x channels.
        window: rows and columns.
        stride: likewise.
        same: TensorFlow's padding `same`: one half of the zeros before, rounded down.

    Returns:
        window rows x window columns x channels.
    """
    sizes = []
    pads = []
    for side, kernel, step in zip(image.shape[:2], window, stride, strict=True):
        size = -(-side // step) if same else (side - kernel) // step + 1
        pad = max(0, (size - 1) * step + kernel - side) if same else 0
        sizes.append(size)
        pads.append((pad // 2, pad - pad // 2))
    padded = np.pad(image.astype(np.float64), (*pads, (0, 0)))
    found = np.empty((*window, image.shape[2]))
    for row in range(window[0]):
        for column in range(window[1]):
            part = padded[
                row : row + (sizes[0] - 1) * stride[0] + 1 : stride[0],
                column : column + (sizes[1] - 1) * stride[1] + 1 : stride[1],
            ]
            found[row, column] = part.mean(axis=(0, 1))
    return found


def _name_of(enumeration: Any, number: int) -> str:
    names = {value: name for name, value in vars(enumeration).items() if not name.startswith("_")}
    return str(names[number])
