"""Start a command that outlives its terminal."""

from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.errors import InputError, TuneError

if TYPE_CHECKING:
    from tuner.store.runs import RunFolder

Background = Annotated[bool, typer.Option("--background", help="Go on without this terminal.")]
OnFinish = Annotated[
    str | None,
    typer.Option(
        metavar="COMMAND", help="Run this at the end; it has $TUNE_NAME, $TUNE_EXIT_CODE."
    ),
]


@contextmanager
def finishing(command: str | None, name: str) -> Iterator[None]:
    """Run a shell's command when the work ends, however it ends; its own failure is only said."""
    code = 1
    try:
        yield
        code = 0
    except TuneError as error:
        code = error.exit_code
        raise
    except KeyboardInterrupt:
        code = 130
        raise
    finally:
        if command is not None:
            sys.stdout.flush()
            told = {**os.environ, "TUNE_NAME": name, "TUNE_EXIT_CODE": str(code)}
            ended = subprocess.run(command, shell=True, env=told, check=False).returncode
            if ended:
                print(f"--on-finish ended with {ended}: {command}", file=sys.stderr)


def start(arguments: list[str], log: Path) -> subprocess.Popen[bytes]:
    """Start `tune` with these arguments in a session of its own; what it prints goes to `log`.

    The process holds a lock on the log until it ends, which tells whoever follows it.

    Raises:
        InputError: another process writes this log.
    """
    log.parent.mkdir(parents=True, exist_ok=True)
    with log.open("ab") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise InputError(
                f"Expected {log} to be free. Work of that name goes on; see 'tune ps'."
            ) from None
        file.truncate(0)
        return subprocess.Popen(
            [sys.executable, "-m", "tuner", *arguments],
            stdin=subprocess.DEVNULL,
            stdout=file,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )


def resume_in_background(folder: RunFolder, on_finish: str | None) -> None:
    """Go on with a run without this terminal, and tell how to follow it.

    Raises:
        LockedError: it is going on already.
        TuneError: it has ended at once.
    """
    from tuner.store.lock import locked
    from tuner.store.work import BACKGROUND_LOG

    with locked(folder.lock, f"The run '{folder.name}'"):
        pass  # else it would be said in the log alone
    log = folder.path / BACKGROUND_LOG
    later = [] if on_finish is None else ["--on-finish", on_finish]
    print_started(start(["resume", folder.name, *later], log), folder.name, log)


def print_started(process: subprocess.Popen[bytes], name: str, log: Path) -> None:
    """Tell how to follow it and how to end it; of what ended at once, what it printed.

    Raises:
        TuneError: it has failed at once.
    """
    try:
        code = process.wait(timeout=2.0)
    except subprocess.TimeoutExpired:
        print(
            f"{name} goes on in the background, process {process.pid}.\n"
            f"Follow it: tune attach {name}\nEnd it:    tune stop {name}"
        )
        return
    told = log.read_text(encoding="utf-8", errors="replace").strip()
    if code:
        raise TuneError(told.rpartition("\n")[2].removeprefix("tune: "))
    print(told)
