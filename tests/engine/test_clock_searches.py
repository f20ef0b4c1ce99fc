"""Whole searches by the clock, in virtual time: what is started when, and what it leaves."""

from __future__ import annotations

import itertools
import re
from typing import Any

import pytest

import tuner
from tuner.engine import jobs
from tuner.engine.plan import CORES_EXPONENT, Plan
from tuner.store.runs import RunFolder
from untrained_support import untrained  # noqa: F401 - a fixture
from virtual_support import Machine, virtual_machine  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home")

LAST = 2
"""Of a search of 10 minutes."""


def search(time: str, workers: int = 2, **options: Any) -> tuner.Run:
    return tuner.search(
        "raspberry-pi-4", "sample:digits", workers=workers, time=time, name="r", progress=False,
        **options,
    )  # fmt: skip


def started(run: tuner.Run, rung: int) -> list[dict[str, Any]]:
    return [event for event in run.events if event["event"] == "started" and event["rung"] == rung]


def check_last_steps(run: tuner.Run, workers: int) -> None:
    """Each has the time of the step before it, or all epochs."""
    trained: dict[int, float] = {}
    folder = RunFolder(run.folder)
    last = len(Plan(folder.spec()).rung_shares) - 1
    results = {result.index: result for result in folder.results()}
    for event in run.events:
        if event["event"] == "rung":
            trained[event["index"]] = event["train_seconds"]
        elif event["event"] == "started" and event["rung"] == last:
            done = event["seconds"] * workers**CORES_EXPONENT
            full = results[event["index"]].candidate.training.epochs
            assert event["epochs"] == full or done >= trained[event["index"]]


@pytest.mark.parametrize("slowness", [3.0, 100.0])
def test_a_search_finishes_its_best_and_no_one_in_haste(machine: Machine, slowness: float):
    machine.slowness = slowness
    run = search("10m")
    check_last_steps(run, 2)
    first = started(run, LAST)[0]["index"]
    assert RunFolder(run.folder).results()[first].status == "ok"
    assert 590.0 <= max(event["elapsed"] for event in run.events) <= 630.0
    # Two more, of which the first may not last as long as the search before did.
    for time in ("2m", "1m"):
        tuner.extend("r", time=time, progress=False)
        check_last_steps(run, 2)


def test_a_long_search_of_quick_nets_goes_on_until_its_best_are_finished(machine: Machine):
    """Their steps take a tenth of the longest that a rung may take, and not what was predicted."""
    machine.slowness = 10.0
    machine.pace = lambda index: (0.5, 1.0, 1.7)[index % 3]
    run = search("20m")
    check_last_steps(run, 2)
    assert sum(item.status == "ok" for item in RunFolder(run.folder).results()) >= 2
    begun = [event["elapsed"] for event in run.events if event["event"] == "started"]
    assert max(later - earlier for earlier, later in itertools.pairwise(begun)) < 200.0
    assert max(event["elapsed"] for event in run.events) >= 1190.0


def test_nets_that_rung_0_trains_in_full_keep_all_slots_busy_to_the_end(machine: Machine):
    machine.slowness = 0.01
    run = search("100s")
    assert {event["rung"] for event in run.events if event["event"] == "started"} == {0}
    assert {item.status for item in RunFolder(run.folder).results()} == {"ok"}
    begun = [event["elapsed"] for event in started(run, 0)]
    early = sum(elapsed < 50.0 for elapsed in begun)
    assert len(begun) - early >= 0.8 * early


def test_a_known_net_is_planned_for_the_slot_that_it_gets(machine: Machine):
    machine.slowness = 20.0
    run = search("10m", baselines=True)
    plan = Plan(RunFolder(run.folder).spec())
    known = [item for item in RunFolder(run.folder).results() if item.baseline]
    trained = [item for item in known if item.status == "ok"]
    assert trained
    for result in trained:
        (event,) = (event for event in started(run, LAST) if event["index"] == result.index)
        epochs = event["seconds"] / plan.epoch_seconds(result.candidate)
        assert 1 <= event["epochs"] < result.candidate.training.epochs
        assert event["epochs"] == int(epochs)


