"""Start a command that outlives its terminal."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tuner.errors import TuneError


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `tune` with these arguments in a session of its own; what it prints goes to `log`."""
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("wb") as file:
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def print_started(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Tell how to follow it and how to end it.

    Raises:
        TuneError: it has ended at once.
    """
    try:
        code = process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        print(
            f"{name} goes on in the background, process {process.pid}.\n"
            f"Follow it: tune attach {name}\nEnd it:    tune stop {name}"
        )
        return
    if code:
        told = log.read_text(encoding="utf-8", errors="replace").strip()
        raise TuneError(told.rpartition("\n")[2].removeprefix("tune: "))
