"""Processes that work on one home at the same time."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

from transfer_support import base_model
from tuner.store import lock as lock_module
from tuner.store import work as work_module
from tuner.store.lock import is_locked, locked
from tuner.store.models import models_folder, new_version, worker_logs
from tuner.store.work import Work, going_on, stop


def test_a_lock_file_that_its_holder_removed_is_not_held(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.lock"
    removed: list[int] = []

    def flock(descriptor: int, operation: int) -> None:
        fcntl.flock(descriptor, operation)
        if not removed:  # the holder ended after this process had opened the file
            path.unlink()
            removed.append(descriptor)

    monkeypatch.setattr(lock_module, "fcntl", SimpleNamespace(**{**vars(fcntl), "flock": flock}))
    with locked(path, "This"):
        assert removed
        assert is_locked(path)
        assert path.read_text().startswith(f"{os.getpid()}\n")


def test_a_lock_that_is_only_being_asked_for_is_taken(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.lock"
    asking = os.open(path, os.O_RDWR | os.O_CREAT)
    fcntl.flock(asking, fcntl.LOCK_SH)
    monkeypatch.setattr(lock_module.time, "sleep", lambda seconds: os.close(asking))
    with locked(path, "This"):
        assert is_locked(path)


def test_work_that_ends_while_it_is_listed_is_left_out(home: Path, monkeypatch):
    def holder(path: Path) -> int:
        path.unlink()
        return os.getpid()

    monkeypatch.setattr(work_module, "holder", holder)
    with new_version("digit", "key"):
        assert going_on() == []


def test_work_that_ends_before_it_is_stopped_has_stopped(home: Path):
    ended = subprocess.Popen([sys.executable, "-c", ""])
    ended.wait()
    work = Work(
        kind="retraining", name="digit", pid=ended.pid, started=0.0, lock=home / "x", log=home / "y"
    )
    assert stop([work], 1.0) == []


def test_versions_of_a_model_that_are_made_at_once_share_no_files(home: Path):
    with new_version("digit", "one") as first, new_version("digit", "two") as second:
        assert len({first, second, worker_logs(first), worker_logs(second)}) == 4


@pytest.mark.parametrize("left", ["nothing", "a file"])
def test_a_folder_without_its_version_keeps_its_number(home: Path, left: str):
    damaged = models_folder() / "base" / "1"
    damaged.mkdir(parents=True)
    if left == "a file":
        (damaged / "int8.tflite").write_bytes(b"left")
    assert base_model(home).path.name == "2"
