"""`tune --target NAME --data PATH`: search."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tuner.cli.background import Background, OnFinish, finishing, resume_in_background
from tuner.cli.complete import space_names, target_names
from tuner.cli.given import is_given, refuse_before_command

NOT_OF_THE_RUN = ("config", "background", "on_finish", "debug", "version")
NEXT_STEP = "Start with: tune --target k230 --data sample:parts --time 3m"


def tune(
    context: typer.Context,
    target: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Device: a name of 'tune targets', a TOML file, or all; repeatable.",
            autocompletion=target_names,
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH|sample:NAME",
            help="Folder or zip with a folder per class, .npz, or sample:parts|digits; "
            "sample:parts by default.",
        ),
    ] = None,
    group_by: Annotated[
        str,
        typer.Option(
            metavar="PATTERN",
            help="Regular expression; its first group names what one split keeps.",
        ),
    ] = "",
    time: Annotated[
        str | None,
        typer.Option(
            metavar="TIME",
            help="Wall-clock time of the search, such as 90s or 1h30m; 20m by default.",
        ),
    ] = None,
    max_candidates: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Stop after this many candidates.")
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, help="Candidates trained at once; one a core by default."
        ),
    ] = None,
    space: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME|FILE",
            help="Search space: a name of 'tune spaces', Edge Impulse's JSON, or auto; repeatable.",
            autocompletion=space_names,
        ),
    ] = None,
    seed: Annotated[
        int, typer.Option(metavar="NUMBER", min=0, help="Decides splits, proposals, training.")
    ] = 0,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the run.")] = None,
    rank_by: Annotated[
        Literal["target", "int8", "float32"],
        typer.Option(help="Accuracy that orders the board; target = int8 as the device runs it."),
    ] = "target",
    repeats: Annotated[
        int,
        typer.Option(
            metavar="NUMBER",
            min=1,
            help="Train the best so often; rank by the mean, show its error.",
        ),
    ] = 1,
    baselines: Annotated[
        bool,
        typer.Option("--baselines", help="Train ResNet-8 and MobileNetV1 0.25 too, as published."),
    ] = False,
    weights: Annotated[
        str | None,
        typer.Option(
            metavar="imagenet|FILE|MODEL@N",
            help="Begin with trained weights: of MobileNets, or of a model of your own.",
        ),
    ] = None,
    ram_kb: Annotated[
        float | None,
        typer.Option(metavar="KB", help="RAM that the model may use, KB of 1024 bytes."),
    ] = None,
    flash_kb: Annotated[
        float | None,
        typer.Option(metavar="KB", help="Flash for model and runtime, KB of 1024 bytes."),
    ] = None,
    latency_ms: Annotated[
        float | None, typer.Option(metavar="MS", help="Time of one inference, ms.")
    ] = None,
    train_minutes: Annotated[
        float | None,
        typer.Option(metavar="MINUTES", help="Full retraining on this machine, minutes."),
    ] = None,
    config: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="A run.json to repeat, or a TOML file of options; options here win.",
        ),
    ] = None,
    background: Background = False,
    on_finish: OnFinish = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show tracebacks of errors.")] = False,
    version: Annotated[bool, typer.Option("--version", help="Show the version.")] = False,
) -> None:
    """Search small neural nets that fit a device, offline.

    Samples input sizes and architectures for a target, drops what cannot fit before training,
    trains the rest in parallel and ranks them by the accuracy that the device will give.
    """
    if context.invoked_subcommand is not None:
        refuse_before_command(context)
        return
    if version:
        from importlib.metadata import version as package_version

        print(package_version("edge-tuner"))
        return
    # Defaults give way to the file's options, and what stands on the command line does not.
    given = {
        option: value
        for option, value in context.params.items()
        if option not in NOT_OF_THE_RUN and is_given(context, option)
    }
    if not given.keys() & {"target", "data"} and config is None:
        print(context.get_help())
        print(f"\n{NEXT_STEP}")
        return
    _search(given, config, background, on_finish)


def _search(
    given: dict[str, Any], config: Path | None, background: bool, on_finish: str | None
) -> None:
    from time import monotonic

    from tuner.cli.run import run_and_show
    from tuner.engine.options import read_request
    from tuner.engine.search import prepare_run

    started = monotonic()
    request, notes = read_request(given, where="tune", config=config)
    for note in notes:
        print(note, file=sys.stderr)
    folder = prepare_run(request)
    if background:
        resume_in_background(folder, on_finish)
        return
    with finishing(on_finish, folder.name):
        run_and_show(folder, started)
