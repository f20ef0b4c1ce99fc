"""`tune spaces` and `tune spaces show NAME`: what can be searched, and the card of one space."""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuner.catalog import load_space, names
from tuner.cli.complete import space_cards
from tuner.cli.given import refuse_before_command
from tuner.errors import SpecError
from tuner.spec import SearchSpace

if TYPE_CHECKING:
    from rich.console import Console

Format = Literal["table", "json"]

_WIDTH = 80

app = typer.Typer(rich_markup_mode=None)


@app.callback(invoke_without_command=True)
def spaces(
    context: typer.Context,
    format: Annotated[Format, typer.Option(help="How to write it.")] = "table",
) -> None:
    """List the search spaces that --space knows."""
    if context.invoked_subcommand is not None:
        refuse_before_command(context)
        return
    list_spaces(format)


@app.command("show")
def show(
    name: Annotated[
        str,
        typer.Argument(
            metavar="SPACE", help="A name of 'tune spaces'.", autocompletion=space_cards
        ),
    ],
    format: Annotated[Format, typer.Option(help="How to write it.")] = "table",
) -> None:
    """Show the card of one space, its starting points and its choices."""
    show_space(name, format)


def list_spaces(format: Format) -> None:
    """Print all search spaces of the catalog, one a line; broken files are named on stderr.

    Args:
        format: `table` for people, `json` for programs: a list of what `describe` gives.
    """
    rows: list[dict[str, Any]] = []
    for name in names("search_spaces"):
        try:
            rows.append(
                describe(name)
                if format == "json"
                else {"name": name, "card": _paragraphs(load_space(name))}
            )
        except SpecError as error:
            print(f"Left out: {error}", file=sys.stderr)
    if format == "json":
        print(json.dumps(rows, indent=2, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("space", no_wrap=True)
    table.add_column("nets")
    for row in rows:
        table.add_row(row["name"], Text(row["card"][0]))
    console = _console()
    console.print(table)
    console.print()
    console.print("Card, starting points and choices of one: tune spaces show NAME")


def show_space(name: str, format: Format) -> None:
    """Print the card of one space, its starting points and its choices.

    Args:
        name: a name of the catalog.
        format: `table` for people, `json` for programs.

    Raises:
        UnknownNameError: no such name.
        SpecError: the file is broken.
    """
    row = describe(name)
    if format == "json":
        print(json.dumps(row, indent=2, ensure_ascii=False))
        return
    from rich.table import Table
    from rich.text import Text

    console = _console()
    console.print(Text(name, style="bold"))
    for paragraph in row["card"]:
        console.print(Text(paragraph))
        console.print()
    console.print(Text(f"starting points: {'; '.join(row['starting_points']) or 'none'}"))
    console.print()
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("choice")
    table.add_column("options")
    for label, options in choice_rows(row["choices"]):
        table.add_row(label, Text(options))
    console.print(table)
    console.print()
    console.print("A small device and small images have fewer options.")


def describe(name: str) -> dict[str, Any]:
    """A space as plain data.

    Returns:
        `name`, `file`, `card` (its paragraphs, the first a summary), names of `starting_points`,
        and `choices`: `name`, `kind` and `options` of each, from a very small device to a large
        one. They are found by drawing: a choice that hardly any draw asks for may be left out.
        Of a `floating` choice the options are the ends of its range.

    Raises:
        SpecError: the file is broken, or `survey_space` refuses the space.
    """
    from tuner.propose.survey import survey_space

    space = load_space(name)
    survey = survey_space(name, space)
    return {
        "name": name,
        "file": str(names("search_spaces")[name]),
        "card": _paragraphs(space),
        "starting_points": [point.name for point in survey.starting_points],
        "choices": [
            {"name": choice, "kind": kind, "options": _ordered(options)}
            for choice, (kind, options) in survey.choices.items()
        ],
    }


def _ordered(options: Sequence[Any]) -> list[Any]:
    """Numbers ascending; words and yes or no as they were offered."""
    numbers = all(isinstance(item, int | float) and not isinstance(item, bool) for item in options)
    return sorted(options) if numbers else list(options)


def choice_rows(choices: Sequence[Mapping[str, Any]]) -> list[tuple[str, str]]:
    """Name and options of each choice as text.

    Choices that differ by the number at their end alone are one row: `kernel0 to 4`.
    """
    members: dict[tuple[str, str], list[str]] = {}
    for choice in choices:
        options = [_word(option) for option in choice["options"]]
        text = " to ".join(options) if choice["kind"] == "floating" else ", ".join(options)
        stem = choice["name"].rstrip("0123456789")
        members.setdefault((stem, text), []).append(choice["name"])
    return [
        (same[0] if len(same) == 1 else f"{same[0]} to {same[-1].removeprefix(stem)}", text)
        for (stem, text), same in members.items()
    ]


def _word(option: int | float | str | bool) -> str:
    if isinstance(option, bool):
        return "yes" if option else "no"
    return f"{option:g}" if isinstance(option, float) else str(option)


def _paragraphs(space: SearchSpace) -> list[str]:
    """The card of a space: its docstring's paragraphs, each on one line, lists on their lines."""
    card = inspect.cleandoc(space.__doc__ or "no card")
    return [
        part.replace("\n  ", " ") if part.startswith("* ") else " ".join(part.split())
        for part in card.split("\n\n")
    ]


def _console() -> Console:
    """Rich on stdout, 80 columns wide at most where stdout is no terminal."""
    from rich.console import Console

    console = Console(highlight=False)
    return console if console.is_terminal else Console(highlight=False, width=_WIDTH)
