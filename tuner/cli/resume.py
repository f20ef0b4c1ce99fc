"""`tune resume RUN`: go on with a search that was stopped."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.background import Background, OnFinish, finishing, resume_in_background
from tuner.cli.complete import run_names


def resume(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or latest.", autocompletion=run_names),
    ] = "latest",
    background: Background = False,
    on_finish: OnFinish = None,
) -> None:
    """Go on with a search that was stopped; finished results are kept."""
    from tuner.cli.run import run_and_show
    from tuner.store.runs import find_run

    folder = find_run(run)
    if background:
        resume_in_background(folder, on_finish)
        return
    with finishing(on_finish, folder.name):
        run_and_show(folder)
