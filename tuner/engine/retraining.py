"""What a slot does when a template is retrained: time some epochs, then train in full."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.cost.training import REFERENCE, train_seconds_per_image
from tuner.engine import jobs
from tuner.engine.builds import make_builds, run_build, runs_with, score_builds
from tuner.engine.images import labelled, open_data
from tuner.spec import (
    Build,
    Candidate,
    Metric,
    Retraining,
    RunSpec,
    ScoredEpoch,
    Split,
    from_plain,
    to_plain,
)
from tuner.store.models import CHECKPOINT
from tuner.train.quiet import import_tensorflow

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuner.train.loop import Trained

STOP = "stop"
COMPARED = "compared"
"""Folder of the builds of several epochs, in that of the version that is made."""
CONTENDERS = 3
"""So many of the best epochs, by the float32 model, are compared as int8 models, with the last."""
TIMED_EPOCHS = 4
"""At least; of small nets and few images, as many as fill the time."""
LEAST_TIMED_STEPS = 4
TIMED_SHARE, LARGEST_TIMED_SHARE = 0.08, 0.3
LEAST_TIMED_SECONDS, MOST_TIMED_SECONDS = 4.0, 12.0
"""Of the whole training at the reference rates, to tell how long it takes here. On a machine that
others share, epochs of .25 s took .17 to .34, slow and fast ones in groups of some seconds."""
MOST_EPOCHS = 100_000
"""Where the clock alone ends a training."""


def measure_pace(
    run: Mapping[str, Any],
    candidate_plain: Mapping[str, Any],
    epochs: int,
    threads: int,
    continued: bool,
) -> dict[str, float]:
    """Train a candidate for a moment, on a part of many images, to tell how long all will take.

    Args:
        run: plain RunSpec.
        candidate_plain: plain Candidate.
        epochs: that it will be trained for; a long training is timed for longer.
        threads: of it.
        continued: it trains a version's weights on, so that nothing but a whole body is frozen.

    Returns:
        `epoch_seconds` of an epoch on all images, and `start_seconds`, in which a graph is made.
    """
    import_tensorflow(whole=False)
    from tuner.train.build import build_keras, start_anew
    from tuner.train.loop import LabelledImages, train

    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "template")
    dataset = open_data(spec.dataset)
    task = catalog.load_module("tasks", spec.task)
    training = labelled(dataset, candidate, "training")
    validation = labelled(dataset, candidate, "validation")
    images = len(training.labels)
    batch = min(candidate.training.batch_size, images)
    steps = images // batch
    image = train_seconds_per_image(candidate.architecture, batch, REFERENCE)
    whole_seconds = epochs * steps * batch * image
    timed_seconds = min(LEAST_TIMED_SECONDS, LARGEST_TIMED_SHARE * whole_seconds)
    timed_seconds = min(max(timed_seconds, TIMED_SHARE * whole_seconds), MOST_TIMED_SECONDS)

    def timed(count: int, epochs: int, frozen_share: float) -> list[float]:
        """When each of the epochs of `count` steps ended, in seconds since the first began."""
        start_anew(0)
        few, held_out = (
            LabelledImages(images=split.images[:rows], labels=split.labels[:rows])
            for split, rows in (
                (training, count * batch),
                (validation, math.ceil(count / steps * len(validation.labels))),
            )
        )
        ends: list[float] = []
        train(
            build_keras(candidate.architecture),
            candidate,
            few,
            held_out,
            epochs=epochs,
            seed=0,
            loss=task.loss(candidate.training, training.labels, task.outputs(spec.dataset)),
            threads=threads,
            frozen_share=frozen_share,
            on_epoch=lambda epoch: ends.append(epoch.seconds),
        )
        return ends

    step = batch * image
    count = min(steps, max(LEAST_TIMED_STEPS, round(timed_seconds / TIMED_EPOCHS / step)))
    timed_epochs = max(TIMED_EPOCHS, round(timed_seconds / (count * step)))
    timed(1, 1, 0.0)  # TensorFlow's own start is not of a training that follows
    frozen = candidate.training.frozen_share
    if continued and frozen < 1.0:
        frozen = 0.0
    epoch_seconds = start_seconds = 0.0
    for kind, part in ((0.0, 1.0 - frozen), (1.0, frozen)):
        if part:
            ends = timed(count, 1 + timed_epochs, kind)
            # A loss that becomes infinite ends it early.
            pace = (ends[-1] - ends[0]) / (len(ends) - 1) if len(ends) > 1 else ends[0]
            epoch_seconds += part * pace * steps / count
            start_seconds += max(0.0, ends[0] - pace)
    return {"epoch_seconds": epoch_seconds, "start_seconds": start_seconds}


def retrain_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    retraining_plain: Mapping[str, Any],
    parent: Path | None,
) -> dict[str, Any]:
    """Train one candidate in full; builds are scored on validation and test.

    Which epoch was the best is decided by the int8 builds of some, on the validation images.
    Goes on from the checkpoint in `folder`, if there is one, and ends after an epoch when there is
    a file `stop`. Writes `model.keras` beside the builds. What another part is to follow, unless it
    was ended so, has no builds, and the weights of its last epoch.

    Args:
        run: plain RunSpec.
        folder: of the version that is made.
        candidate_plain: plain Candidate.
        retraining_plain: plain Retraining.
        parent: `model.keras` with the same architecture, to train on from.
    """
    import_tensorflow(whole=False)
    from tuner.train.flat import store

    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "template")
    retraining = from_plain(Retraining, retraining_plain, "retraining")
    splits: tuple[Split, ...] = (
        ("validation", "test") if spec.dataset.counts["test"] else ("validation",)
    )
    stop = folder / STOP
    options: dict[str, Any] = {
        "threads": retraining.threads,
        "metric": retraining.metric,
        "contenders": CONTENDERS,
        "steady_epochs": retraining.steady_epochs,
        "span": retraining.span,
        "unfrozen_from": retraining.unfrozen_from,
        "checkpoint": folder / CHECKPOINT,
        "stop": stop.exists,
    }
    if retraining.patience_share is not None:
        options.update(patience_share=retraining.patience_share, patience_waits=False)
    epochs, seconds = retraining.epochs, retraining.seconds
    if seconds is not None:  # as many epochs as the time allows
        settings = replace(candidate.training, epochs=MOST_EPOCHS)
        candidate = replace(candidate, training=settings)
    model, trained = jobs.fit(
        spec,
        candidate,
        epochs,
        seconds,
        progress=folder / jobs.PROGRESS,
        weights=parent,
        rung=retraining.seed_shift,
        options=options,
    )
    stopped = stop.exists()
    told = {
        "epochs": trained.epochs,
        "train_seconds": round(trained.seconds, 3),
        **curves(trained),
        "stopped": stopped,
    }
    if retraining.span[1] < 1.0 and not stopped:
        store(model, trained.last.weights)
        model.save(folder / "model.keras")
        return told
    scored = _scored_epochs(model, trained, spec, candidate, folder)
    best = _best([item.scored for item in scored.values()], retraining.metric)
    kept = scored[best.epoch if retraining.keep == "best" else trained.last.epoch]
    store(model, kept.weights)
    builds = {}
    for key, build in kept.builds.items():
        name = Path(build.artifact).name
        if (folder / build.artifact).exists():  # builds for several kernels share a file
            os.replace(folder / build.artifact, folder / name)
        builds[key] = replace(build, artifact=name)
    shutil.rmtree(folder / COMPARED)
    dataset = open_data(spec.dataset)
    builds = score_builds(builds, spec, candidate, dataset, folder, splits)
    model.save(folder / "model.keras")
    return {
        **told,
        "builds": to_plain(builds),
        "best_epoch": best.epoch,
        "scored": to_plain([scored[epoch].scored for epoch in sorted(scored)]),
    }


def curves(trained: Trained) -> dict[str, list[float]]:
    """Of a version: validation accuracy, training loss and validation loss of each epoch."""
    return {
        "curve": _rounded(trained.curve),
        "loss_curve": _rounded(trained.losses),
        "validation_loss_curve": _rounded(trained.validation_losses),
    }


@dataclass(frozen=True, slots=True)
class _Compared:
    """An epoch whose builds were made: how they did, and its weights."""

    scored: ScoredEpoch
    builds: dict[str, Build]
    weights: NDArray[np.float32]


def _scored_epochs(
    model: Any, trained: Trained, spec: RunSpec, candidate: Candidate, folder: Path
) -> dict[int, _Compared]:
    """The best epochs and the last one, by number, as their int8 builds do on validation images."""
    from tuner.train.flat import store

    dataset = open_data(spec.dataset)
    task = catalog.load_module("tasks", spec.task)
    training = labelled(dataset, candidate, "training")
    validation = labelled(dataset, candidate, "validation")
    shutil.rmtree(folder / COMPARED, ignore_errors=True)  # of a process that was killed
    compared = {}
    for item in (*trained.contenders, trained.last):
        if item.epoch in compared:
            continue
        store(model, item.weights)
        where = folder / COMPARED / str(item.epoch)
        builds = make_builds(
            model,
            candidate,
            training,
            tuple(runs_with(spec)),
            folder,
            where,
            chosen=True,
        )
        logits = run_build(builds["int8"], spec, candidate, validation.images, folder)
        accuracy = task.score(logits, validation.labels, task.outputs(spec.dataset)).value
        scored = ScoredEpoch(
            epoch=item.epoch,
            accuracy={"float32": trained.curve[item.epoch - 1], "int8": accuracy},
            loss={
                "float32": trained.validation_losses[item.epoch - 1],
                "int8": task.mean_loss(logits, validation.labels),
            },
        )
        compared[item.epoch] = _Compared(scored, builds, item.weights)
    return compared


def _best(scored: Sequence[ScoredEpoch], metric: Metric) -> ScoredEpoch:
    """The best as int8; of equal ones by the metric the better by the other, then the later."""

    def merit(item: ScoredEpoch) -> tuple[float, float, int]:
        accuracy, loss = item.accuracy["int8"], item.loss["int8"]
        first, second = (accuracy, -loss) if metric == "accuracy" else (-loss, accuracy)
        return first, second, item.epoch

    return max(scored, key=merit)


def _rounded(values: Sequence[float]) -> list[float]:
    return [round(value, 5) for value in values]
