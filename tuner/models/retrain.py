"""Retrain a template, with all cores, into a new model version."""

from __future__ import annotations

import hashlib
import json
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
from tuner.engine.slots import Died, Raised, available_cores
from tuner.engine.supervisor import ignore_signals
from tuner.engine.transfer import install
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InputError, InterruptedRunError, TuneError
from tuner.spec import (
    Architecture,
    Build,
    Cost,
    ModelVersion,
    Quantity,
    Retraining,
    RunSpec,
    Template,
    from_plain,
    to_plain,
)
from tuner.store.events import now
from tuner.store.files import cache_folder, read_json, write_atomic
from tuner.store.models import (
    CHECKPOINT,
    ModelFolder,
    find_model,
    new_version,
    write_version,
)
from tuner.train.loop import parts_of_batch

TIME_BAND = (0.85, 1.15)
"""Of the predicted time of training, low and high; see tests/benchmarks/retrain_time.py."""


def retrain(
    template: Template | None = None,
    *,
    data: str | None = None,
    epochs: int | None = None,
    minutes: float | None = None,
    patience_percent: float | None = None,
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
    elif template.training.weights:
        install(Path(template.weights), template.training.weights)
    retraining = Retraining(
        epochs=template.training.epochs,
        threads=threads or available_cores(),
        seconds=None if minutes is None else 60.0 * minutes,
        patience_share=None if patience_percent is None else patience_percent / 100.0,
        keep=keep,
        seed_shift=0 if parent is None else parent.read().version,
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

    def finish(job: Callable[..., Any], *arguments: Any) -> dict[str, Any]:
        ended: list[tuple[Any, Any]] = []
        work.start(work.slots[0], 0, job, *arguments, progress=progress)
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
            raise TuneError(f"Retraining failed: {outcome.reason}. See the logs in {logs}.")
        return dict(outcome)

    try:
        if retraining.seconds is None:
            candidate = to_plain(template.as_candidate)
            timed = finish(jobs.measure_epoch, to_plain(spec), candidate, retraining.threads)
            costs = _with_time(template, costs, timed["seconds"] * retraining.epochs / 60.0)
        limit = template.target.limits.train_minutes
        _check_time(template, costs[template.target.name], retraining.seconds, limit)
        if (folder / CHECKPOINT).exists():
            on_note("Going on from the checkpoint of a training that was interrupted.")
        elif predicted := costs[template.target.name].train_minutes:
            on_note(
                f"About {predicted.value:.1f} min ({predicted.low:.1f} to {predicted.high:.1f}) "
                f"for {retraining.epochs} epochs."
            )
        outcome = finish(
            jobs.retrain_candidate,
            to_plain(spec),
            folder,
            to_plain(template.as_candidate),
            to_plain(retraining),
            None if parent is None else parent.path / "model.keras",
        )
    except KeyboardInterrupt:
        ignore_signals()
        kept = (folder / CHECKPOINT).exists()
        raise InterruptedRunError(
            "Stopped; no version was made."
            + (" The same command goes on from the last checkpoint." if kept else "")
        ) from None
    finally:
        work.close()
    progress.unlink(missing_ok=True)
    return outcome, costs


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
