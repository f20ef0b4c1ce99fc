"""Run the training of a template in a slot: its time told before, then its parts.

A part in float32 comes first, then a quantization-aware one in a process of its own.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.cost.fit import format_minutes
from tuner.cost.training import rounding_share
from tuner.engine.quantization_aware import CANNOT, train_quantization_aware
from tuner.engine.retraining import COMPARED, STOP, measure_pace, retrain_candidate
from tuner.engine.slots import Died, Raised
from tuner.engine.supervisor import ignore_signals
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InterruptedRunError, TuneError
from tuner.models.time_limit import check_clock, check_predicted_time, with_time
from tuner.spec import Candidate, Cost, QuantizationAware, Retraining, RunSpec, Template, to_plain
from tuner.store.files import read_json, write_atomic, write_json
from tuner.store.models import (
    CHECKPOINT,
    FLOAT_PART,
    FLOAT_WEIGHTS,
    PACE,
    QUANTIZED,
    ModelFolder,
    can_go_on,
    worker_logs,
)
from tuner.train.steps import parts_of_batch

ROUNDING_START_SECONDS = 2.0
"""Of a quantization-aware part's training, until its graph is made: 1.3 to 3.1 for 8 nets of
tests/benchmarks/retrain_time.py."""

AWARE = "Quantization-aware training"

CURVES = ("curve", "loss_curve", "validation_loss_curve")

LONGEST_RATIO, LONGEST_EXTRA_SECONDS = 10.0, 900.0
"""A quantization-aware part is given up after so many times the float32 part's pace, and so many
seconds more."""


def run_training(
    template: Template,
    spec: RunSpec,
    folder: Path,
    retraining: Retraining,
    parent: ModelFolder | None,
    costs: dict[str, Cost],
    on_progress: Callable[[Mapping[str, Any]], None],
    on_note: Callable[[str], None],
) -> tuple[dict[str, Any], dict[str, Cost]]:
    """Train in a slot of its own: a crash of a library ends the job, not the command.

    Returns:
        What came of it, and the costs with the predicted time of training.
    """
    logs = worker_logs(folder)
    batch = min(template.training.batch_size, spec.dataset.counts["training"])
    work = Workplace(1, retraining.threads, logs, parts_of_batch(batch, retraining.threads))
    progress, complete = folder / "progress.json", folder / FLOAT_PART
    target = template.target.name

    def finish(
        job: Callable[..., Any],
        *arguments: Any,
        name: str = "",
        otherwise: str = "",
        allowed_seconds: float | None = None,
    ) -> dict[str, Any]:
        ended: list[tuple[Any, Any]] = []
        work.start(
            work.slots[0], 0, job, *arguments, progress=progress, allowed_seconds=allowed_seconds
        )
        while not ended:
            try:
                ended = work.poll()
                if progress.exists():
                    on_progress(read_json(progress))
            except KeyboardInterrupt:
                if (folder / STOP).exists() or not (progress.exists() or complete.exists()):
                    raise
                write_atomic(folder / STOP, "")
                on_note("Stopping after this epoch; once more stops at once.")
        outcome = ended[0][1]
        if isinstance(outcome, Raised):
            with suppress(OSError):  # of a full disk, which may be why it was raised
                write_atomic(logs / "error.log", outcome.traceback)
        if isinstance(outcome, Died | Raised | GivenUp):
            kept = "The same command goes on from the last checkpoint. "
            raise TuneError(
                f"{name or 'Retraining'} failed: {outcome.reason}. "
                f"{kept if can_go_on(folder) else ''}{otherwise}See the logs in {logs}."
            )
        return dict(outcome)

    try:
        if retraining.seconds is None:
            timed = _pace(finish, template, spec, folder, retraining, parent)

            def minutes_of(candidate: Candidate, slower: float = 1.0) -> float:
                paced = {**timed, "epoch_seconds": slower * timed["epoch_seconds"]}
                asked = replace(retraining, epochs=candidate.training.epochs)
                return predicted_minutes(asked, candidate, paced)

            minutes = minutes_of(template.as_candidate)
            costs = {target: with_time(template, costs[target], minutes)}
            check_predicted_time(template, costs[target], minutes_of)
        else:
            check_clock(template, retraining.seconds)
        if complete.exists():
            on_note("Going on after the float32 part of a training that was interrupted.")
        elif (folder / CHECKPOINT).exists():
            on_note("Going on from the checkpoint of a training that was interrupted.")
        elif predicted := costs[target].train_minutes:
            on_note(
                f"About {format_minutes(predicted.value)} "
                f"({format_minutes(predicted.low, predicted.high)}) for {retraining.epochs} epochs."
            )
        outcome = _train_parts(
            finish,
            work.slots[0].kill,
            (to_plain(spec), to_plain(template.as_candidate)),
            folder,
            retraining,
            None if parent is None else parent.path / "model.keras",
            on_note,
        )
    except KeyboardInterrupt:
        ignore_signals()
        kept = can_go_on(folder)
        raise InterruptedRunError(
            "Stopped; no version was made."
            + (" The same command goes on from the last checkpoint." if kept else "")
        ) from None
    finally:
        work.close()
    progress.unlink(missing_ok=True)
    return outcome, costs


def _pace(
    finish: Callable[..., dict[str, Any]],
    template: Template,
    spec: RunSpec,
    folder: Path,
    retraining: Retraining,
    parent: ModelFolder | None,
) -> dict[str, Any]:
    """What `measure_pace` gives; what was measured when the training was begun, if it was."""
    if not (can_go_on(folder) and (folder / PACE).exists()):
        timed = finish(
            measure_pace,
            to_plain(spec),
            to_plain(template.as_candidate),
            retraining.epochs,
            retraining.threads,
            parent is not None,
        )
        write_json(folder / PACE, timed)
    return dict(read_json(folder / PACE))


def _train_parts(
    finish: Callable[..., dict[str, Any]],
    fresh_worker: Callable[[], None],
    trained: tuple[Mapping[str, Any], Mapping[str, Any]],
    folder: Path,
    retraining: Retraining,
    weights: Path | None,
    on_note: Callable[[str], None],
) -> dict[str, Any]:
    """Train in float32, then quantization-aware, as far as each is asked for.

    Args:
        finish: runs a job to its end.
        fresh_worker: makes the next job begin a process.
        trained: plain RunSpec and Candidate.
        folder: of the version that is made.
        retraining: of both parts together.
        weights: `model.keras` to train on from, if any.
        on_note: called with a line that the user should read.

    Returns:
        What came of all of it, and its quantization-aware part: a QuantizationAware, or None.
    """
    spec, candidate = trained
    first, second = parts_of(retraining)
    outcome: dict[str, Any] = {"epochs": 0, "train_seconds": 0.0, **{name: [] for name in CURVES}}
    complete = folder / FLOAT_PART

    def train(part: Retraining, weights: Path | None) -> dict[str, Any]:
        return finish(retrain_candidate, spec, folder, candidate, to_plain(part), weights)

    if second is None:
        if retraining.quantization_share > 0.0:
            on_note(
                f"Epochs planned: {retraining.epochs}, too few for a quantization-aware part of "
                f"{retraining.quantization_share:.0%}; all are trained in float32."
            )
        return {**train(retraining, weights), "quantization": None}
    if first is not None:
        if weights is None:  # else all layers learn from the start
            frozen = min(candidate["training"]["frozen_share"], second.span[0])
            second = replace(second, unfrozen_from=frozen)
        if complete.exists():
            outcome = read_json(complete)
        else:
            outcome = train(first, weights)
            if outcome["stopped"]:
                return {**outcome, "quantization": None}
            os.replace(folder / "model.keras", folder / FLOAT_WEIGHTS)
            write_json(complete, outcome)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        weights = folder / FLOAT_WEIGHTS
    part = folder / QUANTIZED
    part.mkdir(exist_ok=True)
    fresh_worker()
    aware = finish(
        train_quantization_aware,
        spec,
        part,
        candidate,
        to_plain(second),
        weights,
        (outcome["epochs"], outcome["train_seconds"]),
        folder / "progress.json",
        name=AWARE,
        otherwise="With --quantization-percent 0 all is trained in float32, from the start. ",
        allowed_seconds=_allowed_seconds(second, outcome),
    )
    if CANNOT in aware:
        on_note(
            f"{AWARE} failed: {aware[CANNOT]}. The rest is trained in float32. "
            f"See the logs in {worker_logs(folder)}."
        )
        shutil.rmtree(part)
        fresh_worker()
        return {**_joined(outcome, train(second, weights)), "quantization": None}
    shutil.rmtree(folder / COMPARED, ignore_errors=True)  # of an attempt to end in float32
    for path in part.iterdir():
        if path.name != CHECKPOINT:  # which lets this part go on, until there is a version
            os.replace(path, folder / path.name)
    quantization = QuantizationAware(epochs=aware["epochs"], train_seconds=aware["train_seconds"])
    stopped = (folder / STOP).exists()
    return {**_joined(outcome, aware), "stopped": stopped, "quantization": quantization}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """What two parts of a training gave, with the builds of the second."""
    return {
        **second,
        "epochs": first["epochs"] + second["epochs"],
        "best_epoch": first["epochs"] + second["best_epoch"],
        "train_seconds": round(first["train_seconds"] + second["train_seconds"], 3),
        **{name: [*first[name], *second[name]] for name in CURVES},
        "scored": [
            {**epoch, "epoch": first["epochs"] + epoch["epoch"]} for epoch in second["scored"]
        ],
    }


def predicted_minutes(
    retraining: Retraining, candidate: Candidate, timed: Mapping[str, float]
) -> float:
    """How long a training of so many epochs will take in all its parts.

    Args:
        retraining: without a clock.
        candidate: that is trained.
        timed: what `measure_pace` gave.
    """
    first, second = parts_of(retraining)
    epoch, start = timed["epoch_seconds"], timed["start_seconds"]
    seconds = 0.0
    if first is not None:
        seconds += start + first.epochs * epoch
    if second is not None:
        batch = candidate.training.batch_size
        slower = 1.0 + rounding_share(candidate.architecture, batch)
        seconds += ROUNDING_START_SECONDS + second.epochs * slower * epoch
    return seconds / 60.0


def _allowed_seconds(part: Retraining, before: Mapping[str, Any]) -> float | None:
    """After which a quantization-aware part is given up; None where no pace is known."""
    if part.seconds is not None:
        expected = part.seconds
    elif before["epochs"]:
        expected = part.epochs * before["train_seconds"] / before["epochs"]
    else:
        return None
    return LONGEST_RATIO * expected + LONGEST_EXTRA_SECONDS


def parts_of(retraining: Retraining) -> tuple[Retraining | None, Retraining | None]:
    """The float32 part of a training and the quantization-aware one; None for one left out."""
    share, epochs = retraining.quantization_share, retraining.epochs
    aware = min(round(share * epochs), epochs - 1) if share < 1.0 else epochs
    if retraining.seconds is not None and share > 0.0:  # the epochs are set by the clock
        aware = max(1, aware)
    if aware == 0:
        return retraining, None
    if share == 1.0:
        return None, retraining
    begins = 1.0 - share if retraining.seconds is not None else 1.0 - aware / epochs
    first = replace(retraining, epochs=max(1, epochs - aware), span=(0.0, begins))
    second = replace(retraining, epochs=aware, span=(begins, 1.0))
    if retraining.seconds is not None:
        first = replace(first, seconds=(1.0 - share) * retraining.seconds)
        second = replace(second, seconds=share * retraining.seconds)
    return first, second
