"""`tune --repeats` and `tune --baselines`, with jobs that train nothing."""

from __future__ import annotations

import json

import pytest

from untrained_support import untrained  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("home", "untrained")


def test_board_logs_and_csv_say_how_many(cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    start = ["--target", "raspberry-pi-4", "--data", "sample:digits", "--workers", 1]
    code, out, err = cli(*start, "--max-candidates", 5, "--name", "r", "--repeats", 3)
    assert code == 0, err
    assert "(3)" in out.splitlines()[1]
    assert "(n): the mean of n trainings from different seeds" in out
    assert max(map(len, out.splitlines())) <= 80
    best = json.loads(cli("report", "r", "--format", "json")[1])[0]
    assert f"{best['accuracy']['validation']['int8']:.1%}".rstrip("%") in out
    assert "training 3, from another seed" in cli("logs", "r", 1)[1]
    head, first, *_ = cli("report", "r", "--format", "csv")[1].splitlines()
    assert dict(zip(head.split(","), first.split(","), strict=True))["trainings"] == "3"
    code, _, err = cli(*start, "--repeats", 0)
    assert code == 2
    assert "--repeats" in err


def test_the_board_names_the_known_nets(cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    code, out, err = cli(
        "--target", "raspberry-pi-4", "--data", "sample:digits", "--workers", 1, "--name", "r",
        "--max-candidates", 5, "--baselines",
    )  # fmt: skip
    assert code == 0, err
    told = " ".join(out.split())
    rows = json.loads(cli("report", "r", "--format", "json")[1])
    known = [row for row in rows if row["baseline"]]
    assert len(known) == 2
    listed = "; ".join(f"{row['baseline']} is {row['id']}, rank {row['rank']}" for row in known)
    assert f"Baselines: {listed}." in told
