"""`tune report RUN`: the ranked candidates."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from tuner.cli.complete import run_names, target_names
from tuner.cli.output import STDOUT, write_output


def report(
    run: Annotated[
        str,
        typer.Argument(metavar="RUN", help="Name of the run, or latest.", autocompletion=run_names),
    ] = "latest",
    format: Annotated[
        Literal["table", "json", "csv", "html"], typer.Option(help="How to write it.")
    ] = "table",
    rank_by: Annotated[
        Literal["target", "int8", "float32"] | None,
        typer.Option(help="Accuracy that orders the board; as the run was started by default."),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Device: one of the run's, or any other name or TOML file.",
            autocompletion=target_names,
        ),
    ] = None,
    max_train_minutes: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER", min=0, help="Only what is retrained in so many minutes, as predicted."
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="File to write instead of stdout or RUN.html; - is stdout.",
        ),
    ] = None,
) -> None:
    """Show the ranked candidates of a run, finished or not.

    html writes one page that opens without a network, RUN.html unless -o names another file.
    """
    import json

    from tuner.dashboard.rows import csv_rows, report_rows
    from tuner.engine.board import board, trained_within
    from tuner.errors import InputError
    from tuner.store.runs import find_run

    if output is not None and output.is_dir():
        raise InputError(f"Expected a file after -o. Received the folder '{output}'.")
    folder = find_run(run)
    ranked = board(folder, rank_by, target)
    if max_train_minutes is not None:
        ranked = trained_within(ranked, max_train_minutes)
    if format == "table":
        if output is not None:
            raise InputError(
                "Expected --format json, csv or html together with -o. Received: table."
            )
        from tuner.cli.board_table import print_board

        print_board(ranked)
        return
    if format == "html":
        from tuner.dashboard.report_page import report_page

        path = output or Path(f"{folder.name}.html")
        write_output(path, report_page(folder, ranked))
        return
    if format == "json":
        text = json.dumps(report_rows(ranked), indent=2, ensure_ascii=False) + "\n"
    else:
        text = _csv(csv_rows(ranked))
    write_output(output or STDOUT, text)


def _csv(rows: list[dict[str, object]]) -> str:
    import csv
    import io

    sink = io.StringIO()
    if rows:
        writer = csv.DictWriter(sink, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return sink.getvalue()
