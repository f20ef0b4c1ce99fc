from __future__ import annotations

import fcntl
import json
import os
import time
from pathlib import Path

import pytest

from tuner.store.events import EventLog
from tuner.store.lock import locked

WEIGHTS = 30_000
IMAGES = 70_000


def make_run(home: Path, name: str, fingerprint: str, *, ended: bool) -> Path:
    folder = home / "runs" / name
    rung = folder / "candidates" / "c1" / "rung0"
    rung.mkdir(parents=True)
    (folder / "run.json").write_text(json.dumps({"dataset": {"fingerprint": fingerprint}}))
    (rung / "weights.npz").write_bytes(bytes(WEIGHTS))
    (rung / "int8.tflite").write_bytes(b"model")
    with EventLog(folder / "events.jsonl") as log:
        log.append("opened")
        if ended:
            log.append("ended")
    return folder


def make_images(home: Path, fingerprint: str) -> Path:
    folder = home / "runs" / ".cache" / fingerprint / "8x8-grey-stretch"
    folder.mkdir(parents=True)
    (folder / "training.npy").write_bytes(bytes(IMAGES))
    (folder / ".training.lock").touch()
    return folder.parent


@pytest.fixture
def full(home: Path) -> Path:
    make_run(home, "done", "aaaa", ended=True)
    make_run(home, "stopped", "bbbb", ended=False)
    for fingerprint in ("aaaa", "bbbb", "cccc"):
        make_images(home, fingerprint)
    for kept in ("samples/digits-1", "index"):
        (home / "runs" / ".cache" / kept).mkdir(parents=True)
        (home / "runs" / ".cache" / kept / "kept").touch()
    version = home / "models" / "m" / "1"
    version.mkdir(parents=True)
    (version / "weights.npz").touch()
    (home / "template.toml").touch()
    return home


def files(home: Path) -> set[str]:
    return {path.relative_to(home).as_posix() for path in home.rglob("*") if path.is_file()}


def test_what_serves_nothing_goes_and_the_rest_stays(cli, full: Path):
    before = files(full)
    code, out, _ = cli("clean")
    assert code == 0
    assert before - files(full) == {
        "runs/done/candidates/c1/rung0/weights.npz",
        "runs/.cache/cccc/8x8-grey-stretch/training.npy",
        "runs/.cache/cccc/8x8-grey-stretch/.training.lock",
    }
    assert out.splitlines() == [
        "   29.3 KB  done: weights of candidates, the run has ended",
        "   68.4 KB  cccc: prepared images",
        "   97.7 KB  freed.",
    ]
    assert cli("clean")[1] == "Nothing to free.\n"


def test_a_dry_run_removes_nothing(cli, full: Path):
    before = files(full)
    assert "   97.7 KB  would be freed; nothing was removed." in cli("clean", "--dry-run")[1]
    assert files(full) - before <= {"runs/done/run.lock", "runs/stopped/run.lock"}
    assert before <= files(full)


def test_json(cli, full: Path):
    code, out, _ = cli("clean", "--format", "json", "done")
    assert code == 0
    assert json.loads(out) == {
        "dry_run": False,
        "freed_bytes": WEIGHTS + IMAGES,
        "removed": [
            {
                "kind": "weights",
                "name": "done",
                "size_bytes": WEIGHTS,
                "paths": ["runs/done/candidates/c1/rung0/weights.npz"],
            },
            {
                "kind": "images",
                "name": "cccc",
                "size_bytes": IMAGES,
                "paths": ["runs/.cache/cccc"],
            },
        ],
        "going_on": [],
    }


def test_what_killed_processes_left(cli, full: Path):
    run = full / "runs" / "stopped"
    (run / "candidates" / "c1" / ".int8.tflite.abc").write_bytes(b"half")
    (run / "slot-0.outcome").write_bytes(b"half")
    (run / "slot-0.tmp" / "compiler").mkdir(parents=True)
    (run / "slot-0.tmp" / "compiler" / "input").write_bytes(b"half")
    _, out, _ = cli("clean", "stopped")
    assert "      12 B  stopped: half-written files" in out
    assert not (run / "slot-0.outcome").exists()
    assert not (run / "slot-0.tmp" / "compiler" / "input").exists()
    assert (run / "candidates" / "c1" / "rung0" / "weights.npz").exists(), "resume needs it"


def test_a_run_that_is_going_on_is_left_alone(cli, full: Path):
    before = files(full / "runs" / "done")
    with locked(full / "runs" / "done" / "run.lock", "done"):
        code, out, _ = cli("clean", "--cache")
        assert code == 0
        assert "         -  done: going on, left alone" in out
        cli("clean", "--remove", "done")
    assert files(full / "runs" / "done") >= before
    assert {path.name for path in (full / "runs" / ".cache").iterdir()} == {
        *("aaaa", "samples", "index")
    }


def test_images_that_are_being_prepared_are_left_alone(cli, full: Path):
    lock = full / "runs" / ".cache" / "cccc" / "8x8-grey-stretch" / ".training.lock"
    with open(lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        cli("clean")
        assert lock.exists()
    cli("clean")
    assert not lock.exists()


def test_unpacked_arrays_stay_while_a_search_goes_on_or_they_are_made(cli, full: Path):
    array = full / "runs" / ".cache" / "arrays" / "key-x.npy"
    array.parent.mkdir()
    array.write_bytes(b"unpacked")
    with locked(full / "runs" / "done" / "run.lock", "done"):
        cli("clean", "--cache")
        assert array.exists()
    lock = array.parent / ".key-x.lock"
    lock.touch()
    with open(lock, "rb+") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        cli("clean")
        assert array.exists()
    cli("clean")
    assert not array.parent.exists()


def test_whole_runs_go_when_named_or_old(cli, full: Path):
    week_ago = time.time() - 7 * 86400
    os.utime(full / "runs" / "stopped" / "events.jsonl", (week_ago, week_ago))
    cli("clean", "--older-than", "8d", "--remove")
    assert (full / "runs" / "stopped").exists()
    cli("clean", "--older-than", "6d", "--remove")
    assert not (full / "runs" / "stopped").exists()
    assert not (full / "runs" / ".cache" / "bbbb").exists(), "no other run has its data"
    assert (full / "runs" / "done" / "candidates" / "c1" / "rung0" / "weights.npz").exists()
    cli("clean", "--remove", "done")
    assert {path.name for path in (full / "runs").iterdir()} == {".cache"}
    assert (full / "models" / "m" / "1" / "weights.npz").exists()
    assert (full / "template.toml").exists()


def test_a_removal_that_was_interrupted_can_be_repeated(
    cli, full: Path, monkeypatch: pytest.MonkeyPatch
):
    def interrupted(folder: Path) -> None:
        (folder / "run.json").unlink(missing_ok=True)
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("tuner.store.clean.shutil.rmtree", interrupted)
        assert cli("clean", "--remove", "done")[0] == 130
    assert cli("clean", "--remove", "done")[0] == 0
    assert not (full / "runs" / "done").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("--remove",), "Expected names of runs or --older-than together with --remove"),
        (("doen",), "Unknown run 'doen'. Did you mean 'done'?"),
        (("--older-than", "a week"), "7d for --older-than. Received: 'a week'"),
    ],
)
def test_bad_input_is_one_line_and_removes_nothing(cli, full: Path, arguments, words: str):
    before = files(full)
    code, _, err = cli("clean", *arguments)
    assert code == 2
    assert words in err
    assert len(err.strip().splitlines()) == 1
    assert files(full) == before
