"""Work that goes on: searches and retrainings whose process holds a lock file."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.errors import TuneError, UnknownNameError
from tuner.store.lock import holder, is_held_elsewhere, is_locked
from tuner.store.models import models_folder
from tuner.store.runs import known_runs

POLL_SECONDS = 0.2
BACKGROUND_LOG = "background.log"
"""What a search without a terminal prints, in the run's folder."""


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
        _work("retraining", lock.parent.name, lock, None)
        for lock in sorted(models_folder().glob("*/.new-*.lock"))
    ]
    return [work for work in found if work is not None]


def retraining_log(name: str, pid: int) -> Path:
    """What a retraining in the background prints: each process has a log of its own."""
    return models_folder() / name / ".logs" / f"background-{pid}.log"


def remove_ended_logs(name: str) -> None:
    """Remove what earlier retrainings of a model in the background have printed."""
    for log in retraining_log(name, 0).parent.glob("background*.log"):
        with suppress(FileNotFoundError):
            # An empty one may be that of a process that just starts.
            if log.stat().st_size and not is_locked(log):
                log.unlink()


def _work(
    kind: Literal["search", "retraining"], name: str, lock: Path, log: Path | None
) -> Work | None:
    pid = holder(lock)
    if pid is None:
        return None
    log = log or retraining_log(name, pid)
    try:
        started = lock.stat().st_mtime
    except FileNotFoundError:  # it has just ended
        return None
    return Work(kind=kind, name=name, pid=pid, started=started, lock=lock, log=log)


def find_works(name: str) -> list[Work]:
    """All work of that name; the newest alone for `latest`.

    Raises:
        UnknownNameError: nothing of that name goes on.
    """
    works = going_on()
    if name == "latest" and works:
        return [newest(works)]
    if named := [work for work in works if work.name == name]:
        return named
    raise UnknownNameError(
        "work that goes on",
        name,
        [work.name for work in works],
        "'tune runs' shows what has ended.",
    )


def newest(works: Sequence[Work]) -> Work:
    """The work that was started last."""
    return max(works, key=lambda work: work.started)


def stop(works: Sequence[Work], seconds: float) -> list[Work]:
    """Ask the processes to end as Ctrl-C does, and wait until they have.

    Returns:
        Those that have not ended in this time.

    Raises:
        TuneError: a process is of another machine, container or user; the others have been asked.
    """
    refused = ""
    going = list(works)
    for work in works:
        process = f"process {work.pid}, which works on '{work.name}'"
        if is_held_elsewhere(work.lock):
            refused = f"Stop {process}, where it runs: in another container or machine."
            going.remove(work)
            continue
        try:
            os.kill(work.pid, signal.SIGTERM)  # a shell's background ignores SIGINT
        except ProcessLookupError:  # it has just ended
            continue
        except PermissionError:
            refused = f"Stop {process}, as its user: it belongs to another one."
            going.remove(work)
    for _ in _until(time.monotonic() + seconds):
        going = [work for work in going if holder(work.lock) == work.pid]
        if not going:
            break
    if refused:
        raise TuneError(refused)
    return going


def _until(end: float) -> Iterator[None]:
    while time.monotonic() < end:
        yield
        time.sleep(POLL_SECONDS)
