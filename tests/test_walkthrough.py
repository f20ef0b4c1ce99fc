"""The whole way as a user goes it, with real training, conversion and interpreters."""

from __future__ import annotations

import csv
import io
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner.engine.predictions import read_predictions
from tuner.store.runs import RunFolder
from walk_support import small_digits, tune

CANDIDATES = 5
FINISHED = 2


def search(home: Path, data: Path, name: str, *more: object) -> list[dict]:
    tune(
        home, "--target", "nano33ble", "--data", data, "--name", name,
        "--max-candidates", CANDIDATES, "--space", "mixed_stages", *more,
    )  # fmt: skip
    return json.loads(tune(home, "report", name, "--format", "json").stdout)


@pytest.fixture(scope="module")
def home_with_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    search(home, small_digits(home / "digits.npz"), "first")
    return home


def test_report_has_what_scripts_rely_on(home_with_run: Path):
    rows = json.loads(tune(home_with_run, "report", "first", "--format", "json").stdout)
    assert [row["rank"] for row in rows] == list(range(1, CANDIDATES + 1))
    assert [row["status"] for row in rows] == ["ok"] * FINISHED + ["stopped"] * (
        CANDIDATES - FINISHED
    )
    for row in rows:
        ended = row["status"] == "ok"
        assert row["rung"] == (1 if ended else 0)
        assert row["reason"].startswith("" if ended else "cut at rung 0 of 1")
        assert len(row["curve"]) == row["epochs"]
        assert set(row["accuracy"]["validation"]) == {"float32", "int8", "target"}
        assert set(row["accuracy"]["test"]) == (
            {"float32", "int8", "target"} if ended else set()
        ), "the test images are for what was trained to its end"
        cost = row["costs"]["nano33ble"]
        assert cost["fits"]
        assert cost["ram_kind"] == cost["flash_kind"] == cost["latency_kind"] == "estimated"
        assert cost["latency_low_ms"] <= cost["latency_ms"] <= cost["latency_high_ms"]
        assert cost["latency_basis"]
        for precision in ("int8", "float32"):
            model = home_with_run / "runs" / "first" / row["artifacts"][f"{precision}_tflite"]
            assert model.stat().st_size == row["builds"][precision]["size_bytes"]
            confusion = row["builds"][precision]["accuracy"]["validation"]["confusion"]
            assert sum(map(sum, confusion)) == 100
        assert cost["flash_parts"]["model"] == pytest.approx(
            row["builds"]["int8"]["size_bytes"], rel=0.03
        )
        # What is trained to its end gets the recipe that suits it; the rest, the converter's.
        build = row["builds"]["int8"]
        assert ("the best of" in build["recipe"]) == ended
        assert bool(build["snr_db"]) == ended
        assert set(build["beside_float32"]) == ({"validation"} if ended else set())
    best = rows[0]["accuracy"]["validation"]
    assert best["int8"] > 0.9
    finished = rows[:FINISHED]
    assert best["int8"] >= max(row["accuracy"]["validation"]["int8"] for row in finished)
    least = min(row["epochs"] for row in finished)
    assert all(row["epochs"] < least for row in rows[FINISHED:])


def test_what_each_image_was_taken_for_is_kept(home_with_run: Path):
    rows = json.loads(tune(home_with_run, "report", "first", "--format", "json").stdout)
    for row in rows:
        folder = home_with_run / "runs" / "first" / "candidates" / row["id"]
        for split in ("validation", "test"):
            kept = read_predictions(folder, split)
            assert (kept is not None) == (row["status"] == "ok")
            if kept is None:
                continue
            assert kept.builds.keys() == {"float32", "int8"}
            for precision, found in kept.builds.items():
                counted = row["builds"][precision]["accuracy"][split]["confusion"]
                confusion = np.zeros((3, 3), int)
                np.add.at(confusion, (kept.labels, found.classes), 1)
                assert confusion.tolist() == counted
                assert (found.confidences > 0.3).all()


