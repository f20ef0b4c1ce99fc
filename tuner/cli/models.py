"""`tune models`: all model versions, the newest first."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def models(
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """List model versions, the newest first."""
    import json

    from tuner.dashboard.listing import model_row
    from tuner.store.models import known_models

    rows = [model_row(folder.read()) for folder in known_models()]
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
    for row in rows:
        test = row["accuracy"]["test"] or row["accuracy"]["validation"]
        table.add_row(
            f"{row['name']}@{row['version']}",
            row["target"],
            f"{100 * test['int8']:.1f}",
            f"{100 * test['float32']:.1f}",
            str(row["epochs"]),
            row["created"][:16].replace("T", " "),
        )
    Console(highlight=False).print(table)
