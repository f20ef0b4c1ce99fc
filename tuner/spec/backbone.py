"""A Backbone: the layers of a trained net up to its head, and the weights they had."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

from tuner.errors import SpecError
from tuner.spec.architecture import Architecture, Node, Shape
from tuner.spec.candidate import Preprocessing
from tuner.spec.operators import (
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
)

Head = Literal["mean", "map"]
"""What the classifier reads: the mean of the last map, or all of it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class WeightsFile:
    """Weights of a backbone.

    Args:
        weights: their fingerprint, which is also the file's name.
        side: of the square input that they were trained for, pixels; None serves any size.
    """

    weights: str
    side: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Backbone:
    """Layers that are taken over from a trained net.

    Args:
        name: as it is shown.
        architecture: of the layers alone, its output the last of them; another input size keeps
            the weights' shapes.
        files: weights to begin with; one, or one for each side.
        head: of the net that the layers come from; a new one reads the same.
        scaling: of the pixels that the net was trained with; see Preprocessing.
        trained_side: of the input that the net was trained with, pixels; None if not known.
    """

    name: str
    architecture: Architecture
    files: tuple[WeightsFile, ...]
    head: Head = "mean"
    scaling: Literal["unit", "signed"] = "signed"
    trained_side: int | None = None

    def __post_init__(self) -> None:
        sides = [item.side for item in self.files]
        if not sides or (len(sides) > 1 and (None in sides or len(set(sides)) < len(sides))):
            raise SpecError(
                f"expected one weights file, or one for each side. Received: sides={sides}."
            )

    @property
    def sides(self) -> tuple[int, ...]:
        """Sides that there are weights for, ascending; empty if they serve any."""
        return tuple(sorted(item.side for item in self.files if item.side is not None))

    def weights_at(self, side: int) -> str:
        """Fingerprint of the weights for an input of this side."""
        return next(item.weights for item in self.files if item.side in (None, side))


def split_at_head(architecture: Architecture) -> tuple[tuple[Node, ...], Head]:
    """The nodes of a net up to its head, and what the head reads.

    The head begins with the first global pool or flattening, and is a chain of dense and dropout
    layers from there on.

    Raises:
        SpecError: the net has no such head, or nothing with weights before it.
    """
    nodes = architecture.nodes
    ends = (GlobalAveragePool2D, Flatten)
    first = next((i for i, node in enumerate(nodes) if isinstance(node.op, ends)), None)
    if first is None or not any(has_weights(node) for node in nodes[:first]):
        raise SpecError(
            "expected convolutions, then a global_average_pool2d or flatten, then dense layers. "
            f"Received: {', '.join(dict.fromkeys(node.op.kind for node in nodes))}."
        )
    for before, node in zip(nodes[first - 1 :], nodes[first:], strict=False):
        chained = node.inputs == (before.name,)
        if not chained or not isinstance(node.op, (*ends, Dense, Dropout)):
            raise SpecError(
                f"expected only dense and dropout layers, each reading the one before, from "
                f"'{nodes[first].name}' on. Received: '{node.name}' ({node.op.kind})."
            )
    return nodes[:first], "map" if isinstance(nodes[first].op, Flatten) else "mean"


def has_weights(node: Node) -> bool:
    """Whether a node has weights."""
    return isinstance(node.op, Conv2D | DepthwiseConv2D | Dense)


def weight_shapes(architecture: Architecture) -> dict[str, Shape]:
    """Shapes of the weights of a net's convolutions, in the order of nodes.

    Named as `tuner.train.build.build_keras` names layers: `n3/0` is the kernel of node 3, or
    `n3/1` its bias; `n3b/0` to `n3b/3` are gamma, beta, mean and variance of its batch
    normalization.

    Args:
        architecture: convolutions only, no dense layers.
    """
    shapes = architecture.shapes()
    found: dict[str, Shape] = {}
    for index, node in enumerate(architecture.nodes):
        operator = node.op
        if not isinstance(operator, Conv2D | DepthwiseConv2D):
            continue
        channels = shapes[node.inputs[0]][-1]
        if isinstance(operator, Conv2D):
            found[f"n{index}/0"] = (*operator.window, channels, operator.filters)
        else:
            found[f"n{index}/0"] = (operator.kernel, operator.kernel, channels, 1)
        width = shapes[node.name][-1]
        if operator.batch_norm:
            found |= {f"n{index}b/{part}": (width,) for part in range(4)}
        else:
            found[f"n{index}/1"] = (width,)
    return found


def at_side(architecture: Architecture, preprocessing: Preprocessing) -> Architecture:
    """The same layers for another input size.

    Raises:
        SpecError: a layer cannot read what is left of so small an image.
    """
    image = Input(
        height=preprocessing.height, width=preprocessing.width, channels=preprocessing.channels
    )
    first = replace(architecture.nodes[0], op=image)
    return replace(architecture, nodes=(first, *architecture.nodes[1:]))


def with_head(architecture: Architecture, head: Head, dropout: float, outputs: int) -> Architecture:
    """A backbone's layers with a new classifier.

    Args:
        architecture: of the backbone.
        head: what the classifier reads.
        dropout: share of its inputs that are dropped in training.
        outputs: logits.
    """
    flat = Flatten() if head == "map" else GlobalAveragePool2D()
    added: list[tuple[str, Flatten | GlobalAveragePool2D | Dropout | Dense]] = [("pool", flat)]
    if dropout > 0:
        added.append(("dropout", Dropout(rate=dropout)))
    added.append(("logits", Dense(units=outputs)))
    nodes: list[Node] = list(architecture.nodes)
    taken = {node.name for node in nodes}
    for name, operator in added:
        free = f"head_{name}" if name in taken else name
        nodes.append(Node(name=free, op=operator, inputs=(nodes[-1].name,)))
    return Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,))