def test_report_as_csv_and_table(home_with_run: Path):
    text = tune(home_with_run, "report", "first", "--format", "csv").stdout
    rows = list(csv.DictReader(io.StringIO(text)))
    assert len(rows) == CANDIDATES
    assert float(rows[0]["accuracy_validation_int8"]) > 0.9
    table = tune(home_with_run, "report").stdout
    assert max(map(len, table.splitlines())) <= 80
    assert rows[0]["id"] in table
    assert re.search(r"^ +majority +(\d+\.\d) +\1 +\d+\.\d +$", table, re.MULTILINE)
    assert "majority: all images taken for the largest class, 'one'." in table.replace("\n", " ")
    out = home_with_run / "board.json"
    tune(home_with_run, "report", "first", "--format", "json", "-o", out)
    assert len(json.loads(out.read_text())) == CANDIDATES


def test_select_retrain_export(home_with_run: Path):
    home = home_with_run
    tune(home, "select", "first", 1, "-o", "digit.toml")
    assert "exists" in tune(home, "select", "latest", 1, "-o", "digit.toml", code=2).stderr
    done = tune(home, "retrain", "digit.toml", "--threads", 1)
    assert "digit@1" in done.stdout
    tune(home, "retrain", "digit.toml", "--threads", 1)
    models = json.loads(tune(home, "models", "--format", "json").stdout)
    assert [(row["name"], row["version"]) for row in models] == [("digit", 2), ("digit", 1)]
    assert models[0]["accuracy"] == models[1]["accuracy"]
    weights = [home / "models" / "digit" / str(n) / "float32.tflite" for n in (1, 2)]
    assert weights[0].read_bytes() == weights[1].read_bytes(), "one thread repeats exactly"
    formats = ["--to", "tflite", "--to", "keras", "--to", "tensorflow"]
    done = tune(home, "export", "digit", *formats, "-o", "out")
    assert done.stdout.count("passed") == 4
    report = json.loads((home / "out" / "export_report.json").read_text())
    assert report["passed"]
    assert {row["format"] for row in report["artifacts"]} == {"tflite", "keras", "tensorflow"}
    assert (home / "out" / "labels.txt").read_text().split() == ["zero", "one", "two"]
    document = json.loads((home / "out" / "preprocessing.json").read_text())
    assert document["scaling"]["int8"] == "pixel - 128"
    assert "not empty" in tune(home, "export", "digit", *formats, "-o", "out", code=2).stderr
    assert (
        "Unknown exporter 'onnxx'"
        in tune(home, "export", "digit@1", "--to", "onnxx", code=2).stderr
    )
    assert "version of digit" in tune(home, "export", "digit@7", "--to", "tflite", code=2).stderr


def test_exported_int8_runs_elsewhere_as_the_report_says(home_with_run: Path):
    """Decode the exported file with the interpreter alone, following preprocessing.json."""
    from ai_edge_litert.interpreter import Interpreter

    home = home_with_run
    if not (home / "out").exists():  # this test was run alone
        tune(home, "select", "first", 1, "-o", "alone.toml")
        tune(home, "retrain", "alone.toml", "--epochs", 5)
        tune(home, "export", "alone", "--to", "tflite", "-o", "out")
    row = next(
        row
        for row in json.loads((home / "out" / "export_report.json").read_text())["artifacts"]
        if row["precision"] == "int8"
    )
    document = json.loads((home / "out" / "preprocessing.json").read_text())
    side = document["input"]["height"]
    data = np.load(home / "digits.npz")
    interpreter = Interpreter(str(home / "out" / row["file"]))
    interpreter.allocate_tensors()
    correct = 0
    for image, label in zip(data["x_test"], data["y_test"], strict=True):
        resized = Image.fromarray(image).resize((side, side), Image.Resampling.BILINEAR)
        pixels = (np.asarray(resized, np.int16) - 128).astype(np.int8)[None, ..., None]
        interpreter.set_tensor(interpreter.get_input_details()[0]["index"], pixels)
        interpreter.invoke()
        logits = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
        correct += int(logits[0].argmax() == label)
    assert abs(correct - row["correct"]) <= 1, "XNNPACK may round one image differently"


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('op = "conv2d"', 'op = "conv9d"', "Unknown op 'conv9d'"),
        ("filters = ", "filtres = ", "unknown field 'filtres'. Did you mean 'filters'?"),
        ("[training]", "[trainin]", "unknown field 'trainin'"),
        ("learning_rate = ", "learning_rate = -", "expected learning_rate above 0"),
        ("units = 3", "units = 4", "has 3 classes, the template's net gives 4"),
        ("[training]", "[training", "is not TOML"),
    ],
)
def test_edited_template_with_a_mistake(home_with_run: Path, old: str, new: str, words: str):
    source = home_with_run / "source.toml"
    if not source.exists():
        tune(home_with_run, "select", "first", 2, "-o", source)
    text = source.read_text()
    assert old in text
    (home_with_run / "edited.toml").write_text(text.replace(old, new, 1))
    line = tune(home_with_run, "retrain", "edited.toml", code=2).stderr.strip()
    assert words in line
    assert line.count("\n") == 0


