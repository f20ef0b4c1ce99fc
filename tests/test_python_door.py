"""`import tuner`: the same words, errors and results as the command line."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import types
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

import tuner
from runs_support import make_run
from tuner.store.clean import clean
from tuner.store.runs import known_runs
from walk_support import small_digits, tune

HEAVY = ("tensorflow", "keras", "optuna", "joblib", "plotly", "pandas", "numpy", "rich", "typer")


def test_import_loads_nothing():
    code = (
        "import sys, tuner\n"
        "print([name for name in sys.modules if name.startswith('tuner')])\n"
        "tuner.Run, tuner.search, tuner.Target, tuner.TuneError\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == ["['tuner']", "[]"]


def test_public_names():
    assert set(tuner.__all__) <= set(dir(tuner))
    for name in tuner.__all__:
        assert getattr(tuner, name).__doc__
    with pytest.raises(AttributeError, match="has no attribute 'serch'"):
        tuner.serch  # noqa: B018


def test_a_run_is_read(home: Path):
    folder = make_run(home, "r", (12, 18, None), ended=True)
    for run in (tuner.Run("r"), tuner.Run(folder.path), tuner.Run("runs/r"), tuner.Run()):
        assert run.name == "r"
        assert run.state == "ended"
        assert [row["rank"] for row in run.candidates] == [1, 2, 3]
        assert run.best == run.candidates[0]
    assert run.best["accuracy"]["validation"]["int8"] == 0.9
    assert run.report(rank_by="float32") == run.candidates
    assert run.events == folder.events()
    assert run.folder == folder.path
    assert run.spec.max_candidates == 8
    assert repr(run) == "<Run 'r', ended>"


def test_before_anything_was_trained_there_is_no_best(home: Path):
    make_run(home, "failed", (None,), ended=True)
    assert tuner.Run("failed").best is None
    make_run(home, "empty")
    assert tuner.Run("empty").best is None
    assert tuner.Run("empty").candidates == []


def test_a_dataframe_needs_pandas_and_says_so(home: Path, monkeypatch: pytest.MonkeyPatch):
    make_run(home, "r", (12, 18), ended=True)
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(tuner.TuneError, match="needs pandas, which is not installed"):
        tuner.Run("r").to_dataframe()
    stand_in = types.ModuleType("pandas")
    stand_in.DataFrame = list
    monkeypatch.setitem(sys.modules, "pandas", stand_in)
    rows = tuner.Run("r").to_dataframe()
    assert [row["accuracy_validation_int8"] for row in rows] == [0.9, 0.6]
    assert rows[0]["ram_bytes"] == 1000


def test_figures_are_plotly_objects(home: Path):
    make_run(home, "r", (12, 18, None), ended=True)
    figures = tuner.Run("r").figures
    names = {trace.meta for trace in figures.cost("latency_ms").data}
    assert "front" in names
    assert list(figures.curve(1).data[0].y) == [45.0, 90.0]
    assert len(figures.history().data[-1].y) == 2
    assert type(figures.cost(split="test")).__name__ == "Figure"


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (lambda: tuner.search(data="x"), "Expected --target"),
        (lambda: tuner.search("k23O", "sample:digits"), "Unknown target 'k23O'. Did you mean"),
        (lambda: tuner.search("k230", "sample:digit"), "Did you mean 'digits'"),
        (lambda: tuner.search("k230", "nowhere"), "nowhere, which does not exist"),
        (
            lambda: tuner.search("k230", time=20),
            "tuner.search: time: expected a text such as '60s'",
        ),
        (
            lambda: tuner.search("k230", tme="60s"),
            "tuner.search: unknown option 'tme'. Did you mean 'time'? Known: target, data, time",
        ),
        (lambda: tuner.export("m", to="tflite", out="x"), "unknown option 'out'. Did you mean 'ou"),
        (lambda: tuner.search("k230", time="soon"), "Expected a time such as 90s"),
        (lambda: tuner.search("k230", ram_kb=-1), "a number above 0 for --ram-kb"),
        (lambda: tuner.search(config="none.toml"), "Expected a file at none.toml"),
        (lambda: tuner.Run("nothing"), "Unknown run 'nothing'"),
        (lambda: tuner.Run(Path("nothing")), "Expected the folder of a run, with run.json"),
        (lambda: tuner.resume("nothing"), "Unknown run 'nothing'"),
        (lambda: tuner.extend("r"), "Expected --time or --max-candidates"),
        (lambda: tuner.Run("r").report(rank_by="best"), "one of target, int8, float32. Received"),
        (lambda: tuner.Run("r").figures.cost("macs"), "one of ram_bytes, flash_bytes, latency_ms"),
        (lambda: tuner.Run("r").figures.curve(9), "Ranks 1 to 2 name them too"),
        (lambda: tuner.select("r", 9), "Ranks 1 to 2 name them too"),
        (lambda: tuner.select("r", 1, output="a.txt"), "a file that ends in .toml"),
        (lambda: tuner.retrain("none.toml"), "Expected a file at none.toml; there is none"),
        (lambda: tuner.retrain("none.toml", epochs=0), "1 or more for --epochs. Received: 0."),
        (lambda: tuner.Model("none"), "Unknown model 'none'"),
        (lambda: tuner.export("none", to="tflite"), "Unknown model 'none'"),
    ],
)
def test_errors_are_those_of_the_command_line(home: Path, call: Any, words: str):
    make_run(home, "r", (12, 18), ended=True)
    with pytest.raises(tuner.InputError) as error:
        call()
    assert words in str(error.value)


def test_what_cannot_fit_is_an_error_of_its_own(home: Path):
    with pytest.raises(tuner.NothingFitsError, match="No candidate fits nano33ble"):
        tuner.search("nano33ble", "sample:digits", ram_kb=0.5)


def test_a_search_too_short_for_a_candidate_says_what_is_enough(home: Path):
    """From Python as from the command line; the run is there in both."""
    with pytest.raises(tuner.TuneError, match="No candidate of short was trained") as error:
        tuner.search("nano33ble", "sample:digits", "1s", workers=2, name="short", progress=False)
    told = str(error.value)
    assert re.search(r"took \d+ of 1 s. That left the search 0 s, and a first", told)
    assert re.search(r"Search again with --time \d+0s or --workers 1\.$", told)
    assert tuner.Run("short").candidates == []
    again = tune(home, "resume", "short", code=1)
    assert "tune: No candidate of short was trained: opening the data and" in again.stderr


def test_the_whole_way(home: Path):
    """Searched, extended after its weights were removed, selected, retrained, exported."""
    data = small_digits(home / "digits.npz")
    run = tuner.search(
        "nano33ble", data, max_candidates=3, workers=1, name="door", space="mixed_stages",
        progress=False,
    )  # fmt: skip
    first = run.candidates
    assert [row["status"] for row in first] == ["ok", "ok", "stopped"]
    assert first == json.loads(tune(home, "report", "door", "--format", "json").stdout)
    assert clean(known_runs()).removed

    run = tuner.extend(run, max_candidates=2, progress=False)
    assert run.state == "ended"
    by_id = {row["id"]: row for row in run.candidates}
    assert Counter(row["status"] for row in by_id.values()) == {"ok": 4, "stopped": 1}
    for row in first:
        if row["status"] == "ok":
            assert by_id[row["id"]]["accuracy"] == row["accuracy"]
    assert run.best["accuracy"]["test"]["int8"] > 0.8

    template = tuner.select(run, 1, output="digit.toml")
    epochs: list[int] = []
    model = tuner.retrain(
        template, epochs=2, threads=1, on_epoch=lambda epoch: epochs.append(epoch["number"])
    )
    assert model.reference == "digit@1"
    assert repr(model) == "<Model 'digit@1'>"
    assert model.version.epochs == 2
    assert epochs == sorted(set(epochs))
    assert set(model.accuracy["test"]) == {"float32", "int8", "target"}
    folder = tuner.export(model, to="tflite")
    assert (folder / "digit_int8.tflite").exists()
    assert json.loads((folder / "export_report.json").read_text())["passed"]
