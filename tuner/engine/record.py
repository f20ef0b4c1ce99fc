"""A run while it goes on: its events, written as they happen, and the results they fold to."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from time import monotonic
from typing import Any

from tuner.engine.board import as_seen_by
from tuner.engine.steps import Steps
from tuner.rank.order import rank_results
from tuner.spec import Result, RunSpec, Target
from tuner.store.events import EventLog
from tuner.store.runs import RunFolder, fold_results

FINALISTS = 5
"""So many candidates of each target are trained again, if that is asked for, and measured by its
runtime's own tool, if it has one."""


class Record:
    """The memory of a run, whether new or resumed.

    Args:
        folder: of the run.
        log: of the run, open.
        started: `time.monotonic()` from which this session counts.
        tell: called with each event once it is on disk.
    """

    def __init__(
        self,
        folder: RunFolder,
        log: EventLog,
        started: float,
        tell: Callable[[Mapping[str, Any]], None],
    ) -> None:
        self.spec: RunSpec = folder.spec()
        self.events = folder.events()
        self.results = {result.index: result for result in fold_results(self.events)}
        self.steps = Steps(self.spec)
        for event in self.events:
            self.steps.take(event)
        self.session_start = len(self.events)
        """So many events are of earlier sessions."""
        used = max((event.get("elapsed", 0.0) for event in self.events), default=0.0)
        self._opened = started - used
        self._folder, self._log, self._tell = folder, log, tell

    @property
    def elapsed(self) -> float:
        """Seconds of all sessions."""
        return monotonic() - self._opened

    def note(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write an event down, and return it as written."""
        written = self._log.append(event, elapsed=round(self.elapsed, 2), **fields)
        self.events.append(written)
        self.steps.take(written)
        self._tell(written)
        return written

    def refold(self, index: int) -> Result:
        """Bring the result of a candidate up to its events."""
        events = [event for event in self.events if event.get("index") == index]
        self.results[index] = fold_results(events)[0]
        return self.results[index]

    def candidate_folder(self, index: int) -> Path:
        """Where the files of a candidate lie."""
        return self._folder.candidate(self.results[index].candidate.id)

    def finalists(self, target: Target, room: int) -> list[Result]:
        """The best for a target of those trained to their end, so many at most."""
        ended = [result for result in self.results.values() if result.status == "ok"]
        seen = [as_seen_by(result, target) for result in ended]
        rows = rank_results(seen, target.name, self.spec.rank_by) if seen else []
        return [row.result for row in rows if row.fits][:room]
