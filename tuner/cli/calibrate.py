"""`tune calibrate`: fit a target to a user's own measurements and write a new profile."""

from __future__ import annotations

import csv
import datetime
import math
import re
import shlex
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from tuner.cli.complete import target_names

if TYPE_CHECKING:
    from tuner.cost.lower import Graph
    from tuner.spec import Target

COLUMNS = ("model", "latency_ms", "arena_bytes", "flash_bytes")
NEEDED = COLUMNS[:2]

_WIDTH = 80


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One line of measurements: the model as written, its graph, and what was measured."""

    model: str
    graph: Graph
    latency_ms: float
    arena_bytes: float | None
    flash_bytes: float | None


def calibrate(
    target: Annotated[
        str,
        typer.Option(
            help="A name of 'tune targets', or a TOML file.",
            metavar="NAME|FILE",
            autocompletion=target_names,
        ),
    ],
    measurements: Annotated[
        Path,
        typer.Option(
            "--csv",
            help="Columns model (a .tflite, candidate.json or template, relative to this file), "
            "latency_ms; if measured, arena_bytes and flash_bytes.",
            metavar="FILE",
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            help="Where to write; NAME-calibrated.toml if left out.",
            metavar="FILE.toml",
        ),
    ] = None,
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace that file.")] = False,
) -> None:
    """Fit a target to your own measurements and write a new profile."""
    from tuner.catalog import load_target, names
    from tuner.spec import to_plain
    from tuner.store.toml import edit_toml

    loaded = load_target(target)
    source = names("targets").get(target, Path(target).expanduser())
    written = _output(output, source, named=target in names("targets"))
    if written.exists() and not overwrite:
        from tuner.errors import InputError

        raise InputError(f"{written} exists; give another with -o, or replace it with --overwrite.")
    rows = read_rows(measurements, loaded)
    fitted = fit(rows, loaded)
    print_errors(rows, loaded, fitted)
    edit_toml(source, written, {"name": written.stem, "calibration": to_plain(fitted.calibration)})
    print(f"\nWrote {written}. Use it with --target {shlex.quote(str(written))}")


def fit(rows: list[Row], target: Target) -> Target:
    """The target with a calibration by `rows`: latency, and RAM and flash where measured."""
    from tuner.cost.latency_calibration import Measured, calibrate
    from tuner.engine.costs import cost_on

    plain = replace(target, calibration=None)
    count = f"{len(rows)} measurement{'s' if len(rows) > 1 else ''} of your own"
    basis = f"{count}, {datetime.date.today():%Y-%m}"
    measured = [Measured(graph=row.graph, latency_ms=row.latency_ms) for row in rows]
    calibration = calibrate(measured, plain, basis)
    ram, flash = [], []
    for row in rows:
        cost = cost_on(row.graph, plain)
        if row.arena_bytes is not None:
            outside = cost.ram_parts.get("preprocessing", 0)  # lies beside the arena
            ram.append(row.arena_bytes + outside - cost.ram_bytes.value)
        if row.flash_bytes is not None:
            flash.append(row.flash_bytes - cost.flash_bytes.value)
    # The largest difference: what is said to fit must fit.
    return replace(
        target,
        calibration=replace(
            calibration,
            ram_extra_bytes=math.ceil(max(ram, default=0)),
            flash_extra_bytes=math.ceil(max(flash, default=0)),
        ),
    )


def read_rows(path: Path, target: Target) -> list[Row]:
    """Read the measurements.

    Raises:
        InputError: the file is missing or not CSV, lacks a column, or has a line whose model
            cannot be read or could not have run on the target, or whose figures are none; names
            the line.
    """
    from tuner.errors import InputError, TuneError

    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.DictReader(file, strict=True)
            lines = [(reader.line_num, line) for line in reader]
            columns = reader.fieldnames or ()
    except FileNotFoundError:
        raise InputError(f"Expected measurements at {path}; there is no such file.") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path} cannot be read as CSV: {error}.") from None
    missing = [name for name in NEEDED if name not in columns]
    unknown = [name for name in columns if name not in COLUMNS]
    if missing or unknown:
        raise InputError(
            f"{path}: line 1: expected the columns {', '.join(NEEDED)} and, if measured, "
            f"{', '.join(COLUMNS[2:])}. Received: {', '.join(columns) or 'nothing'}."
        )
    if not lines:
        raise InputError(f"{path}: expected at least one measurement after line 1.")
    rows = []
    for number, line in lines:
        try:
            rows.append(_row(line, path.parent, target))
        except TuneError as error:
            raise InputError(f"{path}: line {number}: {error}") from None
    return rows


def _row(line: dict[str, Any], folder: Path, target: Target) -> Row:
    from tuner.catalog import load_module
    from tuner.dashboard.profile import find_subject
    from tuner.errors import InputError

    if None in line or None in line.values():
        raise InputError("expected as many fields as line 1 has.")
    name = line["model"].strip()
    if Path(name).suffix not in (".tflite", ".json", ".toml"):
        raise InputError(
            f"expected a .tflite file, a candidate.json or a template .toml. Received: '{name}'."
        )
    latency_ms = _number(line, "latency_ms")
    if latency_ms is None:
        raise InputError("expected latency_ms above 0. Received: nothing.")
    graph = find_subject(str(folder / name)).graph
    runtime = load_module("runtimes", target.runtime)
    lacking = sorted({item.kind for item in graph.operators} - runtime.OPERATORS)
    if lacking:
        raise InputError(
            f"{name} has operators that {target.runtime} lacks: {', '.join(lacking)}; "
            "it cannot have been measured there."
        )
    return Row(
        model=name,
        graph=graph,
        latency_ms=latency_ms,
        arena_bytes=_number(line, "arena_bytes"),
        flash_bytes=_number(line, "flash_bytes"),
    )


def _number(line: dict[str, str], column: str) -> float | None:
    """A positive number, or None for an empty field."""
    from tuner.errors import InputError

    text = line.get(column, "").strip()
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 < value < math.inf:
        raise InputError(f"expected {column} above 0. Received: '{text}'.")
    return value


def _output(output: Path | None, source: Path, *, named: bool) -> Path:
    """Where to write; beside a file of the user's, in the current folder for a catalog's name."""
    from tuner.errors import InputError

    written = output or (Path() if named else source.parent) / f"{source.stem}-calibrated.toml"
    if written.suffix != ".toml" or not re.fullmatch(r"[a-z0-9][a-z0-9-]*", written.stem):
        raise InputError(
            "expected a name of lower-case letters, digits and hyphens that ends in .toml for "
            f"the new profile. Received: '{written}'."
        )
    if not written.parent.is_dir():
        raise InputError(f"expected a folder at {written.parent} to write into; there is none.")
    return written


def print_errors(rows: list[Row], before: Target, after: Target) -> None:
    """Print each latency as measured, as estimated before and after, and left out of the fit."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from tuner.cost.latency import estimate_latency

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("model", overflow="fold")
    for title in ("measured ms", "before", "error", "after", "error", "left out"):
        table.add_column(title, justify="right", no_wrap=True)
    errors: list[tuple[float, ...]] = []
    for index, row in enumerate(rows):
        others = rows[:index] + rows[index + 1 :]
        targets = [before, after, *([fit(others, before)] if others else [])]
        values = [estimate_latency(row.graph, target).value for target in targets]
        errors.append(tuple(value / row.latency_ms - 1 for value in values))
        table.add_row(
            row.model, _milliseconds(row.latency_ms), _milliseconds(values[0]),
            f"{errors[-1][0]:+.0%}", _milliseconds(values[1]), f"{errors[-1][1]:+.0%}",
            f"{errors[-1][2]:+.0%}" if others else "",
        )  # fmt: skip
    console = Console(highlight=False)
    console = console if console.is_terminal else Console(highlight=False, width=_WIDTH)
    console.print(table)
    means = [sum(abs(error[place]) for error in errors) / len(errors)
             for place in range(len(errors[0]))]  # fmt: skip
    names = ("before", "after", "each left out of the fit")
    console.print()
    console.print(
        "Mean error: "
        + ", ".join(f"{mean:.0%} {name}" for mean, name in zip(means, names, strict=False))
    )
    calibration = after.calibration
    if calibration is not None:
        bands = [estimate_latency(row.graph, after) for row in rows]
        low = min(band.low / band.value for band in bands)
        high = max(band.high / band.value for band in bands)
        console.print(
            Text(
                f"90 % of latencies of such nets: {low:.2f} to {high:.2f} of the estimate; other "
                f"nets' bands are wider. Basis: {calibration.basis}"
            )
        )
        if calibration.ram_extra_bytes:
            console.print(f"RAM beyond the estimate: {calibration.ram_extra_bytes:+,} bytes")
        if calibration.flash_extra_bytes:
            console.print(f"Flash beyond the estimate: {calibration.flash_extra_bytes:+,} bytes")


def _milliseconds(value: float) -> str:
    return f"{value:.3g}" if value < 1000 else f"{value:.0f}"
