"""The functions of a search space for one context; their errors name its file and line."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tuner.catalog import failed_at
from tuner.errors import SpecError, TuneError
from tuner.spec import Candidate, Choices, Context, SearchSpace, StartingPoint


def bound_draw(name: str, space: SearchSpace, context: Context) -> Callable[[Choices], Candidate]:
    """A space's `draw` for one context; its errors name the space and the line of its file."""

    def draw(choices: Choices) -> Candidate:
        with _named(name, space):
            drawn: object = space.draw(choices, context)
        if not isinstance(drawn, Candidate):
            raise SpecError(
                f"Expected draw of the search space '{name}' to return a Candidate. "
                f"Received: {drawn!r}."
            )
        return drawn

    return draw


def bound_points(name: str, space: SearchSpace, context: Context) -> Sequence[StartingPoint]:
    """A space's starting points for one context; errors as those of `bound_draw`."""
    with _named(name, space):
        points: tuple[object, ...] = tuple(space.starting_points(context))
    checked = []
    for point in points:
        if not isinstance(point, StartingPoint):
            raise SpecError(
                f"Expected starting_points of the search space '{name}' to return StartingPoints. "
                f"Received: {point!r}."
            )
        checked.append(point)
    return checked


@contextmanager
def _named(name: str, space: SearchSpace) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        file = getattr(space, "__file__", None)  # those made of other files have none
        if file is None or (isinstance(error, TuneError) and not isinstance(error, SpecError)):
            raise
        raise SpecError(failed_at("search space", name, Path(file), error)) from error
