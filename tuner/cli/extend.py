"""`tune extend RUN --time 10m | --max-candidates N`: give a run more."""

from __future__ import annotations

from typing import Annotated

import typer

from tuner.cli.background import Background, OnFinish, finishing, resume_in_background
from tuner.cli.complete import run_names


def extend(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or latest.", autocompletion=run_names),
    ] = "latest",
    time: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Time to add to what the run had, such as 10m."),
    ] = None,
    max_candidates: Annotated[
        int | None,
        typer.Option(metavar="NUMBER", min=1, help="Candidates to add to what the run had."),
    ] = None,
    background: Background = False,
    on_finish: OnFinish = None,
) -> None:
    """Go on with a run that has ended or was stopped, with more time or candidates.

    Finished results are kept, and what was cut may still be trained further. What is not given
    ends the search no longer.
    """
    from tuner.cli.run import run_and_show
    from tuner.engine.options import read_extension
    from tuner.engine.search import extend_run
    from tuner.store.runs import find_run

    folder = find_run(run)
    seconds, candidates = read_extension(time, max_candidates)
    extend_run(folder, seconds, candidates)
    if background:
        resume_in_background(folder, on_finish)
        return
    with finishing(on_finish, folder.name):
        run_and_show(folder)