def test_an_extension_that_is_too_short_says_so(machine: Machine, caplog: pytest.LogCaptureFixture):
    machine.slowness = 300.0
    run = search("8h")
    before = len(run.events)
    tuner.extend("r", time="2m", progress=False)
    assert not [event for event in run.events[before:] if event["event"] == "started"]
    (line,) = [record.getMessage() for record in caplog.records if "Nothing was" in record.msg]
    found = re.fullmatch(
        r"Nothing was trained: the time was too short for a step of any candidate\. 'tune extend r "
        r"--time (\d+s)' finishes (c\w+)\.",
        line,
    )
    assert found is not None
    tuner.extend("r", time=found[1], progress=False)
    results = {item.candidate.id: item for item in RunFolder(run.folder).results()}
    assert results[found[2]].status == "ok"
    check_last_steps(run, 2)


def test_what_is_proposed_could_be_on_rung_1_when_the_best_is_finished(machine: Machine):
    run = search("10m")
    explored = started(run, LAST)[0]["elapsed"]
    assert explored < 310.0
    late = 600.0 - 300.0 - 75.0
    assert not [event for event in started(run, 0) if late - 18.75 < event["elapsed"] <= late]
    assert [event for event in started(run, 1) if late - 18.75 < event["elapsed"] <= late]


def test_quick_nets_are_promoted_as_long_as_they_end_in_time(machine: Machine):
    """Their epochs end a step to rung 1 after about 40 s, of 75."""
    machine.slowness = 20.0
    run = search("10m")
    explored = started(run, LAST)[0]["elapsed"]
    steps = started(run, 1)
    assert any(event["epochs"] == event["most_epochs"] < 100 for event in steps)
    assert [event for event in steps if explored - 75.0 < event["elapsed"]]


def test_a_search_that_goes_on_too_late_keeps_what_its_best_has(machine: Machine):
    machine.interrupt_at = machine.now + 585.0
    with pytest.raises(tuner.InterruptedRunError):
        search("10m")
    run = tuner.Run("r")
    (last,) = started(run, LAST)
    files = RunFolder(run.folder)
    best = files.results()[last["index"]]
    wanted = f"Finish (the best|{best.candidate.id}) with 'tune extend r --time 300s'"
    with pytest.raises(tuner.TuneError, match=wanted):
        tuner.resume("r", progress=False)
    assert started(run, LAST) == [last]
    best = files.results()[last["index"]]
    assert (best.status, best.rung, bool(best.builds)) == ("stopped", 1, True)
    assert jobs.rung_folder(files.candidate(best.candidate.id), 1).is_dir()
    tuner.extend("r", time="300s", progress=False)
    assert files.results()[last["index"]].status == "ok"
    check_last_steps(run, 2)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rung", [0, 1])
def test_a_step_that_hangs_costs_itself_and_some_time(machine: Machine, workers: int, rung: int):
    hung: list[int] = []

    def hangs(index: int, to: int) -> bool:
        """The last of those that are started before exploring ends, more or less."""
        if to == rung and not hung and machine.now - began > (150.0 if rung else 185.0):
            hung.append(index)
            return True
        return False

    began = machine.now
    machine.hangs = hangs
    run = search("10m", workers)
    (index,) = hung
    lost = RunFolder(run.folder).results()[index]
    assert lost.status == ("stopped" if rung else "timed_out")
    assert bool(lost.builds) == (rung > 0)
    assert "s planned, while the best waited to be finished" in lost.reason
    planned = 75.0 if rung else 18.75
    end = next(
        event for event in run.events if event["event"] == "finished" and event["index"] == index
    )
    assert end["in_the_way"]
    given_up = end["elapsed"]
    begun = next(event["elapsed"] for event in started(run, rung) if event["index"] == index)
    assert given_up <= max(300.0, begun + 1.25 * planned + 30.0) + 5.0
    (best, *_) = started(run, LAST)
    assert given_up <= best["elapsed"] <= given_up + 30.0
    assert run.candidates[0]["status"] == "ok"
    check_last_steps(run, workers)
