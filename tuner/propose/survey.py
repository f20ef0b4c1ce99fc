"""What a search space asks for, found by drawing; and whether it asks as `Choices` demands."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from tuner.errors import SpecError
from tuner.propose.bound import bound_draw, bound_points
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Candidate, Choices, Context, Limits, SearchSpace, StartingPoint
from tuner.spec.space import Option

DRAWS = 100

Kind = Literal["ordered", "categorical", "floating"]


def _context(ram_bytes: int | None, side: int) -> Context:
    return Context(
        limits=Limits(ram_bytes=ram_bytes),
        kernels="reference",
        accelerated=ram_bytes is None,
        image_height=side,
        image_width=side + 1,  # not square, so that how to crop is asked
        colour="rgb",
        outputs=10,
    )


CONTEXTS = (_context(32 * 1024, 32), _context(256 * 1024, 96), _context(None, 320))
"""A very small device and small images, a microcontroller, and no limits with large images."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Survey:
    """What a space asks for and starts from.

    Args:
        choices: kind and options of each choice, from a very small device to a large one; of a
            `floating` choice the ends of its range. One that hardly any draw asks for may be
            left out.
        starting_points: for the last of the devices, the largest of the usual ones.
    """

    choices: Mapping[str, tuple[Kind, Sequence[Any]]]
    starting_points: Sequence[StartingPoint]


def survey_space(name: str, space: SearchSpace, contexts: Sequence[Context] = CONTEXTS) -> Survey:
    """Draw from a space at random and from its starting points.

    Args:
        name: of the space.
        space: its module.
        contexts: the devices and images to draw for.

    Raises:
        SpecError: a draw fails, asks for a name twice, offers ordered options that do not ascend,
            or never asks for what a starting point names.
    """
    found: dict[str, tuple[Kind, dict[Any, None]]] = {}

    def drawn(context: Context, source: Choices) -> Candidate:
        return bound_draw(name, space, context)(_Asked(source, found))

    for context in contexts:
        for seed in range(DRAWS):
            drawn(context, RandomChoices(seed))
    points = [bound_points(name, space, context) for context in contexts]
    # All are drawn before any is checked: some choices are asked for by few nets alone.
    for context, of_context in zip(contexts, points, strict=True):
        for table in (table for point in of_context for table in point.sizes):
            drawn(context, TableChoices(table))
    for point in (point for of_context in points for point in of_context):
        _check_names(name, point, found)
    choices = {choice: (kind, list(options)) for choice, (kind, options) in found.items()}
    return Survey(choices=choices, starting_points=points[-1])


def _check_names(name: str, point: StartingPoint, asked: Iterable[str]) -> None:
    for choice in (choice for table in point.sizes for choice in table):
        if choice not in asked:
            close = difflib.get_close_matches(choice, asked, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise SpecError(
                f"The search space '{name}': expected the starting point '{point.name}' to name "
                f"choices that draw asks for. Received: '{choice}'.{hint} "
                f"Known: {', '.join(asked)}."
            )


class _Asked:
    """Passes the choices of one draw on to a source and notes what was asked."""

    def __init__(self, source: Choices, found: dict[str, tuple[Kind, dict[Any, None]]]) -> None:
        self._source, self._found = source, found
        self._names: set[str] = set()

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        if list(options) != sorted(options):
            raise SpecError(
                f"expected the options of the ordered choice '{name}' to ascend. "
                f"Received: {', '.join(map(repr, options))}. What has no order is categorical."
            )
        self._note(name, "ordered", options)
        return self._source.ordered(name, options)

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        self._note(name, "categorical", options)
        return self._source.categorical(name, options)

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        self._note(name, "floating", (low, high))
        return self._source.floating(name, low, high, log=log)

    def _note(self, name: str, kind: Kind, options: Sequence[Any]) -> None:
        if name in self._names:
            raise SpecError(f"expected a choice to be asked for once a draw. Received: '{name}'.")
        self._names.add(name)
        self._found.setdefault(name, (kind, {}))[1].update(dict.fromkeys(options))
