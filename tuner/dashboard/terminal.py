"""Progress on stderr, drawn with Rich, and how figures are written."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Any

from tuner.engine.supervisor import Progress
from tuner.rank.order import (
    Estimate,
    best_accuracy,
)
from tuner.spec import Accuracy, Result, RunSpec

if TYPE_CHECKING:
    from collections.abc import Iterator

    from rich.console import RenderableType


REFRESH_SECONDS = 0.5
WIDTH = 30

SHORT_ID = 7
"""Letters of an id where there is little room; any command takes a unique beginning."""


def percent(accuracy: Accuracy | Estimate | None, *, error: bool = False) -> str:
    """An accuracy in percent, with its standard error if wanted."""
    if accuracy is None:
        return "-"
    text = f"{accuracy.value:.1%}".rstrip("%")
    if not error:
        return text
    text += f" ±{100 * accuracy.standard_error:.1f}"
    if isinstance(accuracy, Estimate) and accuracy.trainings > 1:
        text += f" ({accuracy.trainings})"
    return text


def milliseconds(value: float) -> str:
    """A latency with two significant digits, not below a hundredth."""
    if value < 0.01:
        return "<0.01"
    return f"{value:.0f}" if value >= 10 else f"{value:.2g}"


def input_text(result: Result) -> str:
    """The input of a candidate, for example `48x48 rgb`."""
    pixels = result.candidate.preprocessing
    return f"{pixels.width}x{pixels.height} {pixels.colour}"


def clock(seconds: float) -> str:
    """Minutes and seconds."""
    return f"{int(seconds) // 60}:{int(seconds) % 60:02d}"


class LiveProgress:
    """Shows a search on stderr: one bar, the best so far, and what runs.

    Without a terminal it writes one line for each candidate that ends.
    """

    def __init__(self, spec: RunSpec, live: Any) -> None:
        self._spec = spec
        self._live = live
        self._drawn = 0.0
        self._reported: set[tuple[int, int]] = set()
        self._phase = ""

    def note(self, text: str) -> None:
        """One line worth keeping."""
        with suppress(OSError):  # the terminal may have gone; the search goes on
            if self._live is not None:
                self._live.console.print(text, highlight=False, markup=False)
            else:
                print(text, file=sys.stderr)

    def update(self, progress: Progress) -> None:
        """Draw what has changed."""
        with suppress(OSError):
            self._draw(progress)

    def _draw(self, progress: Progress) -> None:
        for result in progress.finished:
            if (result.index, result.epochs) not in self._reported:
                self._reported.add((result.index, result.epochs))
                if self._live is None:
                    print(_ended_line(result, progress), file=sys.stderr)
        if self._live is None:
            if progress.phase != self._phase:
                self._phase = progress.phase
                print(f"{progress.phase} ...", file=sys.stderr)
            return
        now = time.monotonic()
        if now - self._drawn >= REFRESH_SECONDS:
            self._drawn = now
            self._live.update(_live_text(progress, self._spec))


def _ended_line(result: Result, progress: Progress) -> str:
    name = f"[{clock(progress.elapsed_seconds)}] {result.candidate.id} {input_text(result)}"
    if result.status not in ("ok", "stopped", None):
        return f"{name}: {result.status}"
    if result.accuracy("int8") is None:
        return f"{name}: stopped, {result.reason}"
    accuracy = percent(result.accuracy("int8"), error=True)
    state = "ok" if result.status == "ok" else f"rung {result.rung}"
    return (
        f"{name}: {state}, int8 {accuracy} %, {result.epochs} epochs, "
        f"{result.train_seconds:.0f} s ({result.origin})"
        + (f"; {result.reason}" if result.status == "stopped" else "")
    )


def _live_text(progress: Progress, spec: RunSpec) -> RenderableType:
    from rich.text import Text

    done = len(progress.finished)
    running = sum(result.status is None for result, _ in progress.running)
    shares = [0.0]
    left = ""
    before = spec.extended[-1] if spec.extended else None
    if spec.max_candidates is not None:
        more = max(0, spec.max_candidates - done)
        shares.append(1.0 - more / (spec.max_candidates - (before.started[0] if before else 0)))
        left = f", {max(0, more - running)} to go"
    if progress.budget_seconds is not None:
        seconds = max(0.0, progress.budget_seconds - progress.elapsed_seconds)
        given = progress.budget_seconds - (before.elapsed_seconds if before else 0.0)
        shares.append(1.0 - seconds / given)
        left += f", {clock(seconds)} left"
    full = min(WIDTH, round(WIDTH * max(shares)))
    text = Text()
    text.append("█" * full, style="green")
    text.append("░" * (WIDTH - full), style="dim")
    text.append(f" {done} trained, {running} running{left}\n")
    text.append(f"{progress.phase}; best so far: {_bests_text(progress, spec)}\n")
    for result, epoch in progress.running:
        state = "measuring" if result.status else _epoch_text(epoch) if epoch else "starting"
        text.append(f"  {result.candidate.id} {input_text(result):<12} {state}\n", style="dim")
    return text


def _bests_text(progress: Progress, spec: RunSpec) -> str:
    """The best accuracy so far; of several targets, the range of their bests."""
    found = [
        best
        for target in spec.targets
        if (best := best_accuracy(progress.finished, target.name, spec.rank_by)) is not None
    ]
    if not found:
        return "-"
    low, high = min(found, key=_value), max(found, key=_value)
    if len(spec.targets) == 1:
        return f"{percent(high, error=True)} %"
    return f"{percent(low)} to {percent(high)} % on {len(found)} of {len(spec.targets)} targets"


def _value(accuracy: Accuracy) -> float:
    return accuracy.value


def _epoch_text(epoch: Mapping[str, Any]) -> str:
    return (
        f"epoch {epoch['number']}/{epoch['planned']}, "
        f"validation {100 * epoch['validation_accuracy']:.1f} %"
    )


@contextmanager
def live_progress(spec: RunSpec) -> Iterator[LiveProgress]:
    """A LiveProgress that redraws itself where stderr is a terminal."""
    if not sys.stderr.isatty():
        yield LiveProgress(spec, None)
        return
    from rich.console import Console
    from rich.live import Live

    with Live(console=Console(stderr=True), transient=True, auto_refresh=True) as live:
        yield LiveProgress(spec, live)
