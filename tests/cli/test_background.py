"""Searches and retrainings that go on without their terminal."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

from walk_support import small_digits, tune


def wait(home: Path, name: str, until: str) -> None:
    """Until the log of a run that goes on says something."""
    for _ in range(300):
        log = home / "runs" / name / "background.log"
        if log.exists() and until in log.read_text():
            return
        time.sleep(0.1)
    raise AssertionError(log.read_text())


def test_a_search_goes_on_is_listed_followed_and_stopped(tmp_path: Path):
    small_digits(tmp_path / "digits.npz")
    started = tune(
        tmp_path, "--target", "nano33ble", "--data", "digits.npz", "--time", "5m",
        "--workers", 1, "--name", "long", "--background",
    ).stdout  # fmt: skip
    assert "long goes on in the background" in started
    assert "tune attach long" in started
    assert "tune stop long" in started
    (row,) = json.loads(tune(tmp_path, "ps", "--format", "json").stdout)
    assert (row["kind"], row["name"]) == ("search", "long")
    assert str(row["pid"]) in tune(tmp_path, "ps").stdout
    wait(tmp_path, "long", "searching")
    busy = tune(tmp_path, "resume", "long", "--background", code=2).stderr
    assert "The run 'long' is being worked on by another process" in busy
    assert "long has stopped. Next: tune resume long" in tune(tmp_path, "stop", "long").stdout
    assert "Nothing goes on" in tune(tmp_path, "ps").stdout
    (run,) = json.loads(tune(tmp_path, "runs", "--format", "json").stdout)
    assert run["state"] == "interrupted"
    assert "Unknown work that goes on 'long'" in tune(tmp_path, "stop", "long", code=2).stderr


def test_what_cannot_be_searched_is_said_at_once(tmp_path: Path):
    done = tune(tmp_path, "--target", "nano33ble", "--data", "nothing", "--background", code=2)
    assert "nothing" in done.stderr
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").glob("*/run.json"))


def test_attaching_shows_all_until_the_end(tmp_path: Path):
    small_digits(tmp_path / "digits.npz")
    tune(
        tmp_path, "--target", "nano33ble", "--data", "digits.npz", "--max-candidates", 2,
        "--name", "short", "--background",
        "--on-finish", "echo $TUNE_NAME ended with $TUNE_EXIT_CODE; exit 3",
    )  # fmt: skip
    followed = tune(tmp_path, "attach", "short").stdout
    assert "Next: tune select short 1" in followed
    assert "short ended with 0" in followed
    assert "--on-finish ended with 3: echo" in followed
    assert "Unknown work" in tune(tmp_path, "attach", "short", code=2).stderr
    more = tune(
        tmp_path, "extend", "short", "--max-candidates", 1, "--background",
        "--on-finish", "echo $TUNE_NAME extended: $TUNE_EXIT_CODE",
    )  # fmt: skip
    assert "tune attach short" in more.stdout
    assert "short extended: 0" in tune(tmp_path, "attach", "short").stdout
    rows = json.loads(tune(tmp_path, "report", "short", "--format", "json").stdout)
    assert len(rows) == 3


@pytest.mark.parametrize("command", ["attach", "stop"])
def test_nothing_to_attach_to(tmp_path: Path, command: str):
    assert "'tune runs' shows what has ended" in tune(tmp_path, command, code=2).stderr


def test_what_does_not_stop_is_named(tmp_path: Path):
    lock = tmp_path / "runs" / "stubborn" / "run.lock"
    lock.parent.mkdir(parents=True)
    (lock.parent / "run.json").write_text("{}")
    program = (
        "import pathlib, signal, sys; from tuner.store.lock import locked\n"
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "with locked(pathlib.Path(sys.argv[1]), 'It'): print(flush=True); signal.pause()"
    )
    holding = subprocess.Popen([sys.executable, "-c", program, lock], stdout=subprocess.PIPE)
    try:
        assert holding.stdout
        holding.stdout.readline()
        line = tune(tmp_path, "stop", "stubborn", "--timeout", 1, code=1).stderr
        assert f"Expected 'stubborn' to stop within 1 s. Going on: process {holding.pid};" in line
        assert "'tune stop stubborn' again ends it at once" in line
    finally:
        holding.kill()
        holding.communicate()


def test_the_command_at_the_end_is_run_for_failures_too(tmp_path: Path):
    done = tune(tmp_path, "resume", "nothing", "--on-finish", "echo never", code=2)
    assert "never" not in done.stdout
    small_digits(tmp_path / "digits.npz")
    done = tune(
        tmp_path, "--target", "nano33ble", "--data", "digits.npz", "--time", "1s",
        "--name", "hasty", "--on-finish", "echo $TUNE_NAME: $TUNE_EXIT_CODE", code=1,
    )  # fmt: skip
    assert "hasty: 1" in done.stdout
