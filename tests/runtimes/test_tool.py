"""Processes of tools: they end in time and with the one that asked for them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import psutil
import pytest

from tuner.errors import TuneError
from tuner.runtimes.tool import figure, run_tool

SLEEPER = """\
import os, pathlib, sys, time
pathlib.Path(sys.argv[1]).write_text(str(os.getpid()))
time.sleep(120)
"""
ECHO = """\
import os, sys
print(sys.argv[1:], sys.stdin.read())
print(os.getsid(0), os.getpgrp(), os.getpid(), os.nice(0))
sys.exit("sorry")
"""


@pytest.fixture
def environment(tmp_path: Path) -> dict[str, str]:
    (tmp_path / "sleeper.py").write_text(SLEEPER)
    (tmp_path / "echo_tool.py").write_text(ECHO)
    return {**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), os.getcwd()])}


def pid_in(path: Path) -> int:
    """What the sleeper wrote once it had started."""
    for _ in range(600):
        if path.exists() and path.read_text():
            return int(path.read_text())
        time.sleep(0.05)
    pytest.fail("the tool did not start within 30 seconds")


def has_ended(pid: int) -> bool:
    for _ in range(200):
        if not psutil.pid_exists(pid) or psutil.Process(pid).status() == psutil.STATUS_ZOMBIE:
            return True
        time.sleep(0.05)
    return False


def test_a_tool_gets_its_arguments_and_says_how_it_ended(environment: dict[str, str]) -> None:
    done = run_tool("echo_tool", "a", "b", seconds=60, given=b"model", environment=environment)
    said, process = done.stdout.decode().splitlines()
    assert (done.returncode, said) == (1, "['a', 'b'] model")
    assert done.stderr == b"sorry\n"
    session, group, own, niceness = map(int, process.split())
    assert group == own, "what it starts ends with it"
    # Of another session Linux would not compare the priority with that of trainings.
    assert (session, niceness) == (os.getsid(0), os.nice(0))


def test_a_tool_that_takes_too_long_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    started = tmp_path / "pid"
    with pytest.raises(subprocess.TimeoutExpired):
        run_tool("sleeper", str(started), seconds=5, environment=environment)
    assert has_ended(int(started.read_text()))


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere it ends by its alarm")
def test_a_tool_ends_when_its_parent_is_killed(environment: dict[str, str], tmp_path: Path) -> None:
    started = tmp_path / "pid"
    asks = "import sys; from tuner.runtimes.tool import run_tool\n" + (
        "run_tool('sleeper', sys.argv[1], seconds=100)"
    )
    parent = subprocess.Popen([sys.executable, "-c", asks, str(started)], env=environment)
    pid = pid_in(started)
    parent.kill()
    parent.wait()
    assert has_ended(pid)


def test_a_tool_ends_by_itself_when_nobody_stops_it(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tuner.runtimes.tool"]
    sleeper = [str(os.getpid()), "2", "sleeper", str(tmp_path / "pid")]
    done = subprocess.run(command + sleeper, env=environment, timeout=60)
    assert done.returncode == -signal.SIGALRM


def test_a_tool_does_not_start_when_its_parent_is_gone(
    environment: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "tuner.runtimes.tool", "1", "60", "sleeper"]
    done = subprocess.run(
        [*command, str(tmp_path / "pid")], env=environment, capture_output=True, timeout=60
    )
    assert done.returncode == 1
    assert b"is gone" in done.stderr
    assert not (tmp_path / "pid").exists()


def test_columns_that_another_version_names_differently() -> None:
    assert figure({"cycles_total": "12.5"}, "cycles_total", "Vela 5.2.0") == 12.5
    for row, received in (
        ({"cycles": "1"}, "'no such column', among the columns cycles"),
        ({"cycles_total": "many"}, "'many', among the columns cycles_total"),
        ({}, "'no such column', among the columns of an empty table"),
    ):
        with pytest.raises(
            TuneError, match=rf"column 'cycles_total' of what Vela 9\.0 writes.*{received}"
        ):
            figure(row, "cycles_total", "Vela 9.0")
