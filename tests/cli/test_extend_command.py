"""`tune extend` and `tune --config`, with jobs that train nothing."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from untrained_support import untrained  # noqa: F401 - a fixture
from walk_support import small_digits

pytestmark = pytest.mark.usefixtures("untrained")


def test_a_run_is_extended_shown_and_repeated(cli, home: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    start = ["--target", "raspberry-pi-4", "--data", "sample:digits", "--workers", 1]
    assert cli(*start, "--max-candidates", 3, "--name", "r")[0] == 0
    first = json.loads(cli("report", "r", "--format", "json")[1])
    code, out, err = cli("extend", "r", "--max-candidates", "2")
    assert code == 0, err
    assert "Next: tune select r 1" in out
    rows = json.loads(cli("report", "r", "--format", "json")[1])
    assert {row["id"] for row in first} < {row["id"] for row in rows}
    assert len(rows) == 5
    assert "extended to 5 candidates in all" in cli("logs", "r", "--lines", 99)[1]
    table = cli("runs")[1]
    assert table.splitlines()[1].split()[:5] == [
        "r",
        "ended",
        "raspberry-pi-4",
        "sample:digits",
        "5",
    ]

    config = home / "runs" / "r" / "run.json"
    code, _, err = cli("--config", config, "--max-candidates", 3, "--name", "again")
    assert code == 0, err
    again = json.loads(cli("report", "again", "--format", "json")[1])
    assert [(row["id"], row["accuracy"]) for row in again] == [
        (row["id"], row["accuracy"]) for row in first
    ]


def test_the_commands_that_are_named_are_of_this_run(cli, home: Path):
    (home / "r.toml").write_text("the template of another run")
    start = ["--target", "raspberry-pi-4", "--data", "sample:digits", "--workers", 1]
    code, out, err = cli(*start, "--max-candidates", 1, "--name", "r")
    assert code == 0, err
    assert "Next: tune select r 1 -o r-2.toml &&\n      tune retrain r-2.toml\n" in out


def test_a_run_whose_data_is_gone(cli, home: Path):
    small_digits(home / "digits.npz")
    start = ["--target", "raspberry-pi-4", "--data", "digits.npz", "--workers", 1]
    assert cli(*start, "--max-candidates", 1, "--name", "r")[0] == 0
    (home / "digits.npz").rename(home / "moved.npz")
    code, _, err = cli("extend", "r", "--max-candidates", 1)
    assert code == 2
    assert f"Expected the data of the run 'r' at {home / 'digits.npz'}. There is nothing." in err
