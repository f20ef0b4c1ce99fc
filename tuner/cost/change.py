"""The nearest change that makes a net fit: a smaller input, or fewer filters."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import replace
from fractions import Fraction
from typing import TypeVar

from tuner.errors import SpecError
from tuner.spec import Architecture, Conv2D, Dense, Input, Node

_SHARES = tuple(Fraction(eighths, 8) for eighths in range(1, 8))

_Size = TypeVar("_Size", Fraction, tuple[int, int])


def nearest_change(architecture: Architecture, fits: Callable[[Architecture], bool]) -> str:
    """Say what would make a net fit, the smaller change first.

    Two changes are tried, each by itself: the largest smaller input of the same proportions, and
    the largest share of the filters, in eighths, without the layers that give the outputs. Both
    are found by bisection, as costs grow with the size.

    Args:
        architecture: a net that does not fit.
        fits: whether a changed net does; called about ten times.

    Returns:
        For example ``fits with an input of 80x80 instead of 96x96, or with 3/4 of the filters``
        (width x height); empty when neither change is enough.
    """
    image = architecture.input

    def with_input(size: tuple[int, int]) -> Architecture:
        return _with_input(architecture, *size)

    def with_share(share: Fraction) -> Architecture:
        return _with_share(architecture, share)

    found: list[tuple[float, str]] = []
    size = _largest(list(_smaller_inputs(image)), with_input, fits)
    if size:
        text = f"with an input of {size[1]}x{size[0]} instead of {image.width}x{image.height}"
        found.append((max(size) / max(image.height, image.width), text))
    share = _largest(_SHARES, with_share, fits)
    if share:
        found.append((float(share), f"with {share} of the filters"))
    found.sort(key=lambda change: -change[0])
    return "fits " + ", or ".join(text for _, text in found) if found else ""


def _largest(
    sizes: Iterable[_Size],
    change: Callable[[_Size], Architecture],
    fits: Callable[[Architecture], bool],
) -> _Size | None:
    """The largest of the rising sizes whose net fits; None when the smallest does not."""
    rising = list(sizes)

    def fitting(index: int) -> bool:
        try:
            return fits(change(rising[index]))
        except SpecError:  # a pool, sum or flat layer that such a size does not allow
            return False

    # Nets too small for their pools come first: skip them, they say nothing about the rest.
    start = next((index for index in range(len(rising)) if _is_net(change, rising[index])), None)
    if start is None or not fitting(start):
        return None
    low, high = start, len(rising)
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if fitting(middle) else (low, middle)
    return rising[low]


def _is_net(change: Callable[[_Size], Architecture], size: _Size) -> bool:
    try:
        change(size)
    except SpecError:
        return False
    return True


def _smaller_inputs(image: Input) -> Iterable[tuple[int, int]]:
    """Heights and widths of the same proportions, rising; the longer side in steps of 4 or 8."""
    longer = max(image.height, image.width)
    step = 8 if longer > 32 else 4
    for side in range(step, longer, step):
        height, width = (
            max(1, math.floor(length * side / longer)) for length in (image.height, image.width)
        )
        yield height, width


def _with_input(architecture: Architecture, height: int, width: int) -> Architecture:
    image = replace(architecture.input, height=height, width=width)
    first, *rest = architecture.nodes
    return replace(architecture, nodes=(replace(first, op=image), *rest))


def _with_share(architecture: Architecture, share: Fraction) -> Architecture:
    """The net with every width but those of the outputs scaled."""
    kept = _output_layers(architecture)
    return replace(
        architecture,
        nodes=tuple(
            node if node.name in kept else _scaled(node, share) for node in architecture.nodes
        ),
    )


def _output_layers(architecture: Architecture) -> set[str]:
    """The layers whose width is that of an output: the last with filters or units on the way."""
    by_name = {node.name: node for node in architecture.nodes}
    kept, left = set(), list(architecture.outputs)
    while left:
        node = by_name[left.pop()]
        if isinstance(node.op, Conv2D | Dense):
            kept.add(node.name)
        else:
            left += node.inputs
    return kept


def _scaled(node: Node, share: Fraction) -> Node:
    if isinstance(node.op, Conv2D):
        return replace(node, op=replace(node.op, filters=_scaled_width(node.op.filters, share)))
    if isinstance(node.op, Dense):
        return replace(node, op=replace(node.op, units=_scaled_width(node.op.units, share)))
    return node


def _scaled_width(width: int, share: Fraction) -> int:
    return max(1, math.floor(width * share))
