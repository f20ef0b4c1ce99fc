"""What a SearchSpace is given and gives. A space imports nothing else of the tuner."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from tuner.spec.candidate import Candidate, Colour
from tuner.spec.target import Limits

Option = TypeVar("Option", int, float, str, bool)


class Choices(Protocol):
    """Where a draw gets its values from: a generator, a sampler or a fixed table.

    Every name is asked for at most once a draw, and always with the same options within a run.
    """

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        """Choose one of `options`, which have an order (sizes, widths)."""

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        """Choose one of `options`, which have no order."""

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Choose a number from `low` to `high`, evenly in its logarithm if `log`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Context:
    """What a space may know: one device, the images and the task, never the data itself.

    Args:
        limits: what a model may use.
        kernels: the kernel library of the target.
        accelerated: the target has an accelerator or the CPU of a Linux board.
        image_height: median height of the images, pixels.
        image_width: median width of the images, pixels.
        colour: `rgb` unless every image is grey.
        outputs: logits of the task.
    """

    limits: Limits
    kernels: str
    accelerated: bool
    image_height: int
    image_width: int
    colour: Colour
    outputs: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StartingPoint:
    """A known good net of the field in the words of a space.

    Args:
        name: as it is shown.
        sizes: values for the choices, from the largest to the smallest; the first that fits is
            used. What a table does not name is left at the first option or the lowest number.
    """

    name: str
    sizes: tuple[Mapping[str, Any], ...]


class SearchSpace(Protocol):
    """A file of `search_spaces/`: a module with these two functions.

    It may also define `suits(context) -> bool`; see the function of that name here.
    """

    def draw(self, choices: Choices, context: Context) -> Candidate:
        """Make one candidate from the values that `choices` gives."""

    def starting_points(self, context: Context) -> Sequence[StartingPoint]:
        """Known good nets, the best first."""


def suits(space: SearchSpace, context: Context) -> bool:
    """Whether a space offers itself for a device and images; one without `suits` always does."""
    answer: Callable[[Context], bool] | None = getattr(space, "suits", None)
    return answer is None or answer(context)
