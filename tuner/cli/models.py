"""`tune models`: all model versions, the newest first; handing them on."""

from __future__ import annotations

import shlex
import sys
from typing import Annotated, Literal

import typer

from tuner.cli.given import refuse_before_command

app = typer.Typer(rich_markup_mode=None)


@app.command("publish")
def publish(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@VERSION or latest.")],
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="A folder, or an address such as s3://bucket/x.")
    ],
) -> None:
    """Copy a version to a folder or a store, with checksums."""
    from tuner.models.publish import publish as publish_version
    from tuner.store.models import find_model

    folder = find_model(model)
    address = publish_version(folder, place, lambda text: print(text, file=sys.stderr))
    print(f"{folder.reference} is at {address}")
    print(f"Fetch it there: tune models get {shlex.quote(place)} {folder.reference}")


@app.command("get")
def get(
    place: Annotated[
        str, typer.Argument(metavar="PLACE", help="A folder, or an address such as s3://bucket/x.")
    ],
    model: Annotated[
        str, typer.Argument(metavar="MODEL", help="NAME or NAME@VERSION as published.")
    ],
    name: Annotated[
        str | None, typer.Option(metavar="NAME", help="Name of the model here.")
    ] = None,
) -> None:
    """Fetch a published version as the next version here."""
    from tuner.models.publish import get as get_version

    print(f"{get_version(place, model, name).reference} from {place}")


@app.callback(invoke_without_command=True)
def models(
    context: typer.Context,
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """List model versions, the newest first; hand them on."""
    if context.invoked_subcommand is not None:
        refuse_before_command(context)
        return
    import json

    from tuner.dashboard.listing import version_row
    from tuner.store.models import known_models

    rows = [version_row(folder) for folder in known_models()]
    if format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print("No models yet; 'tune retrain TEMPLATE' makes one.")
        return
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("model", "target", "int8 test %", "float32 test %", "epochs", "created"):
        table.add_column(name, no_wrap=True)
    unreadable, marked = [], False
    for row in rows:
        reference = f"{row['name']}@{row['version']}"
        if "reason" in row:
            table.add_row(reference, "unreadable")
            unreadable.append(f"{reference}: {row['reason']}")
            continue
        test = row["accuracy"]["test"] or row["accuracy"]["validation"]
        mark = "" if row["accuracy"]["test"] else "*"
        marked |= bool(mark)
        table.add_row(
            reference,
            row["target"],
            f"{100 * test['int8']:.1f}{mark}",
            f"{100 * test['float32']:.1f}{mark}",
            str(row["epochs"]),
            row["created"][:16].replace("T", " "),
        )
    Console(highlight=False).print(table)
    if marked:
        print("*: of validation images; the data has no test images")
    for reason in unreadable:
        print(reason)
