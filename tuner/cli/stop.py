"""`tune stop NAME`: end a search or retraining from elsewhere."""

from __future__ import annotations

from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a run or model, or latest.")]


def stop(
    name: Name = "latest",
    timeout: Annotated[
        float, typer.Option(metavar="NUMBER", min=1, help="Seconds to wait for its end.")
    ] = 60.0,
) -> None:
    """End a search or retraining as Ctrl-C does; of several of one name, all.

    A search can be resumed. A retraining keeps the best so far as a version.
    """
    from tuner.errors import TuneError
    from tuner.store.work import find_works
    from tuner.store.work import stop as stop_works

    works = find_works(name)
    going = stop_works(works, timeout)
    for work in works:
        if work not in going:
            which = "" if len(works) == 1 else f" (a {work.kind}, process {work.pid})"
            next_step = f"tune resume {work.name}" if work.kind == "search" else "tune models"
            print(f"{work.name}{which} has stopped. Next: {next_step}")
    if going:
        raise TuneError(
            f"Expected '{going[0].name}' to stop within {timeout:.0f} s. Going on: process "
            f"{', '.join(str(work.pid) for work in going)}; 'tune stop {going[0].name}' again "
            "ends it at once."
        )
