"""`tune doctor`: which runtimes and exporters are ready on this machine, and what to install."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tuner.catalog import ModuleKind
    from tuner.spec import Tool

WITHOUT_TOOLS = "estimates"
"""How ready a runtime is that lacks a tool."""

_WIDTH = 80


def doctor(
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """Show which runtimes and exporters are ready here, and what to install for the others."""
    import json

    rows = readiness_rows()
    if format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "", "ready"):
        table.add_column(title, no_wrap=True)
    table.add_column("with", overflow="fold")
    for row in rows:
        table.add_row(row["kind"], row["name"], row["ready"], Text(_tools_text(row)))
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=_WIDTH)
    console.print(table)
    if any(row["ready"] == WITHOUT_TOOLS for row in rows):
        console.print(f"\n{WITHOUT_TOOLS}: searches go on without what the missing tool tells.")
    missing = dict.fromkeys(tool["missing"] for row in rows for tool in row["tools"])
    missing.pop("", None)
    if missing:
        console.print()
    for text in missing:
        console.print(Text(f"- {text}"))


def readiness_rows() -> list[dict[str, Any]]:
    """One row for each runtime and each exporter of the catalog.

    Returns:
        `kind`; `name`; `ready`: `yes`, `no`, or `estimates` for a runtime without a tool that
        measures, compiles or simulates; and `tools`, plain Tools. A file that cannot be used is
        a tool of its own, and what is wrong with it is its `missing`.
    """
    from tuner import catalog
    from tuner.errors import TuneError
    from tuner.spec import Tool, to_plain

    kinds: tuple[ModuleKind, ...] = ("runtimes", "exporters")
    rows = []
    for kind in kinds:
        for name, path in catalog.names(kind).items():
            try:
                module = (
                    catalog.load_exporter(name)
                    if kind == "exporters"
                    else catalog.load_module(kind, name)
                )
                tools: Sequence[Tool] = module.tools() if hasattr(module, "tools") else ()
                without = WITHOUT_TOOLS if kind == "runtimes" else "no"
            except TuneError as error:
                tools, without = [Tool(name=path.name, missing=str(error))], "no"
            rows.append(
                {
                    "kind": kind.removesuffix("s"),
                    "name": name,
                    "ready": "yes" if all(tool.ready for tool in tools) else without,
                    "tools": to_plain(tools),
                }
            )
    return rows


def _tools_text(row: dict[str, Any]) -> str:
    """Tools of a row with their versions, or that they are missing."""
    own_file = f"{row['name']}.py"
    return ", ".join(
        f"{tool['name']} {'cannot be used' if tool['name'] == own_file else 'missing'}"
        if tool["missing"]
        else f"{tool['name']} {tool['version']}" + (f" ({tool['place']})" if tool["place"] else "")
        for tool in row["tools"]
    )
