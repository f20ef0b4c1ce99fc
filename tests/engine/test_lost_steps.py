"""A step that goes wrong costs a candidate that step, and the others nothing."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable
from concurrent.futures import wait
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import failing_support
import tuner
from tuner.engine import deciding, jobs, plan
from tuner.engine.supervisor import FAILURES_IN_A_ROW, Supervisor
from tuner.engine.workplace import Running, Workplace
from tuner.errors import MachineError, TuneError
from tuner.spec import Result, RunSpec
from tuner.store.events import EventLog
from tuner.store.runs import RunFolder
from untrained_support import untrained  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home", "untrained")


@pytest.fixture
def brief(monkeypatch: pytest.MonkeyPatch) -> None:
    """Rungs of tenths of a second, which no net is small enough to skip."""
    monkeypatch.setattr(plan, "MIN_RUNG_SECONDS", 0.2)
    for name in ("OVERHEAD_SECONDS", "CHOOSING_SECONDS", "START_SECONDS"):
        monkeypatch.setattr(plan, name, 0.0)
    monkeypatch.setattr(plan, "NEARLY_ALL", 2.0)


def search(**budget: object) -> tuner.Run:
    return tuner.search(
        "raspberry-pi-4", "sample:digits", workers=2, name="r", progress=False, **budget
    )


def results(run: tuner.Run) -> list[Result]:
    return RunFolder(run.folder).results()


@pytest.mark.parametrize(
    ("job", "reason"), [("raise_first", "no loss today"), ("die_first", "its worker process died")]
)
def test_a_candidate_that_fails_at_its_end_keeps_what_it_had(
    monkeypatch: pytest.MonkeyPatch, job: str, reason: str
) -> None:
    monkeypatch.setattr(jobs, "train_candidate", getattr(failing_support, job))
    run = search(max_candidates=9)
    folder = RunFolder(run.folder)
    lost = folder.candidate((run.folder / "candidates" / "first.txt").read_text())
    result = next(item for item in results(run) if item.candidate.id == lost.name)
    assert (result.status, result.rung) == ("stopped", 1)
    assert result.builds
    assert result.reason.startswith(f"not trained to rung 2: {reason}")
    assert result.reason.endswith(
        f"; it is as it was at rung 1, after {result.epochs} epochs, and 'tune select r "
        f"{lost.name}' and 'tune retrain' train it in full"
    )
    assert jobs.rung_folder(lost, 1).is_dir()
    assert (lost / "error.log").exists() == (job == "raise_first")
    statuses = [item.status for item in results(run)]
    assert (statuses.count("ok"), statuses.count("stopped")) == (1, 8)
    before = len(run.events)
    tuner.extend("r", max_candidates=2, progress=False)
    assert not [
        event for event in run.events[before:]
        if event.get("index") == result.index and event["event"] in ("promoted", "started")
    ]  # fmt: skip


@pytest.mark.usefixtures("brief")
def test_with_a_clock_the_next_best_is_finished_instead(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train_candidate", failing_support.raise_first)
    run = search(time="8s")
    lost = (run.folder / "candidates" / "first.txt").read_text()
    found = {item.candidate.id: item for item in results(run)}
    assert found.pop(lost).status == "stopped"
    assert any(item.status == "ok" for item in found.values())


@pytest.mark.usefixtures("brief")
def test_a_common_cause_at_the_end_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(jobs, "train_candidate", failing_support.raise_at_the_end)
    with pytest.raises(
        tuner.TuneError,
        match=f"(?s)last {FAILURES_IN_A_ROW} candidates of 'r' failed.*no such loss",
    ):
        search(time="8s")
    lost = [item for item in results(tuner.Run("r")) if "no such loss" in item.reason]
    assert len(lost) == FAILURES_IN_A_ROW
    assert all(item.status == "stopped" and item.builds for item in lost)


def outline(run: tuner.Run) -> list[tuple[object, ...]]:
    return [
        (item.candidate.id, item.status, item.rung, item.epochs, item.reason)
        for item in results(run)
    ]


@pytest.fixture
def whole(home: Path) -> list[tuple[object, ...]]:
    """What a search gives that nothing stops."""
    found = outline(search(max_candidates=9))
    shutil.rmtree(home / "runs" / "r")
    return found


def full_after(events: int, then: Callable[[], None], monkeypatch: pytest.MonkeyPatch) -> None:
    """The log finds no room for more than so many events; `then` is called before that."""
    append = EventLog.append
    written = 0

    def append_until_full(log: EventLog, event: str, **fields: Any) -> dict[str, Any]:
        nonlocal written
        written += 1
        if written == events:
            log._file.close()
            log._file = open("/dev/full", "wb")  # noqa: SIM115 - the log closes it
            then()
        return append(log, event, **fields)

    monkeypatch.setattr(EventLog, "append", append_until_full)


@pytest.mark.parametrize("together", [False, True])
def test_a_full_disk_costs_no_candidate(
    whole: list[tuple[object, ...]], together: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    poll = Workplace.poll

    def poll_all(workplace: Workplace) -> list[tuple[Running, Any]]:
        wait([job.future for job in workplace.running])
        return poll(workplace)

    with monkeypatch.context() as full:
        full.setattr(jobs, "train_candidate", failing_support.no_room)
        if together:
            full.setattr(Workplace, "poll", poll_all)
        with pytest.raises(
            MachineError,
            match=r"The disk is full: No space left on device\. 'r' has stopped and keeps what it "
            r"had, in .*runs/r\. Make room \('tune clean' .*, then go on with 'tune resume r'\.",
        ):
            search(max_candidates=9)
    run = tuner.Run("r")
    assert {item.status for item in results(run)} == {None}
    lost = len(list((run.folder / "candidates").glob("*/no-room")))
    if together:  # what ended beside it is not lost
        begun, ended = (
            sum(event["event"] == name for event in run.events) for name in ("started", "rung")
        )
        assert begun - ended == lost
    assert lost
    assert outline(tuner.resume("r", progress=False)) == whole


def test_a_log_that_finds_no_room_stops_the_run_too(
    whole: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as full:
        full_after(12, lambda: None, full)
        with pytest.raises(MachineError, match=r"The disk is full: .*No space left on device"):
            search(max_candidates=9)
    assert outline(tuner.resume("r", progress=False)) == whole


def test_a_stop_on_a_full_disk_is_one_all_the_same(
    whole: list[tuple[object, ...]], monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as full:
        full_after(12, stop, full)
        with pytest.raises(tuner.InterruptedRunError, match=r"Stopped\. Continue with 'tune"):
            search(max_candidates=9)
    assert outline(tuner.resume("r", progress=False)) == whole


def test_an_extension_without_room_changes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    run = search(max_candidates=3)
    spec = RunFolder(run.folder).spec()
    with monkeypatch.context() as full:
        full_after(1, lambda: None, full)
        with pytest.raises(OSError, match="No space left"):
            tuner.extend("r", max_candidates=2, progress=False)
    assert RunFolder(run.folder).spec() == spec


def test_a_run_that_finds_no_room_for_its_spec_is_none(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_room(folder: RunFolder, spec: RunSpec) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as full:
        full.setattr(RunFolder, "write_spec", no_room)
        with pytest.raises(OSError, match="No space left"):
            search(max_candidates=3)
    assert not (home / "runs" / "r").exists()
    assert len(results(search(max_candidates=3))) == 3


@pytest.mark.usefixtures("brief")
def test_a_step_that_hangs_does_not_keep_the_best_from_its_end(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(jobs, "train_candidate", failing_support.hang_once)
    monkeypatch.setattr(deciding, "WAITED_SECONDS", 1.0)
    run = search(time="12s")
    hung = (run.folder / "candidates" / "hangs.txt").read_text()
    found = {item.candidate.id: item for item in results(run)}
    lost = found.pop(hung)
    assert (lost.status, lost.rung, bool(lost.builds)) == ("stopped", 0, True)
    assert "s planned, while the best waited to be finished; it is as it was" in lost.reason
    assert any(item.status == "ok" for item in found.values())


def test_steps_in_the_way_of_the_best_are_no_common_cause(home: Path) -> None:
    supervisor = Supervisor(RunFolder(home / "r"), proposer_of=None, observer=None)
    end = {"event": "finished", "index": 0, "status": "timed_out", "reason": "not ready"}
    for given in ({"in_the_way": True}, {}):
        events = [{**end, **given}] * FAILURES_IN_A_ROW
        supervisor._record = SimpleNamespace(session_start=0, events=events)
        with nullcontext() if given else pytest.raises(TuneError, match="with: not ready"):
            supervisor._stop_if_all_fail()
