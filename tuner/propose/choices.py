"""Where the values of a draw come from: a seeded generator or a table."""

from __future__ import annotations

import math
import random
from collections.abc import Mapping, Sequence
from typing import Any

from tuner.spec.space import Option


class RandomChoices:
    """Draws evenly from a seeded generator and remembers what it drew in `taken`."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)
        self.taken: dict[str, Any] = {}

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        """One of the options, all equally likely."""
        self.taken[name] = value = self._random.choice(options)
        return value

    categorical = ordered

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number from low to high, evenly in its logarithm if `log`."""
        if log:
            value = math.exp(self._random.uniform(math.log(low), math.log(high)))
        else:
            value = self._random.uniform(low, high)
        self.taken[name] = value = min(high, max(low, value))
        return value


class TableChoices:
    """Takes values from a table; the first option or the lowest number where it names none.

    A value that is not among the options becomes the nearest smaller one, so that a table
    written for large images serves for small ones.
    """

    def __init__(self, table: Mapping[str, Any]) -> None:
        self._table = table
        self.taken: dict[str, Any] = {}

    def ordered(self, name: str, options: Sequence[Option]) -> Option:
        """The table's value, or the nearest option below it."""
        wanted = self._table.get(name, options[0])
        below = [option for option in options if option <= wanted]
        self.taken[name] = value = below[-1] if below else options[0]
        return value

    def categorical(self, name: str, options: Sequence[Option]) -> Option:
        """The table's value if it is an option, else the first option."""
        wanted = self._table.get(name, options[0])
        self.taken[name] = value = wanted if wanted in options else options[0]
        return value

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """The table's number, kept within low and high."""
        self.taken[name] = value = min(high, max(low, float(self._table.get(name, low))))
        return value
