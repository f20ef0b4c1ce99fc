"""Retrain a template in full, with all cores, into a new model version."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.cost.change import nearest_change
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.engine import jobs
from tuner.engine.costs import cost_on
from tuner.engine.slots import Died, Raised, available_cores
from tuner.engine.supervisor import ignore_signals
from tuner.engine.workplace import GivenUp, Workplace
from tuner.errors import InputError, InterruptedRunError, TuneError
from tuner.spec import (
    Architecture,
    Build,
    Cost,
    ModelVersion,
    RunSpec,
    Template,
    from_plain,
    to_plain,
)
from tuner.store.events import now
from tuner.store.files import cache_folder, read_json, write_atomic
from tuner.store.models import ModelFolder, new_version, write_version


def retrain(
    template: Template,
    *,
    data: str | None = None,
    epochs: int | None = None,
    threads: int | None = None,
    name: str | None = None,
    on_progress: Callable[[Mapping[str, Any]], None] = lambda epoch: None,
    on_note: Callable[[str], None] = lambda text: None,
) -> ModelFolder:
    """Train a template for its full number of epochs and keep the result as a new version.

    Args:
        template: from `tune select`, perhaps edited.
        data: other data than the template's.
        epochs: other epochs than the template's.
        threads: TensorFlow threads; None for all cores.
        name: other name than the template's.
        on_progress: called with the newest epoch, plain, several times a second.
        on_note: called with a line that the user should read.

    Raises:
        InputError: the template does not fit its target, or the data cannot be used.
        TuneError: the training failed.
    """
    from tuner.data import open_dataset

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
    threads = threads or available_cores()
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
    with new_version(name) as folder:
        outcome = _run(template, spec, folder, threads, on_progress)
        version = ModelVersion(
            name=name,
            version=1,
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
            threads=threads,
            created=spec.created,
        )
        return write_version(folder, version)


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
    threads: int,
    on_progress: Callable[[Mapping[str, Any]], None],
) -> dict[str, Any]:
    """Train in a slot of its own: a crash of a library ends the job, not the command."""
    logs = folder.parent / ".logs"
    work = Workplace(workers=1, threads=threads, logs=logs)
    progress = folder / "progress.json"
    ended: list[tuple[Any, Any]] = []
    try:
        work.start(
            work.slots[0],
            0,
            jobs.retrain_candidate,
            to_plain(spec),
            folder,
            to_plain(template.as_candidate),
            progress=progress,
        )
        while not ended:
            ended = work.poll()
            if progress.exists():
                on_progress(read_json(progress))
    except KeyboardInterrupt:
        ignore_signals()
        raise InterruptedRunError("Stopped; no version was made.") from None
    finally:
        work.close()
    outcome = ended[0][1]
    if isinstance(outcome, Raised):
        write_atomic(logs / "error.log", outcome.traceback)
    if isinstance(outcome, Died | Raised | GivenUp):
        raise TuneError(f"Retraining failed: {outcome.reason}. See the logs in {logs}.")
    progress.unlink(missing_ok=True)
    result: dict[str, Any] = outcome
    return result
