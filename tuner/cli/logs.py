"""`tune logs NAME [CANDIDATE]`: what happened, epoch by epoch, and what workers printed."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import chain
from typing import TYPE_CHECKING, Annotated

import typer

from tuner.cli.complete import run_names
from tuner.dashboard.event_lines import event_line

if TYPE_CHECKING:
    from pathlib import Path

    from tuner.spec import Result
    from tuner.store.runs import RunFolder


def logs(
    run: Annotated[
        str,
        typer.Argument(
            metavar="RUN|MODEL",
            help="Name of the run, latest, or a model.",
            autocompletion=run_names,
        ),
    ] = "latest",
    candidate: Annotated[
        str | None, typer.Argument(metavar="CANDIDATE", help="Rank, id, or the beginning of an id.")
    ] = None,
    lines: Annotated[
        int, typer.Option(metavar="NUMBER", min=1, help="So many of the last lines of each log.")
    ] = 20,
) -> None:
    """Show a run's log and what its workers printed; or all of one candidate, or of a retraining.

    Of a candidate: its events, the validation accuracy after each epoch, and the traceback if it
    failed. Of a model, MODEL or MODEL@N: the curves of the version, the newest epoch of one that is
    being made, and what was printed.
    """
    from tuner.store.models import models_folder
    from tuner.store.runs import find_run, known_runs

    name, at, _ = run.partition("@")
    of_model = candidate is None and (models_folder() / name).is_dir()
    shown: list[Iterator[str]] = []
    if candidate is not None:
        shown.append(_of_candidate(find_run(run), candidate))
    elif not of_model or (not at and name in (folder.name for folder in known_runs())):
        shown.append(_of_run(find_run(run), lines))
    if of_model:
        shown.append(_beside(_of_model(run, lines)) if shown else _of_model(run, lines))
    for line in chain.from_iterable(shown):
        print(line)


def _of_run(folder: RunFolder, lines: int) -> Iterator[str]:
    from tuner.store.work import BACKGROUND_LOG

    events = folder.events()
    ids = {event["index"]: event["id"] for event in events if event["event"] == "proposed"}
    yield from _last(
        f"{folder.name}, events.jsonl", [event_line(event, ids) for event in events], lines
    )
    printed = [*folder.path.glob(BACKGROUND_LOG), *sorted(folder.path.glob("slot-*.log"))]
    yield from _files(folder.name, printed, lines)


def _of_model(reference: str, lines: int) -> Iterator[str]:
    """The curves of a version, then what its model's retrainings have printed and where one is."""
    from tuner.store.models import find_model, known_models, models_folder

    name, at, _ = reference.partition("@")
    if at or name in (folder.path.parent.name for folder in known_models()):
        folder = find_model(reference)
        version = folder.read()
        losses = version.loss_curve or (None,) * version.epochs  # versions of before have none
        aware = version.quantization.epochs if version.quantization else 0
        curve = [
            f"          epoch {number:>3}  "
            + ("" if loss is None else f"loss {loss:.3f}  ")
            + f"validation {100 * accuracy:.1f} %, "
            + ("rounded as int8 rounds" if number > version.epochs - aware else "float32")
            for number, (loss, accuracy) in enumerate(
                zip(losses, version.curve, strict=True), start=1
            )
        ]
        yield from _last(folder.reference, curve, lines)
    home = models_folder() / name
    for progress in sorted(home.glob(".new-*/progress.json")):
        yield f"\n== {name}, a version that is being made, or was interrupted"
        yield from _progress(progress)
    logs = home / ".logs"
    made = max(logs.glob("*/"), key=lambda folder: folder.stat().st_mtime, default=None)
    newest = [] if made is None else sorted(made.glob("*.log"))
    yield from _files(name, [*sorted(logs.glob("*.log")), *newest], lines)


def _beside(shown: Iterator[str]) -> Iterator[str]:
    """What is shown of a model beside a run; a damaged version is a line."""
    from tuner.errors import TuneError

    yield ""
    try:
        yield from shown
    except TuneError as error:
        yield str(error)


def _files(name: str, paths: Iterable[Path], lines: int) -> Iterator[str]:
    """The last lines of the files that are not empty."""
    for path in paths:
        content = path.read_text(encoding="utf-8", errors="replace").splitlines()
        if content:
            yield ""
            yield from _last(f"{name}, {path.name}", content, lines)


def _last(title: str, content: list[str], lines: int) -> Iterator[str]:
    if len(content) > lines:
        title += f", the last {lines} of {len(content)} lines"
    yield f"== {title}"
    yield from content[-lines:]


def _of_candidate(folder: RunFolder, wanted: str) -> Iterator[str]:
    result = _find_result(folder, wanted)
    identifier = result.candidate.id
    reason = f": {result.reason}" if result.reason else ""
    yield f"== {identifier} of {folder.name}, {result.status or 'not finished'}{reason}"
    for event in folder.events():
        if event.get("index") == result.index:
            yield event_line(event)
            for number, accuracy in enumerate(event.get("curve", ()), start=1):
                yield f"          epoch {number:>3}  validation {100 * accuracy:.1f} %, float32"
    files = folder.candidate(identifier)
    if result.status is None:
        yield from _progress(files / "progress.json")
    error = files / "error.log"
    if error.exists():
        yield f"\n== {identifier}, error.log"
        yield error.read_text(encoding="utf-8", errors="replace").rstrip()


def _progress(path: Path) -> Iterator[str]:
    """The newest epoch of a training that goes on or was stopped."""
    from tuner.store.files import read_json

    if path.exists():
        epoch = read_json(path)
        yield (
            f"          epoch {epoch['number']:>3} of {epoch['planned']}  loss "
            f"{epoch['loss']:.3f}  validation {100 * epoch['validation_accuracy']:.1f} %"
        )


def _find_result(folder: RunFolder, wanted: str) -> Result:
    """The result that a rank, an id or its beginning names, finished or not.

    Raises:
        UnknownNameError: none does.
        InputError: several do.
    """
    from tuner.engine.board import board, find_candidate

    if not wanted.isdigit():
        found = [item for item in folder.results() if item.candidate.id.startswith(wanted)]
        if wanted and len(found) == 1:
            return found[0]
    return find_candidate(board(folder), wanted).result
