"""Architecture -> the int8 TFLite graph that the converter emits, as data.

What the converter (TensorFlow 2.21, frozen function, batch 1) does with our operators:

* convolution, batch normalization and activation become one CONV_2D or DEPTHWISE_CONV_2D with
  per-channel weights and an int32 bias; there is a bias even when the layer had none;
* `same` padding stays an attribute, for any stride and for odd sizes: no PAD;
* the global pool becomes MEAN over a constant of two axes, without a RESHAPE;
* dense becomes FULLY_CONNECTED with per-channel weights; dropout leaves nothing;
* quantized inputs and outputs add no QUANTIZE or DEQUANTIZE;
* nodes that no output depends on are dropped.
"""

from __future__ import annotations

import dataclasses
import functools
import math
from dataclasses import dataclass
from typing import Literal

from tuner.errors import SpecError
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Shape,
)

Kind = Literal["CONV_2D", "DEPTHWISE_CONV_2D", "MAX_POOL_2D", "MEAN", "FULLY_CONNECTED"]

WEIGHTED: frozenset[Kind] = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED"})
"""Kinds with a weight and a bias tensor."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphOperator:
    """One operator of the int8 graph.

    Args:
        name: the node it comes from.
        kind: TFLite's name for it.
        inputs: activation tensors read.
        outputs: activation tensors written.
        input_shape: of the first input, without the batch.
        output_shape: of the output, without the batch.
        kernel: rows and columns of the window; 1 where there is none.
        stride: step of the window; 1 where there is none.
        macs: multiply-accumulates; 0 for pools and means.
        weight_bytes: int8 weights.
        channels: entries of each quantization vector and of the bias; 0 without weights.
        batch_norm: the node normalizes; changes the converter's names.
        activation: fused activation.
    """

    name: str
    kind: Kind
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]
    input_shape: Shape
    output_shape: Shape
    kernel: int = 1
    stride: int = 1
    macs: int = 0
    weight_bytes: int = 0
    channels: int = 0
    batch_norm: bool = False
    activation: str = "linear"

    @property
    def input_elements(self) -> int:
        """Elements of the first input."""
        return math.prod(self.input_shape)

    @property
    def output_elements(self) -> int:
        """Elements of the output."""
        return math.prod(self.output_shape)


@dataclass(frozen=True, slots=True, kw_only=True)
class GraphTensor:
    """One activation tensor.

    Args:
        name: the node that writes it.
        bytes: int8, so its elements.
        first: operator that writes it, counted from 1; 0 for the input.
        last: operator that reads it last; for outputs the last of the graph.
    """

    name: str
    bytes: int
    first: int
    last: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Graph:
    """The int8 graph, its tensors in the file's order.

    Args:
        operators: in the order of execution.
        tensors: activations, the input first.
        constants: weights, biases and the axes of means.
        outputs: names of the output tensors.
    """

    operators: tuple[GraphOperator, ...]
    tensors: tuple[GraphTensor, ...]
    constants: int
    outputs: tuple[str, ...]


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
    for node in architecture.nodes:
        if isinstance(node.op, Input):
            alias[node.name] = node.name
        elif isinstance(node.op, Dropout):
            alias[node.name] = alias[node.inputs[0]]
        else:
            alias[node.name] = node.name
            if node.name in needed:
                read = shapes[node.inputs[0]]
                inputs = tuple(alias[name] for name in node.inputs)
                operators.append(_operator(node, inputs, read, shapes[node.name]))
    if not operators:
        raise SpecError("expected at least one operator between the input and the outputs.")
    outputs = tuple(alias[name] for name in architecture.outputs)
    constants = sum(2 for operator in operators if operator.kind in WEIGHTED)
    # Means over the same axes share one constant.
    constants += any(operator.kind == "MEAN" for operator in operators)
    return Graph(
        operators=tuple(operators),
        tensors=_tensors(architecture, operators, outputs),
        constants=constants,
        outputs=outputs,
    )


def _needed(architecture: Architecture) -> set[str]:
    needed = set(architecture.outputs)
    for node in reversed(architecture.nodes):
        if node.name in needed:
            needed.update(node.inputs)
    return needed


def _operator(node: Node, inputs: tuple[str, ...], read: Shape, written: Shape) -> GraphOperator:
    operator = node.op
    common = GraphOperator(
        name=node.name,
        kind="MEAN",
        inputs=inputs,
        outputs=(node.name,),
        input_shape=read,
        output_shape=written,
    )
    replace = functools.partial(dataclasses.replace, common)
    if isinstance(operator, Conv2D):
        weights = operator.kernel**2 * read[2] * operator.filters
        return replace(
            kind="CONV_2D",
            kernel=operator.kernel,
            stride=operator.stride,
            macs=weights * written[0] * written[1],
            weight_bytes=weights,
            channels=operator.filters,
            batch_norm=operator.batch_norm,
            activation=operator.activation,
        )
    if isinstance(operator, DepthwiseConv2D):
        weights = operator.kernel**2 * read[2]
        return replace(
            kind="DEPTHWISE_CONV_2D",
            kernel=operator.kernel,
            stride=operator.stride,
            macs=weights * written[0] * written[1],
            weight_bytes=weights,
            channels=read[2],
            batch_norm=operator.batch_norm,
            activation=operator.activation,
        )
    if isinstance(operator, Dense):
        weights = read[0] * operator.units
        return replace(
            kind="FULLY_CONNECTED",
            macs=weights,
            weight_bytes=weights,
            channels=operator.units,
            activation=operator.activation,
        )
    if isinstance(operator, MaxPool2D):
        return replace(kind="MAX_POOL_2D", kernel=operator.size, stride=operator.size)
    if isinstance(operator, GlobalAveragePool2D):
        return common
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
