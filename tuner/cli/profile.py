"""`tune profile MODEL.tflite|CANDIDATE`: what a model costs on devices, operator by operator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuner.cli.complete import target_names

if TYPE_CHECKING:
    from rich.console import Console, RenderableType

_WIDTH = 80
_NAME_WIDTH = 17


def profile(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL|CANDIDATE",
            help="A .tflite file, a candidate.json, a template .toml, or RUN/CANDIDATE (latest/1).",
        ),
    ],
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="A device, by name or TOML file; may be given several times.",
            autocompletion=target_names,
        ),
    ] = None,
    all_targets: Annotated[
        bool, typer.Option("--all-targets", help="Every device, and the smallest that it fits.")
    ] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """Show RAM, flash, MACs and latency of a model on devices, operator by operator."""
    import json
    import sys

    from tuner.dashboard.profile import (
        choose_targets,
        find_subject,
        overview_rows,
        profile_row,
        smallest_fitting,
    )

    subject = find_subject(model, target or [])
    targets, lines = choose_targets(subject, target or [], all_targets)
    for line in lines:
        print(line, file=sys.stderr)
    overview = all_targets or len(targets) > 1
    if overview:
        rows = overview_rows(subject, targets)
    else:
        rows = [profile_row(subject, targets[0], measure=True)]
    smallest = smallest_fitting(rows)
    if format == "json":
        plain = [{**row, "smallest": row["target"] == smallest} for row in rows]
        print(json.dumps(plain if overview else plain[0], indent=2, ensure_ascii=False))
        return
    console = _console()
    for renderable in (
        _overview(subject.name, rows, smallest) if overview else _details(subject.name, rows[0])
    ):
        console.print(renderable)


def _console() -> Console:
    """Rich on stdout, 80 columns wide at most where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)


def _details(name: str, row: dict[str, Any]) -> list[RenderableType]:
    """One target: a summary, then a row an operator."""
    from rich.table import Table
    from rich.text import Text

    facts = Table(box=None, pad_edge=False, show_header=False)
    facts.add_column(no_wrap=True)
    facts.add_column(overflow="fold")
    for label, value in _facts(row):
        facts.add_row(label, Text(value))
    fits = "fits" if row["fits"] else "does not fit"
    title = Text(f"{name} on {row['target']}: {fits}", style="bold")
    return [title, facts, Text(), _operators(row), *_legend(row)]


def _facts(row: dict[str, Any]) -> list[tuple[str, str]]:
    """Label and value of each line of the summary."""
    from tuner.cost.fit import format_bytes
    from tuner.dashboard.terminal import milliseconds

    def size(name: str) -> str:
        low, high = (format_bytes(row[f"{name}_{end}_bytes"]) for end in ("low", "high"))
        value, limit = format_bytes(row[f"{name}_bytes"]), row["limits"][f"{name}_bytes"]
        band = value if low == high else f"{value}, {low} to {high}"
        return f"{band}; of {format_bytes(limit)} that a model may use"

    def parts(name: str) -> str:
        return ", ".join(
            f"{part.replace('_', ' ')} {format_bytes(size_bytes)}"
            for part, size_bytes in row[f"{name}_parts"].items()
            if size_bytes
        )

    low, high = (milliseconds(row[f"latency_{end}_ms"]) for end in ("low", "high"))
    lines = [
        *(("over", reason) for reason in row["reasons"]),
        *([("advice", row["advice"])] if row["advice"] else []),
        ("RAM", size("ram")),
        ("", parts("ram")),
        ("", f"{row['ram_kind']}: {row['ram_basis']}"),
        ("flash", size("flash")),
        ("", parts("flash")),
        ("", f"{row['flash_kind']}: {row['flash_basis']}"),
        ("MACs", f"{row['macs']:,}"),
        ("latency", f"{milliseconds(row['latency_ms'])} ms, {low} to {high}"),
        ("", f"{row['latency_kind']}: {row['latency_basis']}"),
    ]
    if "frames_per_second" in row:
        least, most = row["frames_low_per_second"], row["frames_high_per_second"]
        frames = f"{row['frames_per_second']:.0f} frames a second, {least:.0f} to {most:.0f}"
        lines += [("camera loop", frames), ("", f"estimated: {row['frames_basis']}")]
    bases: dict[str, list[str]] = {}
    for name, quantity in row["measured"].items():
        bases.setdefault(quantity["basis"], []).append(_measured(name, quantity["value"], row))
    lines += [("measured", f"{', '.join(found)}: {basis}") for basis, found in bases.items()]
    if row["measure_note"]:
        lines.append(("measured", f"nothing: {row['measure_note']}"))
    return lines


