"""`tune --target NAME --data PATH`: search."""

from __future__ import annotations

import math
import sys
from typing import Annotated, Literal

import typer

NEXT_STEP = "Start with: tune --target k230 --data sample:parts --time 3m"
DEFAULT_DATA = "sample:parts"


def tune(
    context: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option(help="Device: a name of 'tune targets', a TOML file, or all; repeatable."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(help="Folder or zip with a folder per class, .npz, or sample:parts|digits."),
    ] = None,
    group_by: Annotated[
        str, typer.Option(help="Regular expression; its first group names what one split keeps.")
    ] = "",
    time: Annotated[
        str | None, typer.Option(help="Wall-clock time of the search, such as 90s, 20m, 1h30m.")
    ] = None,
    max_candidates: Annotated[
        int | None, typer.Option(min=1, help="Stop after this many candidates.")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Candidates trained at once; one a core by default.")
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(help="Search space: a file of search_spaces/, or auto; repeatable."),
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Decides splits, proposals, training.")] = 0,
    name: Annotated[str | None, typer.Option(help="Name of the run.")] = None,
    rank_by: Annotated[
        Literal["target", "int8", "float32"],
        typer.Option(help="Accuracy that orders the board; target = int8 as the device runs it."),
    ] = "target",
    ram_kb: Annotated[
        float | None, typer.Option(help="RAM that the model may use, KB of 1024 bytes.")
    ] = None,
    flash_kb: Annotated[
        float | None, typer.Option(help="Flash for model and runtime, KB of 1024 bytes.")
    ] = None,
    latency_ms: Annotated[float | None, typer.Option(help="Time of one inference, ms.")] = None,
    train_minutes: Annotated[
        float | None, typer.Option(help="Full retraining on this machine, minutes.")
    ] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Search small neural nets that fit a device, offline.

    Samples input sizes and architectures for a target, drops what cannot fit before training,
    trains the rest in parallel and ranks them by the accuracy that the device will give.
    """
    if context.invoked_subcommand is not None:
        return
    if version:
        from importlib.metadata import version as package_version

        print(package_version("edge-tuner"))
        return
    if not target and data is None:
        print(context.get_help())
        print(f"\n{NEXT_STEP}")
        return
    _search(
        target or [], data, time, max_candidates, workers, space or [], seed, name, rank_by,
        ram_kb, flash_kb, latency_ms, train_minutes, group_by,
    )  # fmt: skip


def _search(
    targets: list[str],
    data: str | None,
    time: str | None,
    max_candidates: int | None,
    workers: int | None,
    spaces: list[str],
    seed: int,
    name: str | None,
    rank_by: Literal["target", "int8", "float32"],
    ram_kb: float | None,
    flash_kb: float | None,
    latency_ms: float | None,
    train_minutes: float | None,
    group_by: str,
) -> None:
    from time import monotonic

    from tuner import catalog
    from tuner.cli.parse import parse_time
    from tuner.engine.search import SearchRequest, prepare_run
    from tuner.errors import InputError
    from tuner.spec import Limits

    started = monotonic()
    if not targets:
        names = ", ".join(sorted(catalog.names("targets")))
        raise InputError(f"Expected --target: the device to search for. Known: {names}.")
    if data is None:
        print(f"No --data given: using {DEFAULT_DATA}, generated images.", file=sys.stderr)
        data = DEFAULT_DATA
    given = {"--ram-kb": ram_kb, "--flash-kb": flash_kb, "--latency-ms": latency_ms,
             "--train-minutes": train_minutes}  # fmt: skip
    for option, value in given.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"Expected a number above 0 for {option}. Received: {value}.")
    limits = Limits(
        ram_bytes=None if ram_kb is None else int(ram_kb * 1024),
        flash_bytes=None if flash_kb is None else int(flash_kb * 1024),
        latency_ms=latency_ms,
        train_minutes=train_minutes,
    )
    folder = prepare_run(
        SearchRequest(
            targets=tuple(targets),
            data=data,
            limits=limits,
            budget_seconds=None if time is None else parse_time(time),
            max_candidates=max_candidates,
            workers=workers,
            spaces=tuple(spaces),
            seed=seed,
            name=name,
            rank_by=rank_by,
            group_by=group_by,
        )
    )
    from tuner.cli.run import run_and_show

    run_and_show(folder, started)
