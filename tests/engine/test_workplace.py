from __future__ import annotations

import ctypes
import os
import signal
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import psutil
import pytest

from tuner.engine import slots, workplace
from tuner.engine.slots import Died, Raised
from tuner.engine.workplace import GivenUp, Workplace

HELD: list[object] = []


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


class KillsSoon:
    """Once it has been pickled, its process has a moment left to send it."""

    def __reduce__(self) -> tuple[object, ...]:
        threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGKILL)).start()
        return (int, ())


def die_while_sending() -> list[object]:
    return [bytes(400 * 2**20), KillsSoon()]


def read_nothing() -> None:
    ctypes.string_at(0)


def take_memory() -> None:
    kept = []
    while True:
        kept.append(bytearray(b"x") * 2**22)


def take_and_return(size_bytes: int) -> int:
    HELD.append(bytearray(b"x") * size_bytes)
    return os.getpid()


def touch(path: Path) -> int:
    images = np.load(path, mmap_mode="r")
    HELD.append(images)
    images.max()
    return psutil.Process().memory_info().rss


def raise_at_length(length: int) -> None:
    raise ValueError("x" * length)


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


def test_a_job_that_ended_is_collected_while_another_runs(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workplace, "POLL_SECONDS", 60.0)
    start(work, 0, time.sleep, 5, path=tmp_path / "a")
    start(work, 1, pow, 2, 3, path=tmp_path / "b")
    assert [(job.key, outcome) for job, outcome in work.poll()] == [(1, 8)]
    assert [job.key for job in work.running] == [0]


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


def test_a_job_that_its_owner_gives_up_is_killed(work: Workplace, tmp_path: Path):
    start(work, 0, time.sleep, 60, path=tmp_path / "a", planned_seconds=1.0)
    start(work, 1, spin, 2.0, path=tmp_path / "b")
    work.poll()
    job = work.running[0]
    pids = job.slot._pids()
    assert (job.planned_seconds, job.seconds >= 0.0) == (1.0, True)
    job.given_up = GivenUp("timed_out", "others waited for it")
    assert collect(work) == {0: job.given_up, 1: "done"}
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


def test_a_job_that_takes_memory_without_end_is_given_up(work: Workplace, tmp_path: Path):
    work._memory_limit = 400 * 2**20
    start(work, 0, take_memory, path=tmp_path / "a")
    start(work, 1, spin, 3.0, path=tmp_path / "b")
    outcomes = collect(work)
    assert outcomes[0].status == "failed"
    assert outcomes[0].reason.startswith("used ")
    assert outcomes[0].reason.endswith("GB of memory; 0.4 GB were allowed")
    assert outcomes[1] == "done"


@pytest.mark.parametrize(("job", "arguments"), [(os._exit, (3,)), (read_nothing, ())])
def test_a_crash_costs_only_its_job(work: Workplace, tmp_path: Path, job, arguments):
    start(work, 0, job, *arguments, path=tmp_path / "a")
    start(work, 1, pow, 2, 3, path=tmp_path / "b")
    outcomes = collect(work)
    assert isinstance(outcomes[0], Died)
    assert outcomes[1] == 8
    start(work, 2, pow, 3, 3, path=tmp_path / "c")
    assert collect(work) == {2: 27}


def test_long_outcomes_come_back_whole(work: Workplace, tmp_path: Path):
    start(work, 0, bytes, 3 * 2**20, path=tmp_path / "a")
    start(work, 1, raise_at_length, 2**20, path=tmp_path / "b")
    outcomes = collect(work)
    assert outcomes[0] == bytes(3 * 2**20)
    assert len(outcomes[1].traceback) > 2**20
    assert not list((tmp_path / "logs").glob("*.outcome"))


def test_a_worker_killed_while_it_sends_its_outcome(work: Workplace, tmp_path: Path):
    start(work, 0, die_while_sending, path=tmp_path / "a")
    outcome = collect(work)[0]
    assert isinstance(outcome, Died)
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["slot-0.log"]
    start(work, 1, pow, 2, 3, path=tmp_path / "b")
    assert collect(work) == {1: 8}


