"""`tune stop NAME`: end a search or retraining from elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(help="Name of a run or model, or latest.")]


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
