"""Jobs for slots that go wrong in the last rung, or hang; workers import them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from untrained_support import train_candidate

HANGS_SECONDS = 300.0


def _train(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    *before, seconds, last, others = rest[:8]
    brief = None if seconds is None else min(seconds, 0.1)
    return train_candidate(run, folder, *before, brief, last, others)


def _first_of_all(folder: Path, last: bool) -> bool:
    """Whether this is the first candidate that is trained to its end; it stays so."""
    mark = folder.parent / "first.txt"
    if last and not mark.exists():
        mark.write_text(folder.name)
    return last and mark.read_text() == folder.name


def raise_at_the_end(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """No candidate is trained to its end."""
    if rest[6]:
        raise ValueError("no such loss.")
    return _train(run, folder, *rest)


def no_room(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """The disk is full as soon as a candidate has been trained to rung 1, as numpy says it."""
    if rest[1] == 1:
        (folder / "no-room").touch()
        try:
            raise OSError(28, "No space left on device")
        except OSError:
            raise ValueError("Can't close the ZIP file") from None
    return _train(run, folder, *rest)


def raise_first(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """The first that is trained to its end is not."""
    if _first_of_all(folder, rest[6]):
        raise ValueError("no loss today.")
    return _train(run, folder, *rest)


def die_first(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """The worker of the first that is trained to its end dies, again and again."""
    if _first_of_all(folder, rest[6]):
        os._exit(3)
    return _train(run, folder, *rest)


def hang_once(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """The first step to rung 1 hangs before its first epoch, like one that waits for a lock."""
    mark = folder.parent / "hangs.txt"
    if rest[1] == 1 and not mark.exists():
        mark.write_text(folder.name)
        time.sleep(HANGS_SECONDS)
    return _train(run, folder, *rest)
