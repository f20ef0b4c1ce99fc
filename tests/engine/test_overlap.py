"""With a clock, finalists are simulated while the next one is trained on all cores."""

from __future__ import annotations

import os
from typing import Any

import pytest

import tuner
from overlap_support import measure_builds, train_briefly, train_until_another_is_measured
from tuner.engine import finalists, jobs, plan
from tuner.engine.slots import YIELDING_NICENESS, Slot
from tuner.engine.workplace import Workplace
from untrained_support import untrained  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home", "untrained")


def search(monkeypatch: pytest.MonkeyPatch, *, ready: bool) -> list[dict[str, Any]]:
    """The events of a short search by the clock, whose last trainings take all slots."""
    monkeypatch.setattr(plan, "MIN_RUNG_SECONDS", 0.2)
    for name in ("OVERHEAD_SECONDS", "CHOOSING_SECONDS", "START_SECONDS"):
        monkeypatch.setattr(plan, name, 0.0)
    monkeypatch.setattr(plan, "NEARLY_ALL", 2.0)
    monkeypatch.setattr(plan, "simulators_ready", lambda targets: ready)
    monkeypatch.setattr(finalists, "measure_builds", measure_builds)
    run = tuner.search(
        "k230", "sample:digits", time="16s", workers=2, name="r", progress=False
    )  # fmt: skip
    assert plan.Plan(run.spec).final_threads == 2
    return list(run.events)


def places(events: list[dict[str, Any]], kind: str, **fields: Any) -> list[int]:
    return [
        place
        for place, event in enumerate(events)
        if event["event"] == kind and fields.items() <= event.items()
    ]


def test_one_is_simulated_while_the_next_is_trained(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train_candidate", train_until_another_is_measured)
    events = search(monkeypatch, ready=True)
    ended = places(events, "finished", status="ok")
    measured = places(events, "measured")
    assert len(ended) >= 2
    assert not places(events, "finished", status="failed")
    between = [place for place in measured if ended[0] < place < ended[1]]
    assert between
    first = events[between[0]]
    assert first["index"] == events[ended[0]]["index"]
    (build,) = first["builds"].values()
    assert int(build["recipe"]) == os.nice(0) + YIELDING_NICENESS


def test_without_a_simulator_nothing_is_started_beside_a_training_on_all_cores(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    start, wide, beside = Workplace.start, [], []

    def start_noted(
        work: Workplace, slot: Slot, key: int, job: Any, *rest: Any, **more: Any
    ) -> None:
        if job is measure_builds:
            beside.extend(running for running in work.running if running in wide)
        start(work, slot, key, job, *rest, **more)
        if job is train_briefly and slot.threads > 1:
            wide.append(work.running[-1])

    monkeypatch.setattr(jobs, "train_candidate", train_briefly)
    monkeypatch.setattr(Workplace, "start", start_noted)
    events = search(monkeypatch, ready=False)
    measured = places(events, "measured")
    assert len(wide) >= 2
    assert measured
    assert not beside
    (build,) = events[measured[0]]["builds"].values()
    assert int(build["recipe"]) == os.nice(0)
