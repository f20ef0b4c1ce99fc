"""What a slot does when a template is retrained: time an epoch, then train in full."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.cost.training import train_seconds_per_image
from tuner.engine import jobs
from tuner.spec import Candidate, Retraining, RunSpec, Split, Throughput, from_plain
from tuner.store.models import CHECKPOINT
from tuner.train.quiet import import_tensorflow

STOP = "stop"
TIMED_SECONDS, TIMED_EPOCHS = 0.5, 4
"""Of training at the reference rates, to tell how long an epoch takes here."""
REFERENCE = Throughput(compute_ratio=1.0, memory_ratio=1.0, overhead_ratio=1.0)
MOST_EPOCHS = 100_000
"""Where the clock alone ends a training."""


def measure_epoch(
    run: Mapping[str, Any], candidate_plain: Mapping[str, Any], threads: int
) -> dict[str, float]:
    """Train a candidate on a part of the images for a moment; the `seconds` of a whole epoch."""
    import_tensorflow()
    import numpy as np

    from tuner.train.build import build_keras, start_anew
    from tuner.train.loop import LabelledImages, train

    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "template")
    batch = candidate.training.batch_size
    dataset = jobs.open_data(spec.dataset)
    task = catalog.load_module("tasks", spec.task)
    training = jobs.labelled(dataset, candidate, "training")
    validation = jobs.labelled(dataset, candidate, "validation")
    image = train_seconds_per_image(candidate.architecture, batch, REFERENCE)
    share = min(1.0, max(4 * batch, TIMED_SECONDS / image) / len(training.labels))
    few, held_out = (
        LabelledImages(images=split.images[:count], labels=split.labels[:count])
        for split in (training, validation)
        for count in [math.ceil(share * len(split.labels))]
    )
    start_anew(0)
    ends: list[float] = []
    train(
        build_keras(candidate.architecture),
        candidate,
        few,
        held_out,
        epochs=TIMED_EPOCHS,
        seed=0,
        loss=task.loss(candidate.training, training.labels, task.outputs(spec.dataset)),
        threads=threads,
        on_epoch=lambda epoch: ends.append(epoch.seconds),
    )
    # The first epoch also traces the graph.
    return {"seconds": float(np.median(np.diff(ends))) / share}


def retrain_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    retraining_plain: Mapping[str, Any],
    parent: Path | None,
) -> dict[str, Any]:
    """Train one candidate in full; builds are scored on validation and test.

    Goes on from the checkpoint in `folder`, if there is one, and ends after an epoch when there is
    a file `stop`. Writes `model.keras` beside the builds.

    Args:
        run: plain RunSpec.
        folder: of the version that is made.
        candidate_plain: plain Candidate.
        retraining_plain: plain Retraining.
        parent: `model.keras` of a version with the same architecture, to train on from.
    """
    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "template")
    retraining = from_plain(Retraining, retraining_plain, "retraining")
    splits: tuple[Split, ...] = (
        ("validation", "test") if spec.dataset.counts["test"] else ("validation",)
    )
    stop = folder / STOP
    options: dict[str, Any] = {
        "threads": retraining.threads,
        "keep": retraining.keep,
        "checkpoint": folder / CHECKPOINT,
        "stop": stop.exists,
    }
    if retraining.patience_share is not None:
        options.update(patience_share=retraining.patience_share, patience_waits=False)
    epochs, seconds = retraining.epochs, retraining.seconds
    if seconds is not None:  # as many epochs as the time allows
        settings = replace(candidate.training, epochs=MOST_EPOCHS)
        candidate = replace(candidate, training=settings)
    model, fields = jobs.train_and_score(
        spec,
        folder,
        candidate,
        epochs,
        seconds,
        splits,
        weights=parent,
        rung=retraining.seed_shift,
        options=options,
    )
    model.save(folder / "model.keras")
    return {**fields, "stopped": stop.exists()}
