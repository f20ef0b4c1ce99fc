"""`tune select RUN CANDIDATE`: a candidate as a template."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.complete import run_names, target_names


def select(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or latest.", autocompletion=run_names),
    ],
    candidate: Annotated[
        str, typer.Argument(metavar="CANDIDATE", help="Rank, id, or the beginning of an id.")
    ],
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Device to make the template for; also ranks for it.",
            autocompletion=target_names,
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="FILE", help="The template to write, .toml."),
    ] = None,
) -> None:
    """Write a candidate as a template: a TOML file to edit, share and retrain."""
    from tuner.models.select import select as write_selected
    from tuner.store.runs import find_run

    path = write_selected(find_run(run), candidate, output, target)
    print(f"Wrote {path}\nNext: tune retrain {shlex.quote(str(path))}")