def test_template_too_large_for_its_target(home_with_run: Path):
    source = home_with_run / "large.toml"
    tune(home_with_run, "select", "first", 1, "-o", source)
    text = source.read_text()
    source.write_text(text.replace("size_bytes = 262144", "size_bytes = 50000"))
    line = tune(home_with_run, "retrain", source, code=2).stderr
    assert "does not fit nano33ble" in line


def test_the_same_seed_gives_the_same_board_for_any_number_of_workers(home_with_run: Path):
    first = json.loads(tune(home_with_run, "report", "first", "--format", "json").stdout)
    again = search(home_with_run, home_with_run / "digits.npz", "one-worker", "--workers", 1)
    assert [(row["id"], row["accuracy"]) for row in again] == [
        (row["id"], row["accuracy"]) for row in first
    ]


def test_the_test_set_decides_nothing(home_with_run: Path):
    first = json.loads(tune(home_with_run, "report", "first", "--format", "json").stdout)
    scrambled = small_digits(home_with_run / "scrambled.npz", test_seed=1)
    other = search(home_with_run, scrambled, "scrambled")
    for mine, theirs in zip(first, other, strict=True):
        assert mine["id"] == theirs["id"]
        assert mine["rank"] == theirs["rank"]
        assert mine["curve"] == theirs["curve"]
        assert mine["accuracy"]["validation"] == theirs["accuracy"]["validation"]
        if mine["status"] == "ok":
            assert mine["accuracy"]["test"] != theirs["accuracy"]["test"]


def start_search(home: Path, name: str, candidates: int) -> tuple[subprocess.Popen[str], RunFolder]:
    process = subprocess.Popen(
        [sys.executable, "-m", "tuner", "--target", "nano33ble", "--data", home / "digits.npz",
         "--name", name, "--space", "mixed_stages", "--max-candidates", str(candidates)],
        cwd=home, env={**os.environ, "TUNE_HOME": str(home)},
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    return process, RunFolder(home / "runs" / name)


def wait_for(kind: str, process: subprocess.Popen[str], folder: RunFolder) -> None:
    deadline = time.monotonic() + 120
    while not any(event["event"] == kind for event in folder.events()):
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.1)


def test_a_run_in_work_is_left_alone_by_another_process(home_with_run: Path):
    process, folder = start_search(home_with_run, "in-work", 100)
    wait_for("opened", process, folder)
    line = tune(home_with_run, "resume", "in-work", code=2).stderr
    assert "is being worked on by another process" in line
    process.send_signal(signal.SIGTERM)
    process.communicate(timeout=60)
    assert process.returncode == 130


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_stopped_run_can_be_resumed(home_with_run: Path, stop: signal.Signals):
    home, name = home_with_run, f"stopped-{stop.name.lower()}"
    process, folder = start_search(home, name, CANDIDATES)
    wait_for("rung", process, folder)
    process.send_signal(stop)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130, err
    assert f"tune resume {name}" in err
    assert "Traceback" not in err
    before = [event for event in folder.events() if event["event"] == "rung"]
    tune(home, "resume", name)
    after = [event for event in folder.events() if event["event"] == "rung"]
    assert after[: len(before)] == before
    assert sorted(event["index"] for event in after) == list(range(CANDIDATES))
    first = json.loads(tune(home, "report", "first", "--format", "json").stdout)
    resumed = json.loads(tune(home, "report", name, "--format", "json").stdout)
    assert [(row["id"], row["accuracy"]) for row in resumed] == [
        (row["id"], row["accuracy"]) for row in first
    ], "a run that was stopped ends as one that was not"
