"""Runs from Python with jobs that train nothing: events, stops, repeats and extensions."""

from __future__ import annotations

import logging
import os
import signal
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

import tuner
from pictures_support import fill
from tuner.engine import plan
from tuner.store.clean import clean
from tuner.store.runs import known_runs
from untrained_support import untrained  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home", "untrained")


def search(name: str, candidates: int = 9, **options: Any) -> tuner.Run:
    return tuner.search(
        "raspberry-pi-4", "sample:digits", max_candidates=candidates, workers=1, name=name,
        progress=False, **options,
    )  # fmt: skip


def steps(run: tuner.Run) -> list[tuple[int, int]]:
    """Index and rung of each training that was decided on, in order."""
    return [
        (event["index"], event.get("rung", 0))
        for event in run.events
        if event["event"] in ("proposed", "promoted")
    ]


def test_each_event_is_told_as_it_is_on_disk():
    seen: list[Mapping[str, Any]] = []
    run = search("r", 3, on_event=seen.append)
    assert seen == run.events
    assert seen[0]["event"] == "opened"
    assert seen[-1]["event"] == "ended"


def test_a_callback_that_changes_an_event_changes_the_run_in_nothing():
    plain = search("plain", 3)

    def scribble(event: Any) -> None:
        event.clear()

    assert steps(search("scribbled", 3, on_event=scribble)) == steps(plain)


def test_a_callback_that_raises_is_shown_once_and_the_run_goes_on(caplog):
    seen: list[str] = []

    def fail(event: Mapping[str, Any]) -> None:
        seen.append(event["event"])
        raise RuntimeError("a mistake of mine")

    with caplog.at_level(logging.WARNING, "tuner"):
        run = search("r", 3, on_event=fail)
    assert run.state == "ended"
    assert seen == [event["event"] for event in run.events]
    shown = [record.getMessage() for record in caplog.records]
    assert len(shown) == 1
    assert shown[0].startswith("on_event raised at the event 'opened'; the run goes on")
    assert shown[0].endswith("RuntimeError: a mistake of mine")


def test_splits_below_the_classes_are_told_by_each_search(home: Path, caplog):
    images = {f"{name}/{split}": 5 for name in ("cat", "dog") for split in ("train", "test")}
    data = fill(home / "images", images)
    run = tuner.search(
        "raspberry-pi-4", str(data), max_candidates=2, workers=1, name="r", progress=False
    )
    tuner.extend(run, max_candidates=1, progress=False)
    told = [record.getMessage() for record in caplog.records]
    assert len(told) == 2
    for line in told:
        assert line.startswith("Check the data: test, train lie below the classes, so training")
        assert f"tune data check {data}-sorted" in line


def test_a_callback_may_stop_the_run_which_ends_as_if_it_had_not_been():
    handler = signal.getsignal(signal.SIGINT)
    whole = search("whole")

    def stop(event: Mapping[str, Any]) -> None:
        if event["event"] in ("rung", "interrupted"):
            raise KeyboardInterrupt

    with pytest.raises(tuner.InterruptedRunError, match="Continue with 'tune resume stopped'"):
        search("stopped", on_event=stop)
    assert signal.getsignal(signal.SIGINT) is handler
    assert tuner.Run("stopped").state == "interrupted"
    run = tuner.resume("stopped", progress=False)
    assert steps(run) == steps(whole)
    assert run.candidates == whole.candidates


def test_tune_stop_ends_a_search_as_ctrl_c_does():
    """What `tune stop` sends, which by default ends a process at once."""
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL

    def stop(event: Mapping[str, Any]) -> None:
        if event["event"] == "opened":
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(tuner.InterruptedRunError, match="Continue with 'tune resume told'"):
        search("told", 1, on_event=stop)
    assert tuner.Run("told").state == "interrupted"
    assert signal.getsignal(signal.SIGTERM) is signal.SIG_DFL


def test_a_run_is_repeated_from_its_file():
    first = search("first", 5, seed=3, space="mixed_stages")
    again = tuner.search(config=first.folder / "run.json", progress=False)
    assert again.name.startswith("raspberry-pi-4-")
    assert [row["id"] for row in again.candidates] == [row["id"] for row in first.candidates]
    other = tuner.search(config=first.folder / "run.json", seed=4, progress=False)
    assert other.spec.seed == 4
    assert [row["id"] for row in other.candidates] != [row["id"] for row in first.candidates]


