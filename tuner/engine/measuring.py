"""When finalists are measured: each target's best, in slots that have time for it, never twice."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from tuner.cost.fit import check_limits
from tuner.engine import finalists
from tuner.engine.record import FINALISTS, Record
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.workplace import ATTEMPTS, GivenUp, Running, Workplace
from tuner.spec import Quantity, Result, from_plain, to_plain

SIMULATED_SHARE = 0.3
"""Of the budget, in one slot, for running finalists of a target in its simulator."""


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
        self._asked: set[tuple[int, str]] = set()
        self._said: set[str] = set()
        self._all_measured_at = -1
        self._going: set[int] = set()

    def is_of(self, job: Running) -> bool:
        """Whether a job measures a candidate; the others train one."""
        return job.key in self._going

    def start(self, slot: Slot, room: int) -> bool:
        """Measure a finalist in a free slot; False if there is none to measure now.

        Args:
            slot: a free one.
            room: so many of each target's best are finalists in any case, whatever else may still
                be trained to its end: the same ones are measured whenever slots have time for it.
        """
        if room <= 0 or self._all_measured_at == len(self._record.events):
            return False
        wanted: dict[int, list[str]] = {}
        for target in filter(finalists.can_measure, self._record.spec.targets):
            for result in self._record.finalists(target, room):
                asked = (result.index, target.name) in self._asked
                known = target.name in {**result.measured, **result.unmeasured}
                if not asked and not known:
                    wanted.setdefault(result.index, []).append(target.name)
        if not wanted:
            self._all_measured_at = len(self._record.events)
            return False
        busy = {job.key for job in self._work.running}
        index = next((index for index in wanted if index not in busy), None)
        if index is None:
            return False
        names = wanted[index]
        self._asked.update((index, name) for name in names)
        self._measure(slot, self._record.results[index], names, attempt=1)
        return True

    def _measure(self, slot: Slot, result: Result, names: Sequence[str], attempt: int) -> None:
        budget = self._record.spec.budget_seconds
        folder = self._record.candidate_folder(result.index)
        self._going.add(result.index)
        self._work.start(
            slot,
            result.index,
            finalists.measure_builds,
            to_plain(self._record.spec),
            folder,
            to_plain(result.candidate),
            to_plain(result.builds),
            names,
            None if budget is None else SIMULATED_SHARE * budget / FINALISTS,
            progress=folder / "measuring.json",
            attempt=attempt,
        )

    def collect(self, job: Running, outcome: Any) -> None:
        """Note what a measurement gave; one whose worker died is tried once more."""
        result = self._record.results[job.key]
        self._going.discard(job.key)
        asked = {name for index, name in self._asked if index == job.key}
        names = sorted(asked - {*result.measured, *result.unmeasured})
        if isinstance(outcome, Died) and job.attempt < ATTEMPTS:
            self._measure(job.slot, result, names, job.attempt + 1)
            return
        if isinstance(outcome, Died | Raised | GivenUp):
            self._say(f"{result.candidate.id}: measuring: {outcome.reason}")
            outcome = {"unmeasured": dict.fromkeys(names, f"Not measured: {outcome.reason}")}
        else:
            for reason in {*outcome["missing"], *outcome["unmeasured"].values()} - self._said:
                self._say(reason)
                self._said.add(reason)
        measured = outcome.get("measured", {})
        if measured or outcome["unmeasured"]:
            self._record.note(
                "measured",
                index=result.index,
                measured=measured,
                over=self._over_when_measured(result, measured),
                builds=outcome.get("builds", {}),
                unmeasured=outcome["unmeasured"],
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
