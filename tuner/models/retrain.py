"""Retrain a template, with all cores, into a new model version."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from tuner import catalog
from tuner.cost.change import nearest_change
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.engine.costs import cost_on
from tuner.engine.quantization_aware import train_quantization_aware
from tuner.engine.retraining import COMPARED, STOP, measure_epoch, retrain_candidate
from tuner.engine.search import with_limits
from tuner.engine.slots import Died, Raised, available_cores
from tuner.engine.supervisor import ignore_signals
from tuner.engine.transfer import install
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InputError, InterruptedRunError, TuneError
from tuner.models.time_limit import check_time, with_time
from tuner.spec import (
    Architecture,
    Build,
    Cost,
    Limits,
    Metric,
    ModelVersion,
    QuantizationAware,
    Retraining,
    RunSpec,
    ScoredEpoch,
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

QUANTIZATION_PERCENT = 30.0
"""Of a training, that is quantization-aware unless told otherwise."""

QUANTIZED = "quantized"
"""Folder of the quantization-aware part, in that of the version that is being made."""

CURVES = ("curve", "loss_curve", "validation_loss_curve")

LONGEST_RATIO, LONGEST_EXTRA_SECONDS = 10.0, 900.0
"""A quantization-aware part is given up after so many times the float32 part's pace, and so many
seconds more."""


def retrain(
    template: Template | None = None,
    *,
    data: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    max_train_minutes: float | None = None,
    patience_percent: float | None = None,
    steady_epochs: int | None = None,
    learning_rate: float | None = None,
    batch_size: int | None = None,
    schedule: Literal["linear", "cosine", "constant"] | None = None,
    quantization_percent: float | None = None,
    keep: Literal["best", "last"] = "best",
    metric: Metric = "accuracy",
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
        max_train_minutes: limit on the training's time, in place of the template's.
        patience_percent: end when this share of the training brought nothing better by `metric`.
        steady_epochs: end when the loss changed by less than
            `tuner.train.loop.STEADY_CHANGE` over so many epochs.
        learning_rate: other than the template's.
        batch_size: other than the template's.
        schedule: of the learning rate, other than the template's.
        keep: the weights of the best epoch, or of the last.
        metric: by which an epoch is the best: the best few by the float32 model, and the last, are
            compared as int8 models on the validation images.
        quantization_percent: of the epochs, or the minutes, at their end, in which the net rounds
            as its int8 file does: quantization-aware training. 0 for none, 100 for all; None
            for `QUANTIZATION_PERCENT`.
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
    if quantization_percent is not None and not 0.0 <= quantization_percent <= 100.0:
        raise InputError(
            "Expected a number from 0 to 100 for --quantization-percent. "
            f"Received: {quantization_percent:g}."
        )
    parent = None if continued is None else find_model(continued)
    if template is None:
        if parent is None:
            raise InputError("Expected a template, or --continue MODEL@VERSION. Received: neither.")
        template = parent.read().template
    head_alone = template.training.frozen_share == 1.0
    if quantization_percent is None:
        quantization_percent = 0.0 if head_alone else QUANTIZATION_PERCENT
    elif quantization_percent and head_alone:
        raise InputError(
            "Expected --quantization-percent 0 for a net whose head alone is trained, because all "
            f"layers round. Received: {quantization_percent:g}. Or lower frozen_share in the "
            "template."
        )
    name = name or template.name
    given = {
        "epochs": epochs,
        "learning_rate": learning_rate,
        "batch_size": batch_size,
        "schedule": schedule,
    }
    changed: dict[str, Any] = {key: value for key, value in given.items() if value is not None}
    template = replace(
        template,
        name=name,
        data=data or template.data,
        training=replace(template.training, **changed),
    )
    if max_train_minutes is not None:
        limits = Limits(train_minutes=max_train_minutes)
        template = replace(template, target=with_limits(template.target, limits))
    costs = _checked_costs(template)
    dataset = open_dataset(
        template.data,
        split_seed=template.split_seed,
        cache=cache_folder(),
        group_by=template.group_by,
    )
    outputs = catalog.load_module("tasks", template.task).outputs(dataset.spec)
    units = template.architecture.shapes()[template.architecture.outputs[0]][0]
    if outputs != units:
        raise InputError(
            f"The data at {template.data} has {outputs} classes, the template's net gives {units}. "
            "Change the units of its last layer, or use the data it was made for."
        )
    if parent is not None:
        _check_parent(parent, template, dataset.spec.classes)
    elif template.training.weights:
        install(Path(template.weights), template.training.weights)
    if dataset.spec.fingerprint != template.fingerprint:
        on_note("The data is not the data that the candidate was selected on; accuracies differ.")
    retraining = Retraining(
        epochs=template.training.epochs,
        threads=threads or available_cores(),
        seconds=None if minutes is None else 60.0 * minutes,
        patience_share=None if patience_percent is None else patience_percent / 100.0,
        steady_epochs=steady_epochs,
        keep=keep,
        metric=metric,
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
        (path / STOP).unlink(missing_ok=True)
        outcome, costs = _run(template, spec, path, retraining, parent, costs, on_progress, on_note)
        (path / STOP).unlink(missing_ok=True)
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
            loss_curve=tuple(outcome["loss_curve"]),
            validation_loss_curve=tuple(outcome["validation_loss_curve"]),
            scored=tuple(from_plain(ScoredEpoch, item, "retrain") for item in outcome["scored"]),
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
    target = template.target.name

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
                if (folder / STOP).exists() or not progress.exists():
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
                f"{name} failed: {outcome.reason}. "
                f"{kept if can_go_on(folder) else ''}See the logs in {logs}."
            )
        return dict(outcome)

    try:
        if retraining.seconds is None:
            candidate = to_plain(template.as_candidate)
            timed = finish(measure_epoch, to_plain(spec), candidate, retraining.threads)
            minutes = timed["seconds"] * retraining.epochs / 60.0
            costs = {target: with_time(template, costs[target], minutes)}
        check_time(template, costs[target], retraining.seconds)
        if (folder / FLOAT_PART).exists():
            on_note("Going on after the float32 part of a training that was interrupted.")
        elif (folder / CHECKPOINT).exists():
            on_note("Going on from the checkpoint of a training that was interrupted.")
        elif predicted := costs[target].train_minutes:
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
    outcome: dict[str, Any] = {"epochs": 0, "train_seconds": 0.0, **{name: [] for name in CURVES}}
    complete = folder / FLOAT_PART

    def train(part: Retraining, weights: Path | None) -> dict[str, Any]:
        return finish(retrain_candidate, spec, folder, candidate, to_plain(part), weights)

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
            (outcome["epochs"], outcome["train_seconds"]),
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
    shutil.rmtree(folder / COMPARED, ignore_errors=True)  # of an attempt to end in float32
    for path in part.iterdir():
        os.replace(path, folder / path.name)
    part.rmdir()
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
