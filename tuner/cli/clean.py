"""`tune clean`: remove what serves nothing any more, or whole runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from tuner.cli.complete import run_names

if TYPE_CHECKING:
    from tuner.store.clean import Cleaned, Removable

WORDS = {
    "weights": "weights of candidates, the run has ended",
    "remains": "half-written files",
    "run": "the whole run",
    "images": "prepared images",
}


def clean(
    runs: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="RUN...", help="Names of runs; all by default.", autocompletion=run_names
        ),
    ] = None,
    remove: Annotated[
        bool, typer.Option("--remove", help="Remove the runs themselves, with all results.")
    ] = False,
    older_than: Annotated[
        str | None,
        typer.Option(metavar="TIME", help="Only runs without an event since, for example 7d."),
    ] = None,
    cache: Annotated[
        bool, typer.Option("--cache", help="Remove prepared images that runs still use, too.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Show what would be removed, remove nothing.")
    ] = False,
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """Free disk space: what runs left that serves nothing any more.

    That is the weights of candidates once their run has ended, what killed processes left, and
    images prepared for data that no run has. Results, models and templates stay; a run that is
    going on is left alone. With --remove, the runs that are named or old go altogether.
    """
    import json

    from tuner.errors import InputError
    from tuner.spec.times import parse_time
    from tuner.store.clean import clean as clean_home
    from tuner.store.runs import find_run, known_runs

    if remove and not runs and older_than is None:
        raise InputError(
            "Expected names of runs or --older-than together with --remove. Received: neither. "
            "To remove all runs, remove the folder runs/."
        )
    cleaned = clean_home(
        [find_run(name) for name in dict.fromkeys(runs)] if runs else known_runs(),
        whole=remove,
        all_images=cache,
        older_than_seconds=parse_time(older_than, "--older-than") if older_than else 0.0,
        dry_run=dry_run,
    )
    if format == "json":
        print(json.dumps(_plain(cleaned, dry_run), indent=2, ensure_ascii=False))
    else:
        _print(cleaned, dry_run)


def _plain(cleaned: Cleaned, dry_run: bool) -> dict[str, Any]:
    from tuner.store.clean import relative_to_home

    def row(item: Removable) -> dict[str, Any]:
        return {
            "kind": item.kind,
            "name": item.name,
            "size_bytes": item.size_bytes,
            "paths": [relative_to_home(path) for path in item.paths],
        }

    return {
        "dry_run": dry_run,
        "freed_bytes": sum(item.size_bytes for item in cleaned.removed),
        "removed": [row(item) for item in cleaned.removed],
        "going_on": list(cleaned.going_on),
    }


def _print(cleaned: Cleaned, dry_run: bool) -> None:
    from tuner.cost.fit import format_bytes

    for item in cleaned.removed:
        print(f"{format_bytes(item.size_bytes):>10}  {item.name}: {WORDS[item.kind]}")
    for name in cleaned.going_on:
        print(f"{'-':>10}  {name}: going on, left alone")
    total = format_bytes(sum(item.size_bytes for item in cleaned.removed))
    if not cleaned.removed:
        print("Nothing to free.")
    elif dry_run:
        print(f"{total:>10}  would be freed; nothing was removed.")
    else:
        print(f"{total:>10}  freed.")
