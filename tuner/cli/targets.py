"""`tune targets` and `tune targets show NAME`: the devices, and every number of one."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuner.catalog import check_runtime, is_carried, load_target, load_targets, names
from tuner.cli.complete import target_names
from tuner.cli.given import refuse_before_command
from tuner.spec import Limits, Target, to_plain

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["table", "json"]

_WIDTH = 80

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def targets(
    context: typer.Context,
    format: Annotated[Format, typer.Option(help="How to write it.")] = "table",
) -> None:
    """List the devices that can be searched for."""
    if context.invoked_subcommand is not None:
        refuse_before_command(context)
        return
    list_targets(format)


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="TARGET|FILE",
            help="A name of 'tune targets', or a TOML file.",
            autocompletion=target_names,
        ),
    ],
    format: Annotated[Format, typer.Option(help="How to write it.")] = "table",
) -> None:
    """Show every number of one device, with its unit and source."""
    show_target(name, format)


def list_targets(format: Format) -> None:
    """Print all targets of the catalog, one a line; broken files are named on stderr.

    Args:
        format: `table` for people, `json` for programs: a list of the targets' fields with
            `model_limits` and `file`.
    """
    files = names("targets")
    loaded, broken = load_targets()
    for error in broken:
        print(f"Left out: {error}", file=sys.stderr)
    if format == "json":
        plain = [_plain(target, str(files[name])) for name, target in loaded.items()]
        print(json.dumps(plain, indent=2, ensure_ascii=False))
        return
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("target", no_wrap=True)
    table.add_column("CPU", no_wrap=True)
    for title in ("MHz", "RAM", "flash"):
        table.add_column(title, justify="right", no_wrap=True)
    table.add_column("runtime", no_wrap=True)
    for name, target in loaded.items():
        limits = target.model_limits
        table.add_row(
            name,
            target.cpu,
            f"{target.clock_mhz:g}",
            size_text(limits.ram_bytes or 0),
            size_text(limits.flash_bytes or 0),
            f"{target.runtime} ({target.kernels})",
        )
    console = _console()
    console.print(table)
    console.print()
    console.print("RAM and flash: what a model may use. All numbers: tune targets show NAME")


def show_target(name: str, format: Format) -> None:
    """Print every number of one target with its unit, source and what it leaves to a model.

    Args:
        name: a name of the catalog, or the path of a TOML file.
        format: `table` for people, `json` for programs.

    Raises:
        UnknownNameError: no such name.
        SpecError: the file is broken, or it names a runtime or kernels that do not exist.
    """
    target = load_target(name)
    file = str(names("targets").get(name, name))
    of_users = not is_carried(Path(file))
    if of_users:
        check_runtime(target, file)
    if format == "json":
        print(json.dumps(_plain(target, file), indent=2, ensure_ascii=False))
    else:
        _print_target(target)
    if of_users:
        from tuner.cost.latency import unknown_core  # with numpy, which the others do without

        if line := unknown_core(target):
            print(line, file=sys.stderr)


def _print_target(target: Target) -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(Text(target.title, style="bold"))
    if target.note:
        console.print(Text(target.note))
    console.print()
    facts = Table(box=None, pad_edge=False, header_style="bold")
    facts.add_column("", no_wrap=True)
    facts.add_column("", no_wrap=True, justify="right")
    facts.add_column("source", style="dim")
    for label, value, source in fact_rows(target):
        facts.add_row(label, value, Text(source))
    console.print(facts)
    console.print()
    limits = Table(box=None, pad_edge=False, title_justify="left", header_style="bold")
    limits.add_column("a model may use", no_wrap=True)
    limits.add_column("", no_wrap=True, justify="right")
    for label, value in limit_rows(target.model_limits):
        limits.add_row(label, value)
    console.print(limits)


def fact_rows(target: Target) -> list[tuple[str, str, str]]:
    """Label, value with unit, and source of each fact of a target."""
    source = target.sources.get
    rows = [
        ("name", target.name, ""),
        ("CPU", target.cpu, source("cpu", "")),
        ("clock", f"{target.clock_mhz:g} MHz", source("clock_mhz", "")),
        ("cores used", str(target.cores), source("cores", "")),
        ("accelerator", target.accelerator, source("accelerator", "")),
        ("runtime", target.runtime, source("runtime", "")),
        ("kernels", target.kernels, source("kernels", "")),
    ]
    for index, region in enumerate(target.ram_regions):
        rows.append(
            (
                f"RAM {region.name}",
                size_text(region.size_bytes),
                source("ram_regions", "") if index == 0 else "as above",
            )
        )
        if region.note:
            rows.append(("", "", region.note))
        if region.arena_max_bytes is not None:
            rows.append(("  arena at most", size_text(region.arena_max_bytes), "as above"))
    rows += [
        ("RAM reserved", size_text(target.ram_reserved_bytes), source("ram_reserved_bytes", "")),
        ("flash", size_text(target.flash_bytes), source("flash_bytes", "")),
        (
            "flash reserved",
            size_text(target.flash_reserved_bytes),
            source("flash_reserved_bytes", ""),
        ),
    ]
    if target.calibration is not None:
        least, most = (f"{macs / 1e6:.3g}" for macs in target.calibration.macs)
        measured = f"{least} to {most}" if least != most else least
        rows.append(("calibrated at", f"{measured} million MACs", target.calibration.basis))
    return rows


def limit_rows(limits: Limits) -> list[tuple[str, str]]:
    """Label and value with unit of each effective limit; `no limit` where there is none."""
    none = "no limit"
    return [
        ("RAM", size_text(limits.ram_bytes) if limits.ram_bytes else none),
        ("flash", size_text(limits.flash_bytes) if limits.flash_bytes else none),
        ("latency", f"{limits.latency_ms:g} ms" if limits.latency_ms else none),
        ("retraining", f"{limits.train_minutes:g} min" if limits.train_minutes else none),
    ]


def size_text(size_bytes: int) -> str:
    """Bytes in KB of 1024 bytes, MB or GB, as datasheets of microcontrollers count."""
    size = size_bytes / 1024
    for unit in ("KB", "MB"):
        if size < 1000:
            return f"{size:.3g} {unit}"
        size /= 1024
    return f"{size:.3g} GB"


def _plain(target: Target, file: str) -> dict[str, Any]:
    plain: dict[str, Any] = to_plain(target)
    return {**plain, "model_limits": to_plain(target.model_limits), "file": file}


def _console() -> Console:
    """Rich on stdout, 80 columns wide at most where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)
