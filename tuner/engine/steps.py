"""The steps of a run in order, with what they gave: the memory of its decisions."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from tuner.propose.bands import size_bands
from tuner.propose.rungs import REDUCTION, Step, promotable
from tuner.rank.order import ranking_precision
from tuner.spec import Build, RunSpec, from_plain


class Steps:
    """Each proposal and each promotion, from the events of a run.

    Args:
        spec: of the run.
    """

    def __init__(self, spec: RunSpec) -> None:
        self._precision = ranking_precision(spec.rank_by)
        self._bands = size_bands(spec.targets)
        self._groups: dict[int, int] = {}
        self._steps: list[Step] = []
        self._latest: dict[int, int] = {}
        self._curves: dict[int, tuple[float, ...]] = {}
        self._seconds: dict[int, float] = {}
        self._compared_with: dict[int, tuple[float, ...]] = {}
        self.surely_known = 0
        """So many first steps were known to an earlier decision, and are to all later ones."""

    def __len__(self) -> int:
        return len(self._steps)

    def take(self, event: Mapping[str, Any]) -> None:
        """Follow one event of the run."""
        kind = event["event"]
        if kind in ("proposed", "promoted"):
            index = event["index"]
            if kind == "proposed":
                self._groups[index] = self.group_of(event.get("focus", ""))
            self._latest[index] = len(self._steps)
            self._compared_with[index] = tuple(event.get("others", ()))
            rung, group = event.get("rung", 0), self._groups[index]
            self._steps.append(Step(index=index, rung=rung, group=group, known=False))
            self.surely_known = max(self.surely_known, event.get("known", 0))
        elif kind == "rung" or (kind == "finished" and not _was_cut(event)):
            number = self._latest[event["index"]]
            self._steps[number] = replace(
                self._steps[number],
                known=True,
                score=self._score(event),
                ended=kind == "finished",
            )
            if kind == "rung":
                self._curves[number] = tuple(event["curve"])
                self._seconds[event["index"]] = event["train_seconds"]

    def group_of(self, focus: str) -> int:
        """Of what is proposed for a target; runs of earlier versions name none."""
        return next((number for number, band in enumerate(self._bands) if focus in band), 0)

    def group(self, index: int) -> int:
        """Of a candidate."""
        return self._groups[index]

    def _score(self, event: Mapping[str, Any]) -> float | None:
        plain = event.get("builds", {}).get(self._precision)
        if plain is None:  # it was far behind the others, or failed and has no curve
            return max(event.get("curve", ()), default=None)
        return from_plain(Build, plain, "events.jsonl").accuracy["validation"].value

    def unfinished(self) -> list[Step]:
        """Steps without an outcome, in order."""
        return [step for step in self._steps if not step.known]

    def to_finish(self, last: int) -> int | None:
        """The candidate that a step to the last rung was begun with, else the best for one."""
        begun = [step for step in self.unfinished() if step.rung == last]
        best = begun or promotable(self._steps, range(last))
        return best[0].index if best else None

    def done(self, count: int) -> bool:
        """Whether the first `count` steps have outcomes."""
        return all(step.known for step in self._steps[:count])

    def others(self, rung: int, count: int, group: int) -> tuple[float, ...]:
        """The curve that a step to this rung should come near, if it is to be promoted.

        That of the worst of its group's among the first `count` steps that would be promoted now;
        empty as long as none would be. Groups are not held against each other: nets for small
        devices would all be behind those for large ones.
        """
        known = [
            (step.score, number)
            for number, step in enumerate(self._steps[:count])
            if (step.rung, step.group) == (rung, group)
            and step.score is not None
            and number in self._curves
        ]
        promoted = sorted(known, key=lambda item: (-item[0], item[1]))[: len(known) // REDUCTION]
        return self._curves[promoted[-1][1]] if promoted else ()

    def compared_with(self, index: int) -> tuple[float, ...]:
        """What `others` gave when the last step of a candidate was decided on."""
        return self._compared_with[index]

    def trained_seconds(self, index: int) -> float:
        """Of the step to the rung that a candidate is on; 0 before the first."""
        return self._seconds.get(index, 0.0)

    def seen(self, count: int) -> list[Step]:
        """All steps, as a decision sees them that knows the first `count` alone."""
        return [
            step if number < count else replace(step, known=False, score=None, ended=False)
            for number, step in enumerate(self._steps)
        ]


def _was_cut(event: Mapping[str, Any]) -> bool:
    """Whether a candidate ended because it was not promoted: no step of it was going on."""
    return event["status"] == "stopped" and "rung" not in event
