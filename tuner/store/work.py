"""Work that goes on: searches and retrainings whose process holds a lock file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.errors import TuneError, UnknownNameError
from tuner.store.lock import holder
from tuner.store.models import models_folder
from tuner.store.runs import known_runs

POLL_SECONDS = 0.2
BACKGROUND_LOG = "background.log"
"""What work without a terminal prints; in the run's folder, or beside a model's versions."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What a process is doing.

    Args:
        kind: what it is.
        name: of the run or of the model.
        pid: of the process.
        started: seconds since the epoch.
        lock: held as long as it goes on.
        log: what it prints, if it was started in the background.
    """

    kind: Literal["search", "retraining"]
    name: str
    pid: int
    started: float
    lock: Path
    log: Path


def going_on() -> list[Work]:
    """All work of this home, searches first."""
    found = [_work("search", run.name, run.lock, run.path / BACKGROUND_LOG) for run in known_runs()]
    found += [
        _work("retraining", lock.parent.name, lock, retraining_log(lock.parent.name))
        for lock in sorted(models_folder().glob("*/.new-*.lock"))
    ]
    return [work for work in found if work is not None]


def retraining_log(name: str) -> Path:
    """What a retraining in the background prints."""
    return models_folder() / name / ".logs" / BACKGROUND_LOG


def _work(kind: Literal["search", "retraining"], name: str, lock: Path, log: Path) -> Work | None:
    pid = holder(lock)
    if pid is None:
        return None
    try:
        started = lock.stat().st_mtime
    except FileNotFoundError:  # it has just ended
        return None
    return Work(kind=kind, name=name, pid=pid, started=started, lock=lock, log=log)


def find_work(name: str) -> Work:
    """The work of that name, or the newest for `latest`.

    Raises:
        UnknownNameError: nothing of that name goes on.
    """
    works = going_on()
    if name == "latest" and works:
        return max(works, key=lambda work: work.started)
    for work in works:
        if work.name == name:
            return work
    raise UnknownNameError(
        "work that goes on",
        name,
        [work.name for work in works],
        "'tune runs' shows what has ended.",
    )


def stop(work: Work, seconds: float) -> None:
    """Ask the process to end as Ctrl-C does, and wait until it has.

    Raises:
        TuneError: it has not ended in this time.
    """
    with suppress(ProcessLookupError):  # it has just ended
        os.kill(work.pid, signal.SIGTERM)  # a shell's background ignores SIGINT
    for _ in _until(time.monotonic() + seconds):
        if holder(work.lock) != work.pid:
            return
    raise TuneError(
        f"Expected '{work.name}' to stop within {seconds:.0f} s. Its process {work.pid} goes on; "
        "'tune stop' again ends it at once."
    )


def _until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)
