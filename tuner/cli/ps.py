"""`tune ps`, `attach`, `stop`: work that goes on."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer

Name = Annotated[str, typer.Argument(help="Name of a run or model, or latest.")]


def ps(
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """List the searches and retrainings that go on."""
    import json

    from tuner.store.work import going_on

    works = going_on()
    if format == "json":
        rows = [
            {
                "kind": work.kind,
                "name": work.name,
                "pid": work.pid,
                "seconds": _seconds(work.started),
            }
            for work in works
        ]
        print(json.dumps(rows, indent=2))
        return
    if not works:
        print("Nothing goes on; 'tune runs' and 'tune models' show what there is.")
        return
    for work in works:
        minutes, seconds = divmod(_seconds(work.started), 60)
        print(f"{work.kind:<10}  {work.name:<30}  {minutes:>4}:{seconds:02}  process {work.pid}")


def _seconds(started: float) -> int:
    return int(time.time() - started)


def attach(name: Name = "latest") -> None:
    """Follow what was started with --background; Ctrl-C leaves it going on."""
    from tuner.errors import InputError
    from tuner.store.lock import is_locked
    from tuner.store.work import POLL_SECONDS, find_work

    work = find_work(name)
    if not is_locked(work.log):
        raise InputError(
            f"Expected work that was started with --background. '{work.name}' has a terminal of "
            "its own; 'tune logs' tells what a run has done."
        )
    with work.log.open(encoding="utf-8", errors="replace") as log:
        while True:
            going = is_locked(work.log)
            print(log.read(), end="", flush=True)
            if not going:
                return
            time.sleep(POLL_SECONDS)


def stop(
    name: Name = "latest",
    timeout: Annotated[float, typer.Option(min=1, help="Seconds to wait for its end.")] = 60.0,
) -> None:
    """End a search or retraining as Ctrl-C does.

    A search can be resumed. A retraining keeps the best so far as a version.
    """
    from tuner.store.work import find_work
    from tuner.store.work import stop as stop_work

    work = find_work(name)
    stop_work(work, timeout)
    next_step = f"tune resume {work.name}" if work.kind == "search" else "tune models"
    print(f"{work.name} has stopped. Next: {next_step}")
