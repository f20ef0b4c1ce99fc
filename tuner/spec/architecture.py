"""An Architecture: named nodes in topological order, as data."""

from __future__ import annotations

import dataclasses
import typing
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner.errors import SpecError, UnknownNameError
from tuner.spec.codec import convert_fields, to_plain
from tuner.spec.operators import (
    OPERATORS,
    Add,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Operator,
)

Shape = tuple[int, ...]
"""Height, width, channels; or features alone after the global pool."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """One named operator and the names of the nodes it reads."""

    name: str
    op: Operator
    inputs: tuple[str, ...] = ()

    def __to_plain__(self) -> dict[str, Any]:
        plain: dict[str, Any] = {"name": self.name, "op": self.op.kind, "inputs": list(self.inputs)}
        for field in dataclasses.fields(self.op):
            value = getattr(self.op, field.name)
            if value is not None:  # what is left at "as the other side" changes no id
                plain[field.name] = to_plain(value)
        return plain

    @classmethod
    def __from_plain__(cls, data: Any, where: str) -> Node:
        if not isinstance(data, Mapping) or "name" not in data or "op" not in data:
            raise SpecError(f"{where}: expected a node with 'name' and 'op'. Received: {data!r}.")
        settings = {str(key): value for key, value in data.items()}
        name, kind = str(settings.pop("name")), str(settings.pop("op"))
        inputs = tuple(str(item) for item in settings.pop("inputs", ()))
        if kind not in OPERATORS:
            raise SpecError(f"{where} '{name}': {UnknownNameError('op', kind, OPERATORS)}")
        operator = convert_fields(OPERATORS[kind], settings, f"{where} '{name}'")
        return cls(name=name, op=operator, inputs=inputs)


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """A net as data.

    Args:
        nodes: in topological order; the first is the only `Input`.
        outputs: names of the nodes that the task's head reads as logits.
    """

    nodes: tuple[Node, ...]
    outputs: tuple[str, ...]

    def __post_init__(self) -> None:
        if not self.nodes or not isinstance(self.nodes[0].op, Input):
            raise SpecError("expected the first node to be an 'input'.")
        seen: set[str] = set()
        for node in self.nodes:
            if node.name in seen:
                raise SpecError(f"node names must differ. Received '{node.name}' twice.")
            if len(node.inputs) != node.op.inputs:
                raise SpecError(
                    f"node '{node.name}' ({node.op.kind}) reads {node.op.inputs} node(s). "
                    f"Received: inputs={list(node.inputs)}."
                )
            for name in node.inputs:
                if name not in seen:
                    raise SpecError(
                        f"node '{node.name}' reads '{name}', which is not a node before it."
                    )
            seen.add(node.name)
        if not self.outputs or any(name not in seen for name in self.outputs):
            raise SpecError(f"outputs must name nodes of the net. Received: {list(self.outputs)}.")
        self.shapes()

    @property
    def input(self) -> Input:
        """The image that the net reads."""
        return typing.cast(Input, self.nodes[0].op)

    def shapes(self) -> dict[str, Shape]:
        """Output shape of each node, without the batch dimension.

        Raises:
            SpecError: a node cannot read what its input gives.
        """
        shapes: dict[str, Shape] = {}
        for node in self.nodes:
            shapes[node.name] = _output_shape(node, [shapes[name] for name in node.inputs])
        return shapes


def _output_shape(node: Node, inputs: list[Shape]) -> Shape:
    operator = node.op
    if isinstance(operator, Input):
        return (operator.height, operator.width, operator.channels)
    shape = inputs[0]
    if isinstance(operator, Dropout):
        return shape
    if isinstance(operator, Add):
        if inputs[1] != shape:
            raise SpecError(
                f"node '{node.name}' adds two inputs of one shape. "
                f"Received the shapes {shape} and {inputs[1]}."
            )
        return shape
    if isinstance(operator, Dense):
        if len(shape) != 1:
            raise SpecError(
                f"node '{node.name}' (dense) reads a flat input; put a global_average_pool2d "
                f"or flatten before it. Received the shape {shape}."
            )
        return (operator.units,)
    if len(shape) != 3:
        raise SpecError(
            f"node '{node.name}' ({operator.kind}) reads height x width x channels. "
            f"Received the shape {shape}."
        )
    height, width, channels = shape
    if isinstance(operator, GlobalAveragePool2D):
        return (channels,)
    if isinstance(operator, Flatten):
        return (height * width * channels,)
    if isinstance(operator, MaxPool2D | AveragePool2D):
        rows, columns = operator.window
        if height < rows or width < columns:
            raise SpecError(f"node '{node.name}' pools {rows}x{columns} over {height}x{width}.")
        return (height // rows, width // columns, channels)
    out_height, out_width = -(-height // operator.stride), -(-width // operator.stride)
    if isinstance(operator, Conv2D):
        return (out_height, out_width, operator.filters)
    if isinstance(operator, DepthwiseConv2D):
        return (out_height, out_width, channels)
    raise SpecError(f"node '{node.name}': no shape rule for {operator.kind}.")
