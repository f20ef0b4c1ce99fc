"""Retrain a template, with all cores, into a new model version."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tuner import catalog
from tuner.cost.change import nearest_change
from tuner.cost.fit import check_limits, explain, reasons
from tuner.cost.lower import lower
from tuner.engine import jobs
from tuner.engine.costs import cost_on
from tuner.engine.quantization_aware import train_quantization_aware
from tuner.engine.slots import Died, Raised, available_cores
from tuner.engine.supervisor import ignore_signals
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InputError, InterruptedRunError, TuneError
from tuner.spec import (
    Architecture,
    Build,
    Cost,
    ModelVersion,
    Quantity,
    QuantizationAware,
    Retraining,
    RunSpec,
    Template,
    from_plain,
    to_plain,
)
from tuner.store.events import now
from tuner.store.files import cache_folder, read_json, write_atomic, write_json
from tuner.store.models import (
    CHECKPOINT,
    FLOAT_PART,
    ModelFolder,
    can_go_on,
    find_model,
    new_version,
    write_version,
)
from tuner.train.loop import parts_of_batch

TIME_BAND = (0.85, 1.15)
"""Of the predicted time of training, low and high; see tests/benchmarks/retrain_time.py."""

QUANTIZATION_PERCENT = 30.0
"""Of a training, that is quantization-aware unless told otherwise."""

QUANTIZED = "quantized"
"""Folder of the quantization-aware part, in that of the version that is being made."""

LONGEST_RATIO, LONGEST_EXTRA_SECONDS = 10.0, 900.0
"""A quantization-aware part is given up after so many times the float32 part's pace, and so many
seconds more."""


def retrain(
    template: Template | None = None,
    *,
    data: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    patience_percent: float | None = None,
    quantization_percent: float | None = None,
    keep: Literal["best", "last"] = "best",
    continued: str | None = None,
    threads: int | None = None,
    name: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda epoch: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> ModelFolder:
    """Train a template and keep the result as a new version.

    Called again after it was killed, it goes on from its last checkpoint.

    Args:
        template: from `tune select`, perhaps edited; None for that of `continued`.
        data: other data than the template's.
        epochs: other epochs than the template's.
        minutes: of training, with as many epochs as they allow, in place of `epochs`.
        patience_percent: end when this share of the training brought no better accuracy.
        quantization_percent: of the epochs, or the minutes, at their end, in which the net rounds
            as its int8 file does: quantization-aware training. 0 for none, 100 for all; None
            for `QUANTIZATION_PERCENT`.
        keep: the weights of the best epoch, by accuracy on the validation images, or of the last.
        continued: `NAME@VERSION` whose weights are trained on.
        threads: TensorFlow threads; None for all cores.
        name: other name than the template's.
        on_progress: called with the newest epoch, plain, several times a second.
        on_note: called with a line that the user should read.

    Raises:
        InputError: the template does not fit its target, the data cannot be used, or options that
            exclude each other.
        InterruptedRunError: it was stopped at once; the next call goes on.
        TuneError: the training failed.
    """
    from tuner.data import open_dataset

    if epochs is not None and minutes is not None:
        raise InputError("Expected --epochs or --minutes. Received: both; leave one of them out.")
    if quantization_percent is None:
        quantization_percent = QUANTIZATION_PERCENT
    if not 0.0 <= quantization_percent <= 100.0:
        raise InputError(
            "Expected a number from 0 to 100 for --quantization-percent. "
            f"Received: {quantization_percent:g}."
        )
    parent = None if continued is None else find_model(continued)
    if template is None:
        if parent is None:
            raise InputError("Expected a template, or --continue MODEL@VERSION. Received: neither.")
        template = parent.read().template
    name = name or template.name
    template = replace(
        template,
        name=name,
        data=data or template.data,
        training=replace(template.training, epochs=epochs or template.training.epochs),
    )
    costs = _checked_costs(template)
    dataset = open_dataset(
        template.data,
        split_seed=template.split_seed,
        cache=cache_folder(),
        group_by=template.group_by,
    )
    if dataset.spec.fingerprint != template.fingerprint:
        on_note("The data is not the data that the candidate was selected on; accuracies differ.")
    outputs = catalog.load_module("tasks", template.task).outputs(dataset.spec)
    units = template.architecture.shapes()[template.architecture.outputs[0]][0]
    if outputs != units:
        raise InputError(
            f"The data at {template.data} has {outputs} classes, the template's net gives {units}. "
            "Change the units of its last layer, or use the data it was made for."
        )
    if parent is not None:
        _check_parent(parent, template, dataset.spec.classes)
    retraining = Retraining(
        epochs=template.training.epochs,
        threads=threads or available_cores(),
        seconds=None if minutes is None else 60.0 * minutes,
        patience_share=None if patience_percent is None else patience_percent / 100.0,
        keep=keep,
        seed_shift=0 if parent is None else parent.read().version,
        quantization_share=quantization_percent / 100.0,
    )
    spec = RunSpec(
        name=name,
        dataset=dataset.spec,
        targets=(template.target,),
        task=template.task,
        spaces=(),
        seed=template.seed,
        workers=1,
        budget_seconds=None,
        max_candidates=1,
        created=now(),
    )
    reference = None if parent is None else parent.reference
    with new_version(name, _key(template, dataset.spec.fingerprint, retraining, reference)) as path:
        (path / jobs.STOP).unlink(missing_ok=True)
        outcome, costs = _run(template, spec, path, retraining, parent, costs, on_progress, on_note)
        (path / jobs.STOP).unlink(missing_ok=True)
        version = ModelVersion(
            name=name,
            version=1,
            parent=reference,
            template=template,
            dataset=dataset.spec,
            costs=costs,
            builds={
                precision: from_plain(Build, build, "retrain")
                for precision, build in outcome["builds"].items()
            },
            epochs=outcome["epochs"],
            best_epoch=outcome["best_epoch"],
            train_seconds=outcome["train_seconds"],
            curve=tuple(outcome["curve"]),
            threads=retraining.threads,
            created=spec.created,
            retraining=retraining,
            stopped=outcome["stopped"],
            quantization=outcome["quantization"],
        )
        return write_version(path, version)


def _key(template: Template, fingerprint: str, retraining: Retraining, parent: str | None) -> str:
    """Names a training: what is interrupted is gone on with by the same command."""
    plain = [to_plain(template), fingerprint, to_plain(retraining), parent]
    return hashlib.sha256(json.dumps(plain, sort_keys=True).encode()).hexdigest()[:12]


def _check_parent(parent: ModelFolder, template: Template, classes: Sequence[str]) -> None:
    before = parent.read()
    if before.template.architecture != template.architecture:
        raise InputError(
            f"Expected the layers of {parent.reference} in the template, to train its weights on. "
            "They differ; leave --continue out to train from the start."
        )
    if tuple(before.dataset.classes) != tuple(classes):
        raise InputError(
            f"Expected the classes of {parent.reference}: {', '.join(before.dataset.classes)}. "
            f"Received: {', '.join(classes)}. Leave --continue out to train from the start."
        )


def _checked_costs(template: Template) -> dict[str, Cost]:
    target = template.target

    def cost_of(architecture: Architecture) -> Cost:
        return cost_on(lower(architecture), target)

    cost = cost_of(template.architecture)
    if not cost.fits:
        change = nearest_change(template.architecture, lambda changed: cost_of(changed).fits)
        raise InputError(
            f"The template '{template.name}' does not fit {target.name}: {reasons(cost)}. "
            + (f"It {change}. Edit it so" if change else "Make its layers smaller")
            + ", or loosen the limits in its [target] table."
        )
    return {target.name: cost}


def _run(
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
    logs = folder.parent / ".logs"
    batch = min(template.training.batch_size, spec.dataset.counts["training"])
    work = Workplace(1, retraining.threads, logs, parts_of_batch(batch, retraining.threads))
    progress = folder / "progress.json"

    def finish(
        job: Callable[..., Any],
        *arguments: Any,
        name: str = "Retraining",
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
                if (folder / jobs.STOP).exists() or not progress.exists():
                    raise
                write_atomic(folder / jobs.STOP, "")
                on_note("Stopping after this epoch; once more stops at once.")
        outcome = ended[0][1]
        if isinstance(outcome, Raised):
            write_atomic(logs / "error.log", outcome.traceback)
        if isinstance(outcome, Died | Raised | GivenUp):
            raise TuneError(f"{name} failed: {outcome.reason}. See the logs in {logs}.")
        return dict(outcome)

    try:
        if retraining.seconds is None:
            candidate = to_plain(template.as_candidate)
            timed = finish(jobs.measure_epoch, to_plain(spec), candidate, retraining.threads)
            costs = _with_time(template, costs, timed["seconds"] * retraining.epochs / 60.0)
        limit = template.target.limits.train_minutes
        _check_time(template, costs[template.target.name], retraining.seconds, limit)
        if (folder / FLOAT_PART).exists():
            on_note("Going on after the float32 part of a training that was interrupted.")
        elif (folder / CHECKPOINT).exists():
            on_note("Going on from the checkpoint of a training that was interrupted.")
        elif predicted := costs[template.target.name].train_minutes:
            on_note(
                f"About {predicted.value:.1f} min ({predicted.low:.1f} to {predicted.high:.1f}) "
                f"for {retraining.epochs} epochs."
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
    first, second = _parts(retraining)
    outcome: dict[str, Any] = {"epochs": 0, "best_epoch": 0, "train_seconds": 0.0, "curve": []}
    complete = folder / FLOAT_PART

    def train(part: Retraining, weights: Path | None) -> dict[str, Any]:
        return finish(jobs.retrain_candidate, spec, folder, candidate, to_plain(part), weights)

    if second is None:
        return {**train(retraining, weights), "quantization": None}
    if first is not None:
        if complete.exists():
            outcome = read_json(complete)
        else:
            outcome = train(first, weights)
            if outcome["stopped"]:
                return {**outcome, "quantization": None}
            write_json(complete, outcome)
            (folder / CHECKPOINT).unlink(missing_ok=True)
        weights = folder / "model.keras"
    part = folder / QUANTIZED
    part.mkdir(exist_ok=True)
    fresh_worker()
    try:
        aware = finish(
            train_quantization_aware,
            spec,
            part,
            candidate,
            to_plain(second),
            weights,
            outcome["epochs"],
            folder / "progress.json",
            name="Quantization-aware training",
            allowed_seconds=_allowed_seconds(second, outcome),
        )
    except TuneError as error:
        on_note(f"{error} The rest is trained in float32.")
        shutil.rmtree(part)
        fresh_worker()
        return {**_joined(outcome, train(second, weights)), "quantization": None}
    complete.unlink(missing_ok=True)  # from here on it is not what lies in the folder
    for path in part.iterdir():
        os.replace(path, folder / path.name)
    part.rmdir()
    quantization = QuantizationAware(epochs=aware["epochs"], train_seconds=aware["train_seconds"])
    stopped = (folder / jobs.STOP).exists()
    return {**_joined(outcome, aware), "stopped": stopped, "quantization": quantization}


def _joined(first: Mapping[str, Any], second: Mapping[str, Any]) -> dict[str, Any]:
    """What two parts of a training gave, with the builds of the second."""
    return {
        **second,
        "epochs": first["epochs"] + second["epochs"],
        "best_epoch": first["epochs"] + second["best_epoch"],
        "train_seconds": round(first["train_seconds"] + second["train_seconds"], 3),
        "curve": [*first["curve"], *second["curve"]],
    }


def _allowed_seconds(part: Retraining, before: Mapping[str, Any]) -> float | None:
    """After which a quantization-aware part is given up; None where no pace is known."""
    if part.seconds is not None:
        expected = part.seconds
    elif before["epochs"]:
        expected = part.epochs * before["train_seconds"] / before["epochs"]
    else:
        return None
    return LONGEST_RATIO * expected + LONGEST_EXTRA_SECONDS


def _parts(retraining: Retraining) -> tuple[Retraining | None, Retraining | None]:
    """The float32 part of a training and the quantization-aware one; None for one left out."""
    share, epochs = retraining.quantization_share, retraining.epochs
    aware = min(round(share * epochs), epochs - 1) if share < 1.0 else epochs
    if retraining.seconds is not None and share > 0.0:  # the epochs are set by the clock
        aware = max(1, aware)
    if aware == 0:
        return retraining, None
    if share == 1.0:
        return None, retraining
    first = replace(retraining, epochs=max(1, epochs - aware), span=(0.0, 1.0 - share))
    second = replace(retraining, epochs=aware, span=(1.0 - share, 1.0))
    if retraining.seconds is not None:
        first = replace(first, seconds=(1.0 - share) * retraining.seconds)
        second = replace(second, seconds=share * retraining.seconds)
    return first, second


def _with_time(template: Template, costs: dict[str, Cost], minutes: float) -> dict[str, Cost]:
    """Add the predicted time of training, and check all limits with it."""
    predicted = Quantity(
        value=minutes,
        low=minutes * TIME_BAND[0],
        high=minutes * TIME_BAND[1],
        kind="estimated",
        basis="epochs of a part of the images, timed before with the same threads",
    )
    name = template.target.name
    timed = replace(costs[name], train_minutes=predicted)
    return {name: check_limits(timed, template.target.model_limits)}


def _check_time(template: Template, cost: Cost, seconds: float | None, limit: float | None) -> None:
    """Refuse what takes longer than the limit of the template's target, in minutes."""
    if limit is None:
        return
    if seconds is not None and seconds > 60.0 * limit:
        raise InputError(
            f"Expected at most {limit:g} minutes, the limit of '{template.name}'. Received: "
            f"--minutes {seconds / 60.0:g}. Loosen train_minutes in its [target.limits] table."
        )
    late = [excess for excess in cost.over if excess.limit == "train_minutes"]
    if late:
        epochs = int(template.training.epochs * limit / late[0].needed)
        fitting = f"--epochs {epochs} or --minutes {limit:g}" if epochs else f"--minutes {limit:g}"
        raise InputError(
            f"The template '{template.name}' takes too long: {explain(late[0])}. What fits: "
            f"{fitting}, a smaller input or another candidate; or loosen train_minutes in its "
            "[target.limits] table."
        )
