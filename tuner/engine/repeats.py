"""When finalists are trained again, from other seeds."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Protocol

from tuner.engine import jobs
from tuner.engine.plan import Plan
from tuner.engine.record import FINALISTS, Record
from tuner.engine.workplace import Work
from tuner.spec import Result, to_plain


class OnEach(Protocol):
    """Runs a job in the slots on each piece of work, as long as `starts` says so."""

    def __call__(
        self,
        work: Sequence[Work],
        job: Callable[..., Any],
        collect: Callable[[Result, Mapping[str, Any]], None],
        phase: str,
        starts: Callable[[Result], bool],
        /,
    ) -> None:
        """Call `collect` with what each job returned; return when all have ended."""


def repeat_finalists(
    record: Record, plan: Plan, on_each: OnEach, say: Callable[[str], None]
) -> None:
    """Train each target's best again, from other seeds, until none of them is without that.

    Means put others in front, which are trained again in turn. Where a clock runs, a training
    starts if the time left is enough for it.

    Args:
        record: of the run.
        plan: of its time.
        on_each: runs the trainings.
        say: called with a line that the user should read.
    """
    asked: set[tuple[int, int]] = set()
    late = 0

    def collect(result: Result, outcome: Mapping[str, Any]) -> None:
        record.note("repeated", index=result.index, **outcome)

    def in_time(result: Result) -> bool:
        nonlocal late
        budget = record.spec.budget_seconds
        left = None if budget is None else budget - plan.measuring_seconds - record.elapsed
        starts = plan.repeats_in_time(result, left)
        late += not starts
        return starts

    while wanted := [item for item in _unrepeated(record) if item not in asked]:
        asked.update(wanted)
        work = [
            Work(
                index=index,
                progress=jobs.repeat_folder(record.candidate_folder(index), repeat) / jobs.PROGRESS,
                arguments=(
                    to_plain(record.results[index].candidate),
                    repeat,
                    _trainings(record, index),
                ),
            )
            for index, repeat in wanted
        ]
        on_each(work, jobs.repeat_candidate, collect, "training finalists again", in_time)
    if late:
        say(
            f"The time was not enough for {late} of {len(asked)} further trainings of "
            "finalists; the board says how many each has."
        )


def _unrepeated(record: Record) -> list[tuple[int, int]]:
    """Trainings that finalists lack, by index and number, the second of each first."""
    wanted: dict[tuple[int, int], None] = {}
    for target in record.spec.targets:
        for result in record.finalists(target, FINALISTS):
            for repeat in range(1, record.spec.repeats):
                if repeat not in result.repeated:
                    wanted[result.index, repeat] = None
    return sorted(wanted, key=lambda item: item[1])


def _trainings(record: Record, index: int) -> list[tuple[int, int, int | None, float | None]]:
    """Rung, epochs, epochs at most and seconds of each training that a candidate's weights had.

    Versions that limited a rung by its seconds alone kept no number of epochs at most.
    """
    planned: dict[int, tuple[int, int, int | None, float | None]] = {}
    for event in record.events:
        if event["event"] == "started" and event["index"] == index:
            if event.get("trained") == -1:  # from the start: 'tune clean' took earlier weights
                planned.clear()
            rung = event["rung"]
            planned[rung] = (rung, event["epochs"], event.get("most_epochs"), event["seconds"])
    return [planned[rung] for rung in sorted(planned)]
