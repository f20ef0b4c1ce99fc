"""`tune data check` and `tune data stats`: what is in a data set, and what is wrong with it."""

from __future__ import annotations

import json
import sys
from typing import TYPE_CHECKING, Annotated, Literal

import typer

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

    from tuner.data.check import DataReport, Spread
    from tuner.data.problems import Problem

Format = Literal["table", "json"]

_WIDTH = 80
_CLASSES_SHOWN = 40
_ITEMS_SHOWN = 5

app = typer.Typer(rich_markup_mode=None)

Source = Annotated[
    str,
    typer.Argument(
        metavar="PATH", help="Folder or zip with a folder per class, .npz, or sample:NAME."
    ),
]
FormatOption = Annotated[Format, typer.Option(help="How to write it.")]
GroupBy = Annotated[
    str,
    typer.Option(
        metavar="PATTERN", help="Regular expression; its first group names what one split keeps."
    ),
]
Seed = Annotated[int, typer.Option(metavar="NUMBER", min=0, help="Of the split, as for 'tune'.")]


@app.callback(invoke_without_command=True)
def data(context: typer.Context) -> None:
    """Look at image data before a search; nothing is changed."""
    if context.invoked_subcommand is None:
        print(context.get_help())


@app.command("check")
def check(
    source: Source,
    format: FormatOption = "table",
    group_by: GroupBy = "",
    seed: Seed = 0,
) -> None:
    """Say what is wrong with a data set and how to mend it; exit code 2 if it cannot be used."""
    from tuner.errors import DataError

    report = _looked_at(source, group_by, seed)
    if format == "json":
        _print_json(report)
    else:
        _print_check(report)
        if not report.usable and sys.stdout.isatty():  # the error is on the screen already
            raise typer.Exit(DataError.exit_code)
    _refuse_unusable(report)


@app.command("stats")
def stats(
    source: Source,
    format: FormatOption = "table",
    group_by: GroupBy = "",
    seed: Seed = 0,
) -> None:
    """Count the images of a data set by class and split, with their sizes and colours."""
    report = _looked_at(source, group_by, seed)
    if format == "json":
        _print_json(report)
    elif report.images:
        _print_stats(report)
    _refuse_unusable(report)


def _looked_at(source: str, group_by: str, seed: int) -> DataReport:
    from tuner.data.check import check_data

    terminal = sys.stderr.isatty()

    def show(done: int, count: int) -> None:
        if terminal:
            print(f"\rLooked at {done} of {count} images", end="", file=sys.stderr, flush=True)

    try:
        return check_data(source, split_seed=seed, group_by=group_by, on_progress=show)
    finally:
        if terminal:
            print("\r\033[K", end="", file=sys.stderr, flush=True)


def _refuse_unusable(report: DataReport) -> None:
    """End with exit code 2 if the data cannot be used."""
    from tuner.errors import DataError

    if not report.usable:
        raise DataError(report.problems[0].text)


def _print_json(report: DataReport) -> None:
    from tuner.spec import to_plain

    plain = {"usable": report.usable, **to_plain(report)}
    print(json.dumps(plain, indent=2, ensure_ascii=False))


def _print_check(report: DataReport) -> None:
    from rich.text import Text

    console = _console()
    if report.classes:
        counts = f"{report.images} images, classes: {len(report.classes)}"
        console.print(Text(f"{report.source}: {counts}"), soft_wrap=True)
    for problem in report.problems:
        _print_problem(console, problem)
    warnings = sum(problem.severity == "warning" for problem in report.problems)
    if report.usable:
        verdict = f"It can be used; warnings: {warnings}. Numbers: tune data stats"
        console.print(Text(f"\n{verdict}", style="bold"))


def _print_problem(console: Console, problem: Problem) -> None:
    from rich.text import Text

    colours = {"error": "red", "warning": "yellow", "note": "cyan"}
    line = Text(f"{problem.severity}: ", style=f"bold {colours[problem.severity]}")
    console.print()
    console.print(line.append(Text(problem.text, style="not bold default")))
    # Names and commands are not broken into lines, so that they can be copied.
    for item in problem.items[:_ITEMS_SHOWN]:
        console.print(Text(f"  {item}", style="dim"), soft_wrap=True)
    more = len(problem.items) - _ITEMS_SHOWN
    if more > 0:
        console.print(Text(f"  and {more} more (--format json has all)", style="dim"))
    if problem.mend:
        console.print(Text(f"  {problem.mend}"), soft_wrap=True)


def _print_stats(report: DataReport) -> None:
    from rich.table import Table
    from rich.text import Text

    console = _console()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("class", overflow="fold")
    for title in ("images", "training", "validation", "test"):
        table.add_column(title, justify="right", no_wrap=True)
    for row in report.classes[:_CLASSES_SHOWN]:
        table.add_row(
            Text(row.name), *map(str, (row.images, row.training, row.validation, row.test))
        )
    splits = ("training", "validation", "test")
    sums = [sum(getattr(row, split) for row in report.classes) for split in splits]
    table.add_row(Text("all", style="bold"), *map(str, (report.images, *sums)))
    console.print(Text(report.source), soft_wrap=True)
    console.print(table)
    if len(report.classes) > _CLASSES_SHOWN:
        hidden = len(report.classes) - _CLASSES_SHOWN
        console.print(f"{hidden} more classes: --format json has all")
    console.print()
    facts = Table(box=None, pad_edge=False, header_style="bold")
    for title in ("", "least", "median", "most"):
        facts.add_column(title, justify="right" if title else "left", no_wrap=True)
    _add_spread(facts, "width, pixels", report.width)
    _add_spread(facts, "height, pixels", report.height)
    _add_spread(facts, "width / height", report.aspect)
    console.print(facts)
    console.print()
    for title, counts in (("Colours (Pillow modes)", report.modes), ("Files", report.kinds)):
        console.print(Text(f"{title}: " + ", ".join(f"{k} {n}" for k, n in counts.items())))
    console.print(
        Text(
            f"Animated, of which the first frame is used: {report.animated}. "
            f"Turned upright by EXIF: {report.turned}."
        )
    )
    if report.size_bytes:
        console.print(f"Size of the files: {report.size_bytes / 2**20:.1f} MB")
    left_out = len(report.left_out)
    if left_out:
        console.print(f"Left out: {left_out}; tune data check says why")


def _add_spread(table: Table, title: str, spread: Spread | None) -> None:
    if spread is not None:
        values = (spread.min, spread.median, spread.max)
        table.add_row(title, *(f"{v:.3g}" if v < 100 else f"{v:.0f}" for v in values))


def _console() -> Console:
    """Rich on stdout, 80 columns wide at most where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)
