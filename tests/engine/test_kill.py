"""kill -9 of supervisor and workers in the middle of a run: nothing lost, nothing repeated."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tuner.store.runs import RunFolder

START = ["--target", "nano33ble", "--data", "sample:digits", "--name", "killed",
         "--space", "mixed_stages"]  # fmt: skip
ALIVE_SECONDS = 5.0


def spawn(arguments: list[str], home: Path) -> subprocess.Popen[bytes]:
    with open(home / "stderr.log", "ab") as errors:
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *arguments],
            env={**os.environ, "TUNE_HOME": str(home)},
            cwd=home,
            stdout=subprocess.DEVNULL,
            stderr=errors,
        )


def descendants(process: subprocess.Popen[bytes]) -> list[psutil.Process]:
    try:
        return psutil.Process(process.pid).children(recursive=True)
    except psutil.NoSuchProcess:
        return []


def alive(processes: list[psutil.Process]) -> list[psutil.Process]:
    found = []
    for process in processes:
        try:
            if process.is_running() and process.status() != psutil.STATUS_ZOMBIE:
                found.append(process)
        except psutil.NoSuchProcess:
            continue
    return found


def kill_supervisor(process: subprocess.Popen[bytes]) -> None:
    family = descendants(process)
    process.kill()
    process.wait()
    deadline = time.monotonic() + ALIVE_SECONDS
    while alive(family) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert not alive(family), "no process of the run is alive 5 seconds later"


def kill_worker(process: subprocess.Popen[bytes], chance: random.Random) -> bool:
    workers = [child for child in alive(descendants(process)) if child.memory_info().rss > 2**27]
    if not workers:
        return False
    os.kill(chance.choice(workers).pid, signal.SIGKILL)
    return True


def run_with_kills(home: Path, kills: int, candidates: int, seed: int) -> dict[str, int]:
    chance = random.Random(seed)
    folder = RunFolder(home / "runs" / "killed")
    done = {"supervisor": 0, "worker": 0}
    process = spawn([*START, "--max-candidates", str(candidates)], home)
    while not (folder.path / "run.json").exists():
        assert process.poll() is None, (home / "stderr.log").read_text()
        time.sleep(0.05)
    lines_before: list[bytes] = []
    while sum(done.values()) < kills and process.poll() is None:
        time.sleep(chance.uniform(0.5, 9.0))
        if process.poll() is not None:
            break
        if chance.random() < 0.5:
            kill_supervisor(process)
            done["supervisor"] += 1
            finished = finished_lines(folder)
            assert finished[: len(lines_before)] == lines_before, "a finished result changed"
            lines_before = finished
            process = spawn(["resume", "killed"], home)
        elif kill_worker(process, chance):
            done["worker"] += 1
    assert process.wait(timeout=900) == 0, (home / "stderr.log").read_text()
    finished = finished_lines(folder)
    assert finished[: len(lines_before)] == lines_before
    events = folder.events()
    indexes = [event["index"] for event in events if event["event"] == "finished"]
    assert sorted(indexes) == list(range(candidates)), "each candidate finished exactly once"
    steps = [(event["index"], event["rung"]) for event in events if event["event"] == "rung"]
    assert len(steps) == len(set(steps)), "each rung was trained to exactly once"
    ids = [event["id"] for event in events if event["event"] == "proposed"]
    assert len(set(ids)) == len(ids) == candidates
    tested = [event["index"] for event in events if event["event"] == "tested"]
    ok = [result.index for result in folder.results() if result.status == "ok"]
    assert sorted(tested) == ok, "each ok candidate was scored on the test set exactly once"
    return done


def finished_lines(folder: RunFolder) -> list[bytes]:
    content = (folder.path / "events.jsonl").read_bytes()
    kinds = (b'"event":"rung"', b'"event":"finished"')
    return [line for line in content.split(b"\n")[:-1] if any(kind in line for kind in kinds)]


def test_three_kills(home: Path):
    run_with_kills(home, kills=3, candidates=4, seed=1)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_twenty_kills(home: Path):
    done = run_with_kills(home, kills=20, candidates=26, seed=2)
    print(done)
    assert sum(done.values()) == 20
