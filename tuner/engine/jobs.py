"""What a slot does: train a candidate, score it, measure its builds, measure the machine.

Only plain data crosses the process boundary; a job resolves names itself and writes only into
its candidate's folder, by atomic rename.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.engine.builds import make_builds, runs_with, score_builds
from tuner.engine.finalists import write_camera_model
from tuner.engine.images import labelled, open_data
from tuner.spec import (
    Build,
    Candidate,
    RunSpec,
    Split,
    from_plain,
    seed_of,
    to_plain,
)
from tuner.store.files import write_json
from tuner.train.quiet import import_tensorflow

if TYPE_CHECKING:
    from tuner.train.loop import Epoch, LabelledImages, Trained


WEIGHTS = "weights.npz"
PROGRESS = "progress.json"
PATIENCE_SHARE = 0.35


def measure_machine() -> dict[str, float]:
    """Measure how fast this slot trains; plain Throughput."""
    import_tensorflow(whole=False)
    from tuner.train.throughput import measure_throughput

    return dict(to_plain(measure_throughput()))


def train_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    rung: int,
    trained: int,
    epochs: int,
    most_epochs: int,
    seconds: float | None,
    last: bool,
    others: Sequence[float],
    threads: int = 1,
) -> dict[str, Any]:
    """Train one candidate to a rung, convert and score it; the fields of its event.

    The weights go on from those of the rung that it was trained to before. What is written lies
    in the rung's own folder until the candidate has been trained to its end.

    Args:
        run: plain RunSpec.
        folder: the candidate's folder; builds, weights and progress are written here.
        candidate_plain: plain Candidate.
        rung: to train to.
        trained: the rung that it was trained to before; -1 if it was not.
        epochs: planned passes over the training data.
        most_epochs: if it trains faster than planned.
        seconds: training time that the plan allows; None for no clock.
        last: it is trained to its end.
        others: see `tuner.train.loop.train`; empty lets it train on in any case.
        threads: of the slot's worker.
    """
    from tuner.train.weights import write_weights

    spec = from_plain(RunSpec, run, "run.json")
    write_json(folder / "candidate.json", candidate_plain)
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    weights = rung_folder(folder, trained) / WEIGHTS if trained >= 0 else None
    where = folder if last else rung_folder(folder, rung)
    model, fields = _train(
        spec,
        folder,
        candidate,
        epochs,
        seconds,
        ("validation",),
        where=where,
        weights=weights,
        rung=rung,
        options={"others": others, "threads": threads, "most_epochs": most_epochs},
        keep_predictions=last,
        chosen=last,
    )
    if "reason" in fields:
        return {"status": "stopped", "rung": rung, **fields}
    if last:
        write_camera_model(model, spec, folder)
        return {"status": "ok", "rung": rung, **fields}
    write_weights(where / WEIGHTS, model)
    return {"rung": rung, **fields}


def rung_folder(folder: Path, rung: int) -> Path:
    """What a candidate of which more may come has after a rung."""
    return folder / f"rung{rung}"


def drop_replaced(folder: Path, rung: int, outcome: Mapping[str, Any]) -> None:
    """Delete what a candidate had after a rung, if a later step gave it new builds.

    A step that was ended as far behind the others gives none: the earlier ones stay its own.

    Args:
        folder: of the candidate.
        rung: the last one before that step; -1 if there was none.
        outcome: what `train_candidate` gave.
    """
    if rung >= 0 and "builds" in outcome:
        shutil.rmtree(rung_folder(folder, rung), ignore_errors=True)


def repeat_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    repeat: int,
    trainings: Sequence[tuple[int, int, int | None, float | None]],
) -> dict[str, Any]:
    """Train a candidate again as it was, from another seed; the fields of its event.

    It is scored on the validation images. Its builds are not kept.

    Args:
        run: plain RunSpec.
        folder: the candidate's folder; a folder in it is used and removed.
        candidate_plain: plain Candidate.
        repeat: number of the training, from 1; 0 was the first.
        trainings: that the candidate was taken through: rung, epochs planned and at most, and
            seconds of each.
    """
    from tuner.train.weights import write_weights

    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    where = repeat_folder(folder, repeat)
    weights: Path | None = None
    epochs, spent = 0, 0.0
    for rung, planned, most_epochs, seconds in trainings:
        model, trained = fit(
            spec,
            candidate,
            planned,
            seconds,
            progress=where / PROGRESS,
            weights=weights,
            rung=rung,
            repeat=repeat,
            options={"most_epochs": most_epochs},
        )
        epochs, spent = epochs + trained.epochs, spent + trained.seconds
        weights = where / WEIGHTS
        write_weights(weights, model)
    dataset = open_data(spec.dataset)
    training = labelled(dataset, candidate, "training")
    builds = make_builds(
        model, candidate, training, tuple(runs_with(spec)), folder, where, chosen=True
    )
    scored = score_builds(builds, spec, candidate, dataset, folder, ("validation",))
    shutil.rmtree(where)
    return {
        "repeat": repeat,
        "accuracy": {key: to_plain(build.accuracy["validation"]) for key, build in scored.items()},
        "epochs": epochs,
        "train_seconds": round(spent, 3),
    }


def repeat_folder(folder: Path, repeat: int) -> Path:
    """What a further training of a candidate has while it goes on."""
    return folder / f"repeat{repeat}"


def _train(
    spec: RunSpec,
    folder: Path,
    candidate: Candidate,
    epochs: int,
    seconds: float | None,
    splits: Sequence[Split],
    *,
    where: Path | None = None,
    weights: Path | None = None,
    rung: int = 0,
    options: Mapping[str, Any] = MappingProxyType({}),
    keep_predictions: bool = False,
    chosen: bool = False,
) -> tuple[Any, dict[str, Any]]:
    """Train, build and score; the Keras model and the fields of what came of it.

    Builds are written to `where`, `folder` or one in it, int8 by a `chosen` recipe; training goes
    on from `weights`, and `options` are given to `train`.
    """
    dataset = open_data(spec.dataset)
    model, trained = fit(
        spec,
        candidate,
        epochs,
        seconds,
        progress=folder / PROGRESS,
        weights=weights,
        rung=rung,
        options=options,
    )
    curve = [round(accuracy, 5) for accuracy in trained.curve]
    told = {
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "train_seconds": round(trained.seconds, 3),
        "curve": curve,
    }
    if trained.hopeless:
        reason = (
            f"far behind the others after {trained.epochs} of {trained.planned} epochs, "
            f"at {max(curve):.1%} of the validation images"
        )
        return model, {"reason": reason, **told}
    training = labelled(dataset, candidate, "training")
    builds = make_builds(
        model, candidate, training, tuple(runs_with(spec)), folder, where, chosen=chosen
    )
    builds = score_builds(
        builds, spec, candidate, dataset, folder, splits, keep_predictions=keep_predictions
    )
    return model, {"builds": to_plain(builds), **told}


def fit(
    spec: RunSpec,
    candidate: Candidate,
    epochs: int,
    seconds: float | None,
    *,
    progress: Path,
    weights: Path | None,
    rung: int,
    repeat: int = 0,
    options: Mapping[str, Any] = MappingProxyType({}),
) -> tuple[Any, Trained]:
    """Train a candidate's net, from `weights` or anew; the Keras model and how it went.

    `options` are given to `train`.
    """
    import_tensorflow(whole=False)
    from tuner.train.build import build_keras, start_anew
    from tuner.train.loop import train

    dataset = open_data(spec.dataset)
    task = catalog.load_module("tasks", spec.task)
    seed = seed_of(spec.seed, candidate.id, repeat)
    start_anew(seed)
    training = labelled(dataset, candidate, "training")
    validation = labelled(dataset, candidate, "validation")

    until = options.get("span", (0.0, 1.0))[1]

    def note(epoch: Epoch) -> None:
        write_json(progress, to_plain(replace(epoch, planned=round(epoch.planned / until))))

    model = build_keras(candidate.architecture, dropout_seed=seed)
    settings = candidate.training
    frozen_share = min(1.0, settings.frozen_share / until)
    if weights is not None and settings.frozen_share < 1.0:
        frozen_share = 0.0  # the other layers have begun to learn
    set_weights(model, candidate, weights, training)
    trained = train(
        model,
        candidate,
        training,
        validation,
        epochs=epochs,
        seed=seed + rung,  # another rung has another order of images
        loss=task.loss(candidate.training, training.labels, task.outputs(spec.dataset)),
        seconds=seconds,
        frozen_share=frozen_share,
        on_epoch=note,
        **{"patience_share": PATIENCE_SHARE, **options},
    )
    return model, trained


def set_weights(
    model: Any, candidate: Candidate, weights: Path | None, training: LabelledImages
) -> None:
    """Put into a fresh Keras model what its training begins with.

    Args:
        model: of the candidate.
        candidate: may name trained weights to begin with.
        weights: of an earlier training of it, which come first.
        training: images that the candidate is trained on.
    """
    from tuner.train.backbones import begin_from, reestimate_statistics
    from tuner.train.weights import read_weights

    if weights is not None:
        read_weights(weights, model)
    elif candidate.training.weights:
        begin_from(model, candidate.architecture, candidate.training.weights)
        reestimate_statistics(model, training.images, candidate.preprocessing.scaling)


def score_on_test(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    builds: Mapping[str, Any],
) -> dict[str, Any]:
    """Score the builds of an `ok` candidate on the test set, once; plain accuracies.

    What was run on a part of the validation images, in a slow simulator, is left out.
    """
    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    dataset = open_data(spec.dataset)
    read = {key: from_plain(Build, plain, "build") for key, plain in builds.items()}
    whole = {key: build for key, build in read.items() if not build.paired}
    scored = score_builds(whole, spec, candidate, dataset, folder, ("test",), keep_predictions=True)
    return {key: to_plain(build.accuracy["test"]) for key, build in scored.items()}
