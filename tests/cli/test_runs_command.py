"""`tune runs`, `extend`, `logs`, `completion` and `--config`: no training."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from runs_support import make_run
from tuner.store.lock import locked
from tuner.store.models import ModelFolder
from tuner.store.work import BACKGROUND_LOG


@pytest.fixture
def runs(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("COLUMNS", "80")
    make_run(home, "first", (12, 18), ended=True, source="/home/images/flowers")
    stopped = make_run(home, "stopped-with-a-name-that-is-rather-long-20261121100000", (10, None))
    log = stopped.path / "slot-0.log"
    log.write_text("".join(f"line {number}\n" for number in range(30)))
    candidate = stopped.results()[1].candidate.id
    error = stopped.candidate(candidate) / "error.log"
    error.parent.mkdir(parents=True)
    error.write_text("Traceback (most recent call last)\nRuntimeError: no loss today\n")
    return home


def test_no_runs(cli, home: Path):
    assert cli("runs")[1] == "No runs yet; 'tune --target NAME --data DIR' starts one.\n"
    assert json.loads(cli("runs", "--format", "json")[1]) == []


def test_runs_as_json(cli, runs: Path):
    rows = json.loads(cli("runs", "--format", "json")[1])
    by_name = {row["name"]: row for row in rows}
    assert [row["state"] for row in rows] == ["interrupted", "ended"], "the newest first"
    first = by_name["first"]
    assert first["targets"] == ["nano33ble"]
    assert first["data"] == "/home/images/flowers"
    assert first["candidates"] == 2
    assert first["best"]["accuracy"] == 0.9
    assert first["best"]["rank_by"] == "target"
    assert first["elapsed_seconds"] == 66.0
    assert rows[0]["candidates"] == 1
    assert rows[0]["best"]["accuracy"] == 0.5


def test_runs_as_a_table_of_80_columns(cli, runs: Path):
    make_run(runs, "empty")
    with locked(runs / "runs" / "first" / "run.lock", "first"):
        table = cli("runs")[1].splitlines()
    assert max(map(len, table)) <= 80
    assert table[0].split() == ["run", "state", "target", "data", "nets", "best", "%", "started"]
    assert table[1].split()[:6] == ["empty", "interrupted", "nano33ble", "sample:digits", "0", "-"]
    assert "stopped-with-a-name-that-is-rather-long-20261121100000" in "".join(
        line.split()[0] for line in table[2:5]
    ), "long names are folded, not cut"
    assert next(line for line in table if line.startswith("first")).split()[1:6] == [
        *("running", "nano33ble", "flowers", "2", "90.0")
    ]


def test_the_name_of_a_run_can_be_copied(cli, runs: Path):
    """Names that searches get by default, even beside the longest states and data."""
    names = [f"{target}-20261121100000" for target in ("raspberry-pi-4", "nano33ble")]
    for name in names:
        make_run(runs, name, (10,), source="/home/images/a-long-name-of-data")
    table = cli("runs")[1].splitlines()
    assert max(map(len, table)) <= 80
    for name in names:
        assert any(line.split()[:3] == [name, "interrupted", "nano3…"] for line in table), table


def test_a_run_that_cannot_be_read_does_not_hide_the_others(cli, runs: Path):
    (runs / "runs" / "first" / "run.json").write_text('{"name": "first"}')
    code, out, _ = cli("runs")
    assert code == 0
    assert "unreadable" in out
    assert "the field 'dataset' is missing" in " ".join(out.split())
    assert "interrupted" in out


def test_logs_of_a_run(cli, runs: Path):
    out = cli("logs", "latest", "--lines", "4")[1].splitlines()
    assert out[0].endswith("events.jsonl, the last 4 of 7 lines")
    assert out[3].startswith(" 0:00:01  c")
    assert out[3].endswith("started to rung 0: 2 epochs")
    assert out[4].endswith("failed: no loss today")
    assert out[6].endswith("slot-0.log, the last 4 of 30 lines")
    assert out[7:] == ["line 26", "line 27", "line 28", "line 29"]


def test_logs_of_a_run_in_the_background_say_why_it_ended(cli, runs: Path):
    (runs / "runs" / "first" / BACKGROUND_LOG).write_text("searching ...\nThe disk is full.\n")
    out = cli("logs", "first", "--lines", "1")[1].splitlines()
    assert out[-2:] == ["== first, background.log, the last 1 of 2 lines", "The disk is full."]


@pytest.fixture
def model(runs: Path, small_model: ModelFolder) -> Path:
    """Version 1 of a model that has the name of a run."""
    folder = Path(shutil.copytree(small_model.path, runs / "models" / "first" / "1"))
    plain = json.loads((folder / "model.json").read_text())
    (folder / "model.json").write_text(json.dumps({**plain, "name": "first"}))
    return folder


@pytest.mark.usefixtures("model")
def test_logs_of_a_run_and_of_a_model_of_its_name(cli):
    assert cli("logs", "first@1")[1].startswith("== first@1")
    assert "events.jsonl" not in cli("logs", "first@1")[1]
    both = cli("logs", "first")[1]
    assert both.startswith("== first, events.jsonl")
    assert "\n== first@1" in both


def test_a_model_that_cannot_be_read_does_not_hide_the_others(cli, model: Path):
    shutil.copytree(model, model.parent / "2")
    (model.parent / "2" / "model.json").write_text("{")
    code, out, _ = cli("models")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    assert ["first@2", "unreadable"] in lines
    assert any(line[0] == "first@1" and len(line) > 2 for line in lines)
    assert "first@2: " in out
    rows = {row["version"]: row for row in json.loads(cli("models", "--format", "json")[1])}
    assert rows[2]["state"] == "unreadable"
    assert "model.json cannot be read as JSON" in rows[2]["reason"]
    assert rows[1]["accuracy"]


def test_accuracies_of_validation_images_are_marked(cli, model: Path):
    assert "*" not in cli("models")[1]
    plain = json.loads((model / "model.json").read_text())
    for build in plain["builds"].values():
        del build["accuracy"]["test"]
    (model / "model.json").write_text(json.dumps(plain))
    _, row, note = cli("models")[1].splitlines()
    assert [word[-1] for word in row.split()[2:4]] == ["*", "*"]
    assert note == "*: of validation images; the data has no test images"


@pytest.fixture
def process() -> Iterator[subprocess.Popen[bytes]]:
    """A process that has nothing to do with a run."""
    with subprocess.Popen(["sleep", "60"]) as started:
        yield started
        started.kill()


def test_a_process_of_another_container_is_not_ended(
    cli, runs: Path, process: subprocess.Popen[bytes]
):
    lock = runs / "runs" / "first" / "run.lock"
    with locked(lock, "first"):
        lock.write_text(f"{process.pid}\nanother 1\n")
        code, _, err = cli("stop", "first")
    assert code != 0
    assert f"Stop process {process.pid}, which works on 'first', where it runs" in err
    assert process.poll() is None


def test_a_process_of_another_user_is_named(
    cli, runs: Path, process: subprocess.Popen[bytes], monkeypatch: pytest.MonkeyPatch
):
    def refuse(*_: int) -> None:
        raise PermissionError

    lock = runs / "runs" / "first" / "run.lock"
    with locked(lock, "first"):
        place = lock.read_text().partition("\n")[2]
        lock.write_text(f"{process.pid}\n{place}")
        with monkeypatch.context() as patch:
            patch.setattr("tuner.store.work.os.kill", refuse)
            code, _, err = cli("stop", "first")
    assert code != 0
    assert "as its user: it belongs to another one" in err


def test_logs_of_a_candidate(cli, runs: Path):
    out = cli("logs", "first", 1)[1].splitlines()
    assert out[0].endswith("of first, stopped: cut at rung 0 of 1")
    assert out[1:4] == [
        " 0:00:01  proposed, test",
        " 0:00:01  started to rung 0: 2 epochs",
        " 0:01:05  rung 0, 2 epochs in 3 s",
    ]
    assert out[4:] == [
        "          epoch   1  validation 45.0 %, float32",
        "          epoch   2  validation 90.0 %, float32",
        " 0:01:06  stopped: cut at rung 0 of 1",
    ]


def test_logs_of_a_candidate_that_failed(cli, runs: Path):
    rows = json.loads(cli("report", "latest", "--format", "json")[1])
    failed = next(row["id"] for row in rows if row["status"] == "failed")
    out = cli("logs", "latest", failed[:9])[1]
    assert "failed: no loss today" in out.splitlines()[0]
    assert out.endswith(
        f"== {failed}, error.log\nTraceback (most recent call last)\nRuntimeError: no loss today\n"
    )


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["logs", "frist"], "Unknown run 'frist'. Did you mean 'first'?"),
        (["logs", "first", "zzz"], "Unknown candidate of the run 'first' 'zzz'"),
        (["extend", "first"], "Expected --time or --max-candidates"),
        (["extend", "first", "--time", "soon"], "Expected a time such as 90s"),
        (["extend", "first", "--time", "1m"], "/home/images/flowers"),
        (["--config", "none.toml"], "Expected a file at none.toml; there is none"),
        (["--config", "a.toml", "--seed", "1"], "unknown field 'targt'. Did you mean 'target'?"),
        (["--seed", "1", "--data", "x"], "Expected --target"),
    ],
)
def test_wrong_arguments(cli, runs: Path, arguments: list[str], words: str):
    (runs / "a.toml").write_text("targt = 'k230'\n")
    code, _, err = cli(*arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1


def test_what_stands_on_the_command_line_wins_over_the_file(cli, home: Path):
    (home / "a.toml").write_text("target = 'nano33ble'\ndata = 'sample:digits'\nram_kb = 0.2\n")
    code, _, err = cli("--config", "a.toml", "--ram-kb", "0.5")
    assert code == 3, "nothing fits, so nothing is trained"
    assert "> 512 B" in err
    code, _, err = cli("--config", "a.toml")
    assert "> 204 B" in err


def complete(home: Path, line: str) -> list[str]:
    words = line.split(" ")
    done = subprocess.run(
        [sys.executable, "-m", "tuner"],
        cwd=home,
        env={**os.environ, "TUNE_HOME": str(home), "_TUNE_COMPLETE": "complete_bash",
             "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    return done.stdout.split()


def test_completion_of_names(runs: Path):
    assert complete(runs, "tune ext") == ["extend"]
    assert complete(runs, "tune --target nan") == ["nano33ble"]
    assert complete(runs, "tune logs fi") == ["first"]
    assert set(complete(runs, "tune export m --to t")) == {
        "tflite",
        "tflite_int16x8",
        "tensorflow",
    }
    assert "mixed_stages" in complete(runs, "tune --space ")
    assert complete(runs, "tune export l") == ["latest"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(cli, shell: str):
    code, out, _ = cli("completion", shell)
    assert code == 0
    assert f"_TUNE_COMPLETE=complete_{shell}" in out
    if shutil.which(shell):
        subprocess.run([shell, "-n"], input=out, text=True, check=True)
    assert cli("completion", "tcsh")[0] == 2
