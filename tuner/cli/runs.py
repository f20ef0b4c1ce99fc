"""`tune runs`: all runs, the newest first."""

from __future__ import annotations

from typing import Annotated, Any, Literal

import typer

NARROWEST, WIDEST = 6, 14
"""Characters of a target's or a dataset's name; JSON has them whole."""

OTHERS = 27
"""Characters of nets, best %, started and all gaps."""


def runs(
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """List runs, the newest first."""
    import json

    from tuner.dashboard.listing import run_row
    from tuner.store.runs import known_runs

    rows = [run_row(folder) for folder in known_runs()]
    if format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    if not rows:
        print("No runs yet; 'tune --target NAME --data DIR' starts one.")
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    # Names are there to be copied: if at all possible each has a line, and the others give way.
    beside = console.width - OTHERS - max(len(row["state"]) for row in rows)
    longest = max(
        (size for row in rows if (size := len(row["name"])) <= beside - 2 * NARROWEST), default=0
    )
    widest = min(WIDEST, max(NARROWEST, (beside - longest) // 2))
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("run", overflow="fold")
    table.add_column("state", no_wrap=True)
    for name in ("target", "data"):
        table.add_column(name, no_wrap=True, overflow="ellipsis", max_width=widest)
    for name in ("nets", "best %"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("started", no_wrap=True)
    for row in rows:
        table.add_row(*map(Text, _cells(row)))
    console.print(table)
    for row in rows:
        if row["state"] == "unreadable":
            console.print(Text(f"{row['name']}: {row['reason']}"))
    console.print(
        "nets: trained, if only to a rung; best %: validation accuracy of rank 1 on the first "
        "target; started: month-day and time, UTC",
        style="dim",
    )


def _cells(row: dict[str, Any]) -> list[str]:
    if row["state"] == "unreadable":
        return [row["name"], "unreadable", "", "", "", "", ""]
    targets, best = row["targets"], row["best"]
    return [
        row["name"],
        row["state"],
        targets[0] if len(targets) == 1 else f"{len(targets)} targets",
        row["data"].rstrip("/").rpartition("/")[2],
        str(row["candidates"]),
        f"{100 * best['accuracy']:.1f}" if best else "-",
        row["created"][5:16].replace("T", " "),
    ]
