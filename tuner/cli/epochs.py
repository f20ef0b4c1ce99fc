"""A training while it goes on: one line with its newest epoch and the curve so far."""

from __future__ import annotations

import itertools
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TextIO

LEVELS = "▁▂▃▄▅▆▇█"
WIDEST, NARROWEST = 24, 6
"""Letters of a curve; where fewer fit there is none."""

EVERY_SECONDS = 5.0
"""Without a terminal, whose line is written anew, a line is added so often."""


def sparkline(values: Sequence[float], width: int) -> str:
    """A curve in block letters, from the lowest of the values to the highest.

    Args:
        values: one or more.
        width: letters at most; each stands for the mean of its part of the values.
    """
    count = min(width, len(values))
    edges = [index * len(values) // count for index in range(count + 1)]
    means = [sum(values[start:end]) / (end - start) for start, end in itertools.pairwise(edges)]
    low, span = min(means), max(means) - min(means)
    return "".join(LEVELS[round((len(LEVELS) - 1) * (mean - low) / (span or 1))] for mean in means)


class EpochLine:
    """Shows a training on a terminal, as one line written again and again, or in a log.

    Args:
        sink: the terminal or the log.
        columns: of the terminal.
        now: seconds of a clock that only goes forward.
    """

    def __init__(
        self, sink: TextIO, columns: int, now: Callable[[], float] = time.monotonic
    ) -> None:
        self._sink, self._columns, self._now = sink, columns, now
        self._terminal = sink.isatty()
        self._accuracies: list[float] = []
        self._number = 0
        self._open = False
        self._written = -EVERY_SECONDS

    def show(self, epoch: Mapping[str, Any]) -> None:
        """Show the newest epoch, plain; what is known already is left out."""
        if epoch["number"] == self._number:
            return
        self._number = epoch["number"]
        self._accuracies.append(epoch["validation_accuracy"])
        if self._terminal:
            print(f"\r{self._line(epoch)}\033[K", end="", file=self._sink, flush=True)
            self._open = True
        elif self._now() - self._written >= EVERY_SECONDS or epoch["number"] == epoch["planned"]:
            self._written = self._now()
            print(self._line(epoch), file=self._sink, flush=True)

    def note(self, text: str) -> None:
        """Write a line of its own."""
        self.end()
        print(text, file=self._sink, flush=True)

    def end(self) -> None:
        """Leave the line as it is, and go below it."""
        if self._open:
            print(file=self._sink, flush=True)
        self._open = False

    def _line(self, epoch: Mapping[str, Any]) -> str:
        number, planned, seconds = epoch["number"], epoch["planned"], epoch["seconds"]
        line = (
            f"epoch {number}/{planned}  loss {epoch['loss']:.3f}  "
            f"validation {100 * self._accuracies[-1]:.1f} % "
            f"(best {100 * epoch['best_validation_accuracy']:.1f})  "
            f"{_clock(seconds)}/{_clock(seconds * planned / number)}"
            + ("  QAT" if epoch.get("quantization_aware") else "")
        )
        room = min(WIDEST, self._columns - len(line) - 3)
        return line if room < NARROWEST else f"{line}  {sparkline(self._accuracies, room)}"


def _clock(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes}:{rest:02}"