@pytest.mark.parametrize("cleaned", [False, True])
def test_an_extended_run_keeps_what_it_has_and_finishes_more(home: Path, cleaned: bool):
    run = search("r")
    first, rows = steps(run), {row["id"]: row for row in run.candidates}
    assert Counter(rung for _, rung in first) == {0: 9, 1: 3, 2: 2}
    if cleaned:
        assert clean(known_runs()).removed
    (run.folder / "worse").touch()  # so that promotions go to those of before
    run = tuner.extend(run, max_candidates=8, progress=False)
    assert run.state == "ended"
    after = steps(run)
    assert after[: len(first)] == first
    assert Counter(rung for _, rung in after) == {0: 17, 1: 5, 2: 4}
    now = {row["id"]: row for row in run.candidates}
    assert len(now) == 17
    assert {row["status"] for row in now.values()} == {"ok", "stopped"}
    for identifier, row in rows.items():
        if row["status"] == "ok":
            assert {**now[identifier], "rank": 0, "tied": 0} == {**row, "rank": 0, "tied": 0}
    tested = [event["index"] for event in run.events if event["event"] == "tested"]
    assert len(tested) == len(set(tested)) == 4, "each is scored on the test set once"
    promoted = [(index, rung) for index, rung in after[len(first) :] if rung]
    assert min(promoted)[0] < 9, "what was cut before can go on"
    for index, rung in promoted:
        identifier = next(event["id"] for event in run.events if event.get("index") == index)
        log = (run.folder / "candidates" / identifier / "trained_from.txt").read_text()
        before = rung - 1 if (index, rung - 1) in promoted or index >= 9 or not cleaned else -1
        assert f"{rung} from {before}\n" in log, "without its weights it trains from the beginning"
        started = [event for event in run.events if event["event"] == "started"]
        begun = [item for item in started if (item["index"], item["rung"]) == (index, rung)]
        assert [item["trained"] for item in begun] == [before]


def test_time_added_explores_with_the_rungs_of_before_and_finishes(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(plan, "MIN_RUNG_SECONDS", 0.4)
    monkeypatch.setattr(plan, "OVERHEAD_SECONDS", 0.0)
    run = tuner.search(
        "raspberry-pi-4", "sample:digits", time="6s", workers=1, name="r", progress=False
    )
    first, counts = steps(run), Counter(row["status"] for row in run.candidates)
    assert {rung for _, rung in first} == {0, 1}
    assert counts["ok"] >= 1
    shortest = next(event["seconds"] for event in run.events if event["event"] == "started")
    lengths = plan.Plan(run.spec).rung_seconds

    run = tuner.extend(run, time="5s", progress=False)
    assert run.state == "ended"
    after = steps(run)
    assert after[: len(first)] == first
    assert {rung for _, rung in after} == {0, 1}
    assert sum(rung == 0 for _, rung in after) >= sum(rung == 0 for _, rung in first) + 2
    assert Counter(row["status"] for row in run.candidates)["ok"] > counts["ok"]
    new = [event for event in run.events if event["event"] == "started"][len(first) :]
    assert plan.Plan(run.spec).rung_seconds[0] == lengths[0], "rungs are as long as before"
    # Each net gets the number of epochs that comes nearest.
    assert new[0]["seconds"] == pytest.approx(shortest, rel=0.1)
    ended = [event["elapsed"] for event in run.events if event["event"] == "ended"]
    assert ended[1] - ended[0] < 5 + 6, "the time that was added, and scoring"


def test_candidates_after_a_clock_and_a_clock_after_candidates():
    run = tuner.extend(search("r", 3), time="1s", progress=False)
    assert run.state == "ended"
    assert run.spec.max_candidates is None
    assert run.spec.throughput is not None
    run = tuner.extend(run, max_candidates=2, progress=False)
    assert run.spec.budget_seconds is None
    assert len(run.candidates) >= 5
