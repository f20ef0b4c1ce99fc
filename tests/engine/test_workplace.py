from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tuner.engine import workplace
from tuner.engine.slots import Died, Raised
from tuner.engine.workplace import GivenUp, Workplace


@pytest.fixture
def work(tmp_path: Path) -> Iterator[Workplace]:
    place = Workplace(workers=2, threads=1, logs=tmp_path / "logs")
    yield place
    place.close()


def spin(seconds: float) -> str:
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        pass
    return "done"


def fail_silently() -> None:
    raise KeyError


def collect(work: Workplace) -> dict[int, object]:
    outcomes: dict[int, object] = {}
    deadline = time.monotonic() + 60
    while work.running:
        assert time.monotonic() < deadline
        outcomes.update({job.key: outcome for job, outcome in work.poll()})
    return outcomes


def start(work: Workplace, key: int, job, *arguments: object, path: Path, **options: object):
    work.start(work.free_slots()[0], key, job, *arguments, progress=path, **options)


def test_results_come_back_by_key(work: Workplace, tmp_path: Path):
    start(work, 5, pow, 2, 3, path=tmp_path / "a")
    start(work, 6, pow, 2, 4, path=tmp_path / "b")
    assert work.free_slots() == []
    assert collect(work) == {5: 8, 6: 16}
    assert len(work.free_slots()) == 2


def test_an_error_costs_only_its_job(work: Workplace, tmp_path: Path):
    start(work, 0, int, "seven", path=tmp_path / "a")
    start(work, 1, pow, 2, 3, path=tmp_path / "b")
    outcomes = collect(work)
    assert isinstance(outcomes[0], Raised)
    assert "invalid literal for int()" in outcomes[0].reason
    assert "Traceback" in outcomes[0].traceback
    assert outcomes[1] == 8


def test_a_killed_worker_is_reported_as_died(work: Workplace, tmp_path: Path):
    start(work, 0, time.sleep, 60, path=tmp_path / "a")
    start(work, 1, pow, 2, 3, path=tmp_path / "b")
    deadline = time.monotonic() + 20
    while not (pids := work.running[0].slot._pids()) and time.monotonic() < deadline:
        work.poll()
    os.kill(pids[0], signal.SIGKILL)
    outcomes = collect(work)
    assert isinstance(outcomes[0], Died)
    assert "worker process died" in outcomes[0].reason
    start(work, 2, pow, 3, 3, path=tmp_path / "c")
    assert collect(work) == {2: 27}


def test_too_slow_is_timed_out_and_killed(work: Workplace, tmp_path: Path):
    start(work, 0, time.sleep, 60, path=tmp_path / "a", allowed_seconds=1.0)
    (tmp_path / "a").write_text("{}")
    work.poll()
    pids = work.running[0].slot._pids()
    outcome = collect(work)[0]
    assert isinstance(outcome, GivenUp)
    assert outcome.status == "timed_out"
    assert "1 s were allowed" in outcome.reason
    assert pids
    assert not any(psutil.pid_exists(pid) for pid in pids)


def test_silence_is_timed_out(work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(workplace, "SILENT_SECONDS", 1.0)
    start(work, 0, time.sleep, 60, path=tmp_path / "a")
    assert "computed nothing for 1 s" in collect(work)[0].reason


def test_a_job_that_computes_is_not_silent(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workplace, "SILENT_SECONDS", 1.0)
    start(work, 0, spin, 3.0, path=tmp_path / "a")
    assert collect(work) == {0: "done"}


def test_a_worker_that_died_while_idle_is_replaced(work: Workplace, tmp_path: Path):
    start(work, 0, pow, 2, 3, path=tmp_path / "a")
    slot = work.running[0].slot
    assert collect(work) == {0: 8}
    for pid in slot._pids():
        os.kill(pid, signal.SIGKILL)
    time.sleep(1.0)
    start(work, 1, pow, 2, 4, path=tmp_path / "b")
    assert collect(work) == {1: 16}


def test_an_error_without_words_is_named_by_its_type(work: Workplace, tmp_path: Path):
    start(work, 0, sys.exit, path=tmp_path / "a")
    start(work, 1, fail_silently, path=tmp_path / "b")
    outcomes = collect(work)
    assert outcomes[1].reason == "KeyError"
    assert outcomes[0].reason


def test_memory_is_limited(work: Workplace, tmp_path: Path):
    work._memory_limit = 1.0
    start(work, 0, time.sleep, 60, path=tmp_path / "a")
    outcome = collect(work)[0]
    assert outcome.status == "failed"
    assert "GB of memory" in outcome.reason