def test_a_killed_worker_leaves_no_temporary_files(work: Workplace, tmp_path: Path):
    start(work, 0, tempfile.mkstemp, path=tmp_path / "a")
    _, name = collect(work)[0]
    assert Path(name).parent == tmp_path / "logs" / "slot-0.tmp"
    work.close()
    assert [path.name for path in (tmp_path / "logs").iterdir()] == ["slot-0.log"]


def test_a_worker_killed_before_it_read_its_job(work: Workplace, tmp_path: Path):
    start(work, 0, os.getpid, path=tmp_path / "a")
    pid = collect(work)[0]
    os.kill(pid, signal.SIGSTOP)
    start(work, 1, len, bytes(8 * 2**20), path=tmp_path / "b")
    time.sleep(0.5)
    os.kill(pid, signal.SIGKILL)
    assert isinstance(collect(work)[1], Died)
    start(work, 2, pow, 2, 3, path=tmp_path / "c")
    assert collect(work) == {2: 8}


def test_a_worker_that_grew_is_replaced_between_jobs(
    work: Workplace, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(workplace, "GROWTH_BYTES", 100 * 2**20)
    pids = []
    for key, megabytes in enumerate((150, 60, 60, 1, 1)):
        start(work, key, take_and_return, megabytes * 2**20, path=tmp_path / "a")
        pids.append(collect(work)[key])
    # What the first job takes is what this kind of job needs; the third exceeds it.
    assert pids[0] == pids[1] == pids[2] != pids[3] == pids[4]


def test_growth_is_half_of_what_is_left_where_memory_is_scarce(work: Workplace, tmp_path: Path):
    start(work, 0, take_and_return, 0, path=tmp_path / "a")
    first = collect(work)[0]
    taken, _ = work.slots[0].usage()
    work._memory_limit = taken + 100 * 2**20
    start(work, 1, take_and_return, 60 * 2**20, path=tmp_path / "a")
    assert collect(work)[1] == first
    start(work, 2, take_and_return, 0, path=tmp_path / "a")
    assert collect(work)[2] != first


def test_mapped_files_do_not_count_as_memory(work: Workplace, tmp_path: Path):
    np.save(tmp_path / "images.npy", np.zeros(200 * 2**20, np.uint8))
    start(work, 0, touch, tmp_path / "images.npy", path=tmp_path / "a")
    assert collect(work)[0] > 200 * 2**20
    assert work.slots[0].usage()[0] < 150 * 2**20


@pytest.mark.parametrize(
    ("groups", "files", "limit"),
    [
        ("0::/", {"memory.max": "max"}, float("inf")),
        ("0::/a/b", {"a/b/memory.max": "max", "a/memory.max": "3000000000"}, 3e9),
        ("0::/elsewhere", {"memory.max": "1000000"}, 1e6),
        (
            "4:cpu:/x\n2:hugetlb,memory:/box",
            {"memory/box/memory.limit_in_bytes": "5000000", "cpu/x/memory.max": "1"},
            5e6,
        ),
        (None, {}, float("inf")),
    ],
)
def test_the_memory_of_a_container(tmp_path: Path, groups, files, limit):
    own = tmp_path / "own"
    if groups is not None:
        own.write_text(groups + "\n")
    for name, text in files.items():
        path = tmp_path / "groups" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text + "\n")
    assert min(slots._cgroup_limits(tmp_path / "groups", own)) == limit
    assert 0 < slots.machine_memory_bytes() <= psutil.virtual_memory().total


def test_a_job_that_runs_one_program_after_another_is_not_silent(
    work: Workplace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each program takes its processor time out of the sum when it ends."""
    now, computed = [0.0], [0.0]
    monkeypatch.setattr(workplace, "time", SimpleNamespace(monotonic=lambda: now[0]))
    slot = SimpleNamespace(usage=lambda: (0, computed[0]))
    job = workplace.Running(
        key=0, slot=slot, future=Future(), progress=Path("none"), allowed_seconds=None, attempt=1,
        started=0.0, computed_at=0.0, checked=-1.0,
    )  # fmt: skip
    for program in range(3):
        for seconds in range(1, 400, 50):
            now[0], computed[0] = 500.0 * program + seconds, float(seconds)
            assert work._exceeded(job) is None
    now[0] += workplace.SILENT_SECONDS + 1.0
    given_up = work._exceeded(job)
    assert given_up is not None
    assert "computed nothing" in given_up.reason
