"""The TFLite graph as data, and Architecture -> the int8 graph that the converter emits.

What the converter (TensorFlow 2.21, frozen function, batch 1) does with our operators:

* convolution, batch normalization and activation become one CONV_2D or DEPTHWISE_CONV_2D with
  per-channel weights and an int32 bias; there is a bias even when the layer had none;
* `same` padding stays an attribute, for any stride and for odd sizes: no PAD;
* the global pool becomes MEAN over a constant of two axes, without a RESHAPE;
* a sum and its activation become one ADD; of two maps of 1 x 1 the second is read as a vector, by a
  RESHAPE (TensorFlow makes such a sum the addition of a bias);
* flatten becomes RESHAPE with a constant shape, and nothing where it only feeds dense layers from a
  map of 1 x 1;
* dense becomes FULLY_CONNECTED with per-channel weights; dropout leaves nothing;
* quantized inputs and outputs add no QUANTIZE or DEQUANTIZE;
* nodes that no output depends on are dropped;
* branches are put in a row by the names of their layers, see `_in_file_order`.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

from tuner.errors import SpecError
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Precision,
    Shape,
)

WEIGHTED: frozenset[str] = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Kinds with a weight and a bias tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOperator:
    """One operator of a TFLite graph.

    Args:
        name: the node it comes from; in a file, the tensor it writes.
        kind: TFLite's name for it.
        inputs: activation tensors read.
        outputs: activation tensors written.
        input_shape: of the first input, without the batch.
        output_shape: of the output, without the batch.
        kernel: rows and columns of the window; 1, 1 where there is none.
        stride: steps of the window, rows and columns.
        padding: of the window.
        dilation: of the window, rows and columns.
        macs: multiply-accumulates; 0 for pools, sums and means.
        weights: entries of the weight tensor.
        channels: entries of each quantization vector and of the bias, or of the vector that is
            added to a map of 1 x 1; 0 otherwise.
        batch_norm: the node normalizes; changes the converter's names.
        activation: fused activation.
        half_pixel_centers: where a resize takes its samples.
        layer: index of its node in the architecture, which names the Keras layer.
    """

    name: str
    kind: str
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shape: Shape
    output_shape: Shape
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    padding: Literal["same", "valid"] = "same"
    dilation: tuple[int, int] = (1, 1)
    macs: int = 0
    weights: int = 0
    channels: int = 0
    batch_norm: bool = False
    activation: str = "linear"
    half_pixel_centers: bool = False
    layer: int = 0

    @property
    def output_elements(self) -> int:
        """Elements of the output."""
        return math.prod(self.output_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """One activation tensor.

    Args:
        name: the node that writes it.
        bytes: its size.
        first: operator that writes it, counted from 1; 0 for an input.
        last: operator that reads it last; for outputs the last of the graph.
    """

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """A TFLite graph, its tensors in the file's order.

    Args:
        operators: in the order of execution.
        tensors: activations, the inputs first.
        constants: tensors that the file holds: weights, biases, axes and shapes.
        inputs: names of the input tensors.
        outputs: names of the output tensors.
        precision: of weights and activations.
        file_bytes: size of the file it was read from; None when there is no file yet.
    """

    operators: tuple[GraphOperator, ...]
    tensors: tuple[GraphTensor, ...]
    constants: int
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    precision: Precision = "int8"
    file_bytes: int | None = None

    @property
    def macs(self) -> int:
        """Multiply-accumulates of one inference."""
        return sum(operator.macs for operator in self.operators)


@functools.lru_cache(maxsize=1024)
def lower(architecture: Architecture) -> Graph:
    """Give the int8 graph of `architecture`.

    Raises:
        SpecError: an operator without a rule, or an output that nothing computes.
    """
    shapes = architecture.shapes()
    alias: dict[str, str] = {}
    operators: list[GraphOperator] = []
    needed = _needed(architecture)
    for layer, node in enumerate(architecture.nodes):
        if isinstance(node.op, Input):
            alias[node.name] = node.name
        elif isinstance(node.op, Dropout) or _is_free(node, architecture, shapes):
            alias[node.name] = alias[node.inputs[0]]
        else:
            alias[node.name] = node.name
            if node.name in needed:
                read = shapes[node.inputs[0]]
                inputs = tuple(alias[name] for name in node.inputs)
                operators.append(_operator(node, layer, inputs, read, shapes[node.name]))
    operators = [part for item in _in_file_order(operators) for part in _with_vector(item)]
    if not operators:
        raise SpecError("expected at least one operator between the input and the outputs.")
    outputs = tuple(alias[name] for name in architecture.outputs)
    constants = sum(2 for operator in operators if operator.kind in WEIGHTED)
    # Means over the same axes share one constant; so do reshapes to the same length.
    constants += any(operator.kind == "MEAN" for operator in operators)
    constants += len({item.output_shape for item in operators if item.kind == "RESHAPE"})
    return Graph(
        operators=tuple(operators),
        tensors=_tensors(architecture, operators, outputs),
        constants=constants,
        inputs=(architecture.nodes[0].name,),
        outputs=outputs,
    )


def _needed(architecture: Architecture) -> set[str]:
    needed = set(architecture.outputs)
    for node in reversed(architecture.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return needed


def _is_free(node: Node, architecture: Architecture, shapes: Mapping[str, Shape]) -> bool:
    """Say whether a flatten of a 1 x 1 map vanishes: dense layers read such a map as it is."""
    if not isinstance(node.op, Flatten) or shapes[node.inputs[0]][:2] != (1, 1):
        return False
    names = {node.name}  # a dropout stands for what it reads
    for reader in architecture.nodes:
        if names.intersection(reader.inputs):
            if isinstance(reader.op, Dropout):
                names.add(reader.name)
            elif not isinstance(reader.op, Dense):
                return False
    return names.isdisjoint(architecture.outputs)


def _in_file_order(operators: list[GraphOperator]) -> list[GraphOperator]:
    """Put the operators in the order of the file.

    The converter imports TensorFlow's graph in reverse post-order of a depth-first search that
    takes constants and readers by name, the last name first (`GetReversePostOrder` with
    `NodeComparatorName`, tensorflow/core/graph/algorithm.h). A chain keeps its order.
    """
    read = [name for operator in operators for name in operator.inputs]
    if len(set(read)) == len(read) == len(operators):
        return operators
    by_name = sorted(operators, key=lambda operator: f"n{operator.layer}_", reverse=True)
    readers: dict[str, list[GraphOperator]] = {}
    for operator in by_name:
        for name in operator.inputs:
            readers.setdefault(name, []).append(operator)
    finished: list[GraphOperator] = []
    visited: set[str] = set()

    def visit(operator: GraphOperator) -> None:
        if operator.name not in visited:
            visited.add(operator.name)
            for reader in readers.get(operator.name, ()):
                visit(reader)
            finished.append(operator)

    with_constants = [item for item in by_name if item.kind in WEIGHTED | {"MEAN", "RESHAPE"}]
    for operator in (*with_constants, *by_name):
        visit(operator)
    return finished[::-1]


def _with_vector(operator: GraphOperator) -> tuple[GraphOperator, ...]:
    """A sum of maps of 1 x 1, and the RESHAPE before it; any other operator as it is.

    The file may have the RESHAPE earlier, anywhere behind what it reads.
    """
    if operator.kind != "ADD" or operator.output_shape[:2] != (1, 1):
        return (operator,)
    channels = operator.output_shape[-1]
    vector = GraphOperator(
        kind="RESHAPE",
        name=f"{operator.name}_vector",
        inputs=operator.inputs[1:],
        outputs=(f"{operator.name}_vector",),
        input_shape=operator.input_shape,
        output_shape=(channels,),
        layer=operator.layer,
    )
    inputs = (operator.inputs[0], vector.name)
    return vector, replace(operator, inputs=inputs, channels=channels)


def _operator(
    node: Node, layer: int, inputs: tuple[str, ...], read: Shape, written: Shape
) -> GraphOperator:
    operator = node.op
    make = functools.partial(
        GraphOperator,
        name=node.name,
        inputs=inputs,
        outputs=(node.name,),
        input_shape=read,
        output_shape=written,
        layer=layer,
    )
    if isinstance(operator, Conv2D):
        weights = math.prod(operator.window) * read[2] * operator.filters
        return make(
            kind="CONV_2D",
            kernel=operator.window,
            stride=(operator.stride, operator.stride),
            macs=weights * written[0] * written[1],
            weights=weights,
            channels=operator.filters,
            batch_norm=operator.batch_norm,
            activation=operator.activation,
        )
    if isinstance(operator, DepthwiseConv2D):
        weights = operator.kernel**2 * read[2]
        return make(
            kind="DEPTHWISE_CONV_2D",
            kernel=(operator.kernel, operator.kernel),
            stride=(operator.stride, operator.stride),
            macs=weights * written[0] * written[1],
            weights=weights,
            channels=read[2],
            batch_norm=operator.batch_norm,
            activation=operator.activation,
        )
    if isinstance(operator, Dense):
        weights = read[0] * operator.units
        return make(
            kind="FULLY_CONNECTED",
            macs=weights,
            weights=weights,
            channels=operator.units,
            activation=operator.activation,
        )
    if isinstance(operator, MaxPool2D | AveragePool2D):
        return make(
            kind="MAX_POOL_2D" if isinstance(operator, MaxPool2D) else "AVERAGE_POOL_2D",
            kernel=operator.window,
            stride=operator.window,
            padding="valid",
        )
    if isinstance(operator, Add):
        return make(kind="ADD", activation=operator.activation)
    if isinstance(operator, Flatten):
        return make(kind="RESHAPE")
    if isinstance(operator, GlobalAveragePool2D):
        return make(kind="MEAN")
    raise SpecError(f"node '{node.name}': no int8 operator for {operator.kind}.")


def _tensors(
    architecture: Architecture, operators: list[GraphOperator], outputs: tuple[str, ...]
) -> tuple[GraphTensor, ...]:
    image = architecture.input
    name = architecture.nodes[0].name
    sizes = {name: image.height * image.width * image.channels}
    first, last = {name: 0}, {name: 0}
    for index, operator in enumerate(operators, start=1):
        for tensor in operator.outputs:
            sizes[tensor] = operator.output_elements
            first[tensor] = last[tensor] = index
        for tensor in operator.inputs:
            last[tensor] = index
    for tensor in outputs:
        last[tensor] = len(operators)
    return tuple(
        GraphTensor(name=tensor, bytes=sizes[tensor], first=first[tensor], last=last[tensor])
        for tensor in sizes
    )
