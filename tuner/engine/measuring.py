"""When finalists are measured: each target's best, in slots that have time for it, never twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tuner.cost.fit import check_limits
from tuner.engine import finalists
from tuner.engine.plan import MEASURED_IN_FULL
from tuner.engine.record import FINALISTS, Record
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.workplace import ATTEMPTS, GivenUp, Running, Workplace
from tuner.spec import Quantity, Result, Target, from_plain, to_plain

FIRST_IMAGES = 100
"""With a clock, each finalist is simulated on so many validation images first; then on all, the
best first, in the time that is left. Without one, it is all of them at once."""

SHORT_SECONDS = 15.0
"""While others train, a simulation on all images gets at least so long: starting one takes 5 s."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Job:
    """A measurement of one finalist.

    Args:
        names: the targets.
        images: of validation; None for all.
        seconds: after so many, images are left out.
        processes: simulators that run at once.
    """

    names: Sequence[str]
    images: int | None
    seconds: float | None
    processes: int


class Measuring:
    """Starts measurements and notes what they gave.

    What a measurement puts over a limit, or a simulation below others, makes way for others, which
    are measured in turn.

    Args:
        record: of the run.
        work: its slots.
        say: called with a line that the user should read.
    """

    def __init__(self, record: Record, work: Workplace, say: Callable[[str], None]) -> None:
        self._record, self._work, self._say = record, work, say
        self._asked: set[tuple[int, str, int | None, bool]] = set()
        self._said: set[str] = set()
        self._all_measured_at = -1
        self._going: dict[int, _Job] = {}

    def is_of(self, job: Running) -> bool:
        """Whether a job measures a candidate; the others train one."""
        return job.key in self._going

    def start(
        self, slot: Slot, room: int, search_seconds: float | None = None, yields: bool = False
    ) -> bool:
        """Measure a finalist in a free slot; False if there is none to measure now.

        With a clock that has run out, the best alone is measured, and only if it was not.

        Args:
            slot: a free one.
            room: so many of each target's best are finalists in any case, whatever else may still
                be trained to its end: the same ones are measured whenever slots have time for it.
            search_seconds: with a clock and while others train, until that ends. Then all are
                asked for again, the best first, as one that ended last may be the best.
            yields: to a training on all cores.

        The last one that waits has the simulators of all slots, if nothing else is running.
        """
        left = self._seconds_left()
        late = left is not None and left <= 0
        if room <= 0 or self._all_measured_at == len(self._record.events):
            return False
        first, beside = None if left is None else FIRST_IMAGES, False
        wanted = self._wanted(1 if late else room, first, beside)
        if not wanted and left is not None and not late:
            first, beside = None, room < FINALISTS
            if beside and search_seconds is not None and search_seconds >= SHORT_SECONDS:
                left = search_seconds
                wanted = self._wanted(room - (FINALISTS - MEASURED_IN_FULL), first, beside)
            elif not beside:
                wanted = self._wanted(room, first, beside)
        if not wanted:
            self._all_measured_at = len(self._record.events)
            return False
        busy = {job.key for job in self._work.running}
        index = next((index for index in wanted if index not in busy), None)
        if index is None:
            return False
        self._asked.update((index, name, first, beside) for name in wanted[index])
        if yields:
            self._work.set_worker(slot, 1, 1, yields=True)
        seconds = left if first is None else None
        alone = len(wanted) == 1 and not self._work.running
        processes = len(self._work.slots) if alone else 1
        job = _Job(names=wanted[index], images=first, seconds=seconds, processes=processes)
        self._measure(slot, self._record.results[index], job, attempt=1)
        return True

    def _seconds_left(self) -> float | None:
        """With a clock, until the run should end."""
        budget = self._record.spec.budget_seconds
        return None if budget is None else budget - self._record.elapsed

    def _wanted(self, room: int, images: int | None, beside: bool) -> dict[int, list[str]]:
        """Finalists that were not asked for by targets of theirs, the best first.

        Args:
            room: so many of each target's best.
            images: to simulate them on; None for all.
            beside: all of them, as long as others train.
        """
        wanted: dict[int, list[str]] = {}
        for target in filter(finalists.can_measure, self._record.spec.targets):
            for result in self._record.finalists(target, max(0, room)):
                if (result.index, target.name, images, beside) in self._asked:
                    continue
                if target.name not in result.unmeasured and not self._has(result, target, images):
                    wanted.setdefault(result.index, []).append(target.name)
        return wanted

    def _has(self, result: Result, target: Target, images: int | None) -> bool:
        """Whether a candidate was measured for a target, and simulated on so many images."""
        own = result.builds.get("target")
        if own is None or images is not None:
            return target.name in result.measured
        return own.paired["validation"].images == self._record.spec.dataset.counts["validation"]

    def _measure(self, slot: Slot, result: Result, job: _Job, attempt: int) -> None:
        folder = self._record.candidate_folder(result.index)
        self._going[result.index] = job
        self._work.start(
            slot,
            result.index,
            finalists.measure_builds,
            to_plain(self._record.spec),
            folder,
            to_plain(result.candidate),
            to_plain(result.builds),
            job.names,
            job.images,
            job.seconds,
            job.processes,
            progress=folder / "measuring.json",
            attempt=attempt,
        )

    def collect(self, job: Running, outcome: Any) -> None:
        """Note what a measurement gave; one whose worker died is tried once more."""
        result = self._record.results[job.key]
        asked = self._going.pop(job.key)
        if isinstance(outcome, Died) and job.attempt < ATTEMPTS:
            left = self._seconds_left()
            if asked.seconds is not None and left is not None:
                asked = dataclasses.replace(asked, seconds=min(asked.seconds, left))
            self._measure(job.slot, result, asked, job.attempt + 1)
            return
        if isinstance(outcome, Died | Raised | GivenUp):
            self._say(f"{result.candidate.id}: measuring: {outcome.reason}")
            outcome = {"unmeasured": dict.fromkeys(asked.names, f"Not measured: {outcome.reason}")}
        else:
            for reason in {*outcome["prevented"], *outcome["unmeasured"].values()} - self._said:
                self._say(reason)
                self._said.add(reason)
        measured = outcome.get("measured", {})
        unmeasured = {
            name: why for name, why in outcome["unmeasured"].items() if name not in result.measured
        }
        if measured or unmeasured:
            self._record.note(
                "measured",
                index=result.index,
                measured=measured,
                over=self._over_when_measured(result, measured),
                builds=outcome.get("builds", {}),
                unmeasured=unmeasured,
            )
            self._record.refold(result.index)

    def _over_when_measured(
        self, result: Result, measured: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Limits that candidates exceed by what was measured in place of what was estimated."""
        over = {}
        for target in self._record.spec.targets:
            known = {
                name: from_plain(Quantity, quantity, "measured")
                for name, quantity in measured.get(target.name, {}).items()
            }
            if known:
                cost = result.costs[target.name]
                cost = dataclasses.replace(
                    cost,
                    ram_bytes=known.get("ram_bytes", cost.ram_bytes),
                    flash_bytes=known.get("flash_bytes", cost.flash_bytes),
                    latency_ms=known.get("latency_ms", cost.latency_ms),
                )
                over[target.name] = to_plain(check_limits(cost, target.model_limits).over)
        return over
