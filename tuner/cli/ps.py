"""`tune ps`: the work that goes on."""

from __future__ import annotations

import time
from typing import Annotated, Literal

import typer


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