def _measured(name: str, value: float, row: dict[str, Any]) -> str:
    """A measured figure in words, beside its estimate where there is one of that name."""
    from tuner.cost.fit import format_bytes

    if not name.endswith("_bytes"):
        return f"{name.replace('_', ' ')} {value:.4g}"
    part = name.removesuffix("_bytes")
    estimated = row.get(name, row["ram_parts"].get(part))
    beside = (
        f" (estimated {format_bytes(estimated)} on the device)" if estimated is not None else ""
    )
    return f"{part.replace('_', ' ')} {format_bytes(value)}{beside}"


def _operators(row: dict[str, Any]) -> RenderableType:
    from rich.table import Table
    from rich.text import Text

    from tuner.cost.fit import format_bytes
    from tuner.dashboard.terminal import milliseconds

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    for name in ("operator", "kind"):
        table.add_column(name, no_wrap=True)
    for name in ("output", "MACs", "RAM", "ms", "share"):
        table.add_column(name, justify="right", no_wrap=True)
    for operator in row["operators"]:
        mark = "*" if operator["index"] == _peak(row) else " "
        table.add_row(
            str(operator["index"]),
            Text(short_name(operator["name"], _NAME_WIDTH)),
            Text(short_name(operator["kind"], 17) + ("" if operator["supported"] else "!")),
            "x".join(str(side) for side in operator["output_shape"]),
            count(operator["macs"]),
            format_bytes(operator["ram_bytes"]) + mark,
            milliseconds(operator["latency_ms"]),
            f"{operator['share']:.0%}",
        )
    return table


def _peak(row: dict[str, Any]) -> int:
    """Index of the operator where the memory is fullest."""
    for operator in row["operators"]:
        if operator["name"] == row["ram_peak_at"]:
            return int(operator["index"])
    fullest = max(row["operators"], key=lambda operator: operator["ram_bytes"])
    return int(fullest["index"])


def _legend(row: dict[str, Any]) -> list[RenderableType]:
    lines = ["RAM: tensors and scratch alive while the operator runs; * the fullest."]
    if row["unsupported"]:
        lines.append(f"! not in {row['runtime']}.")
    return ["", *lines]


def _overview(name: str, rows: list[dict[str, Any]], smallest: str) -> list[RenderableType]:
    """One line a target, and the smallest that fits."""
    from rich.table import Table
    from rich.text import Text

    from tuner.cost.fit import format_bytes
    from tuner.dashboard.terminal import milliseconds

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for title in ("target", "fits"):
        table.add_column(title, no_wrap=True)
    for title in ("RAM", "flash", "ms"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("what is over", overflow="fold")
    for row in rows:
        table.add_row(
            row["target"],
            "yes" if row["fits"] else "no",
            *(
                "-" if row.get(name) is None else write(row[name])
                for name, write in (
                    ("ram_bytes", format_bytes),
                    ("flash_bytes", format_bytes),
                    ("latency_ms", milliseconds),
                )
            ),
            Text("; ".join(row["reasons"])),
        )
    if smallest:
        last = (
            f"Smallest device that it fits: {smallest} (the least RAM, then flash, that a model "
            "may use)."
        )
    else:
        last = "It fits none of them."
    return [Text(name, style="bold"), table, Text(), Text(last)]


def short_name(name: str, width: int) -> str:
    """A node's or tensor's name cut to `width`."""
    from tuner.dashboard.profile import spoken_name

    text = spoken_name(name)
    return text if len(text) <= width else text[: width - 2] + ".."


def count(number: int) -> str:
    """A number with three digits: `27.6 k`, `1.23 M`; 0 is `-`."""
    for size, unit in ((1e9, " G"), (1e6, " M"), (1e3, " k")):
        if number >= size:
            return f"{number / size:.3g}{unit}"
    return str(number) if number else "-"
