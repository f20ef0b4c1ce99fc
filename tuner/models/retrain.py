"""Retrain a template, with all cores, into a new model version."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Literal

from tuner import catalog
from tuner.cost.change import nearest_change
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.cost.training import QUANTIZATION_SHARE
from tuner.engine.costs import cost_on
from tuner.engine.retraining import STOP
from tuner.engine.search import with_limits
from tuner.engine.slots import available_cores
from tuner.engine.transfer import begun_with, install
from tuner.errors import InputError
from tuner.models.training import run_training
from tuner.spec import (
    Architecture,
    Build,
    Cost,
    Limits,
    Metric,
    ModelVersion,
    Retraining,
    RunSpec,
    ScoredEpoch,
    Template,
    from_plain,
    to_plain,
)
from tuner.store.events import now
from tuner.store.files import cache_folder
from tuner.store.models import (
    ModelFolder,
    find_model,
    learned_elsewhere,
    new_version,
    write_version,
)

QUANTIZATION_PERCENT = 100.0 * QUANTIZATION_SHARE
"""Of a training, that is quantization-aware unless told otherwise."""


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
        if head_alone:
            on_note("The head alone is trained (frozen_share 1), so not quantization-aware.")
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
        if doubt := learned_elsewhere(parent, dataset.spec):
            on_note(doubt)
    elif template.training.weights:
        install(begun_with(template), template.training.weights)
    if dataset.spec.fingerprint != template.fingerprint:
        on_note("The data is not the data that the candidate was selected on; accuracies differ.")
        for line in dataset.spec.warnings:
            on_note(line)
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
        outcome, costs = run_training(
            template, spec, path, retraining, parent, costs, on_progress, on_note
        )
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
    described: dict[str, Any] = to_plain(template)
    for table in (described["target"], described["target"].get("sources", {})):
        table.pop("limits", None)  # another limit changes nothing that was trained
    asked: dict[str, Any] = to_plain(retraining)
    del asked["unfrozen_from"]  # of its second part, by the template
    plain = [described, fingerprint, asked, parent]
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
