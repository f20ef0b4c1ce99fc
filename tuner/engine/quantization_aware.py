"""The quantization-aware part of a retraining: a job for a process of its own.

tfmot needs another Keras than the rest, so the worker that does this job must be a fresh one, and
one that did it takes no other.
"""

from __future__ import annotations

import math
import traceback
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.engine.builds import score_builds, write_builds
from tuner.engine.images import labelled, open_data
from tuner.engine.jobs import PATIENCE_SHARE, set_weights
from tuner.engine.retraining import MOST_EPOCHS, STOP, curves
from tuner.spec import (
    Candidate,
    Retraining,
    RunSpec,
    ScoredEpoch,
    Split,
    from_plain,
    seed_of,
    to_plain,
)
from tuner.store.files import write_json
from tuner.store.models import CHECKPOINT

CANNOT = "cannot"
"""Why a net cannot be trained so, in place of an outcome."""


def train_quantization_aware(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    retraining_plain: Mapping[str, Any],
    weights: Path | None,
    before: tuple[int, float],
    progress: Path,
) -> dict[str, Any]:
    """Train so that the int8 file is as accurate as it can be; builds are scored as after float32.

    The float32 build, `model.keras` and the int8 build all have the weights that come out; the
    int8 build has the ranges that were learned with them. Goes on from the checkpoint in `folder`,
    if there is one, and ends after an epoch when there is a file `stop` in the folder above.

    Args:
        run: plain RunSpec.
        folder: gets the builds and `model.keras`; a folder in that of the version that is made.
        candidate_plain: plain Candidate.
        retraining_plain: plain Retraining of this part.
        weights: `model.keras` to train on from; None to begin anew.
        before: epochs and seconds of the float32 part, for the progress.
        progress: file that gets the newest epoch.

    Returns:
        What came of it; of a net that cannot be trained so nothing but the reason, `CANNOT`.
    """
    from tuner.train.quantization_aware import is_of_the_net

    try:
        return _train(run, folder, candidate_plain, retraining_plain, weights, before, progress)
    except Exception as error:
        if not is_of_the_net(error):
            raise
        traceback.print_exc()  # into the worker's log
        return {CANNOT: (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")}


def _train(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    retraining_plain: Mapping[str, Any],
    weights: Path | None,
    before: tuple[int, float],
    progress: Path,
) -> dict[str, Any]:
    from tuner.train.quantization_aware import QuantizationAwareNet, import_legacy_keras

    import_legacy_keras()
    from tuner.data.preprocess import scale
    from tuner.data.stratify import stratified_rows
    from tuner.train.build import build_keras, start_anew
    from tuner.train.convert import INPUT_RANGES, convert_tflite, convert_with_ranges
    from tuner.train.loop import Epoch, train
    from tuner.train.quantize import COMPARED_IMAGES, signal_to_noise

    spec = from_plain(RunSpec, run, "run.json")
    candidate = from_plain(Candidate, candidate_plain, "template")
    retraining = from_plain(Retraining, retraining_plain, "retraining")
    settings = candidate.training
    if retraining.seconds is not None:  # as many epochs as the time allows
        settings = replace(settings, epochs=MOST_EPOCHS)
    # Another order of images than that of the epochs before.
    seed = seed_of(spec.seed, candidate.id) + retraining.seed_shift + before[0]
    candidate = replace(candidate, training=settings)
    dataset = open_data(spec.dataset)
    task = catalog.load_module("tasks", spec.task)
    training = labelled(dataset, candidate, "training")
    start_anew(seed)
    model = build_keras(candidate.architecture, dropout_seed=seed)
    set_weights(model, candidate, weights, training)
    net = QuantizationAwareNet(candidate.architecture, model, settings, dropout_seed=seed)

    def note(epoch: Epoch) -> None:
        told = replace(
            epoch,
            number=before[0] + epoch.number,
            planned=before[0] + epoch.planned,
            seconds=before[1] + epoch.seconds,
        )
        write_json(progress, {**to_plain(told), "quantization_aware": True})

    trained = train(
        net,
        candidate,
        training,
        labelled(dataset, candidate, "validation"),
        epochs=retraining.epochs,
        seed=seed,
        loss=task.loss(settings, training.labels, task.outputs(spec.dataset)),
        seconds=retraining.seconds,
        patience_share=retraining.patience_share or PATIENCE_SHARE,
        patience_waits=retraining.patience_share is None,
        threads=retraining.threads,
        metric=retraining.metric,
        steady_epochs=retraining.steady_epochs,
        span=retraining.span,
        unfrozen_from=retraining.unfrozen_from,
        checkpoint=folder / CHECKPOINT,
        stop=(folder.parent / STOP).exists,
        on_epoch=note,
    )
    if retraining.keep == "last":
        net.store(trained.last.weights)
    net.give_weights(model)
    runtime = catalog.load_module("runtimes", spec.targets[0].runtime)
    float32 = convert_tflite(model, "float32")
    scaling, architecture = candidate.preprocessing.scaling, candidate.architecture
    ranges = net.ranges()
    int8 = convert_with_ranges(model, architecture, ranges, INPUT_RANGES[scaling])
    (rows,) = stratified_rows(training.labels, (COMPARED_IMAGES,))
    compared = scale(training.images[rows], scaling)
    logits = ranges.get(architecture.outputs[0], (-math.inf, math.inf))
    builds = write_builds(
        float32,
        int8,
        f"quantization-aware, {trained.epochs} epochs",
        signal_to_noise(float32, int8, compared, logits),
        (runtime.RUN_WITH,),
        folder,
    )
    splits: tuple[Split, ...] = (
        ("validation", "test") if spec.dataset.counts["test"] else ("validation",)
    )
    scored = score_builds(builds, spec, candidate, dataset, folder, splits)
    model.save(folder / "model.keras")
    return {
        "builds": to_plain(scored),
        "epochs": trained.epochs,
        "best_epoch": trained.best_epoch,
        "train_seconds": round(trained.seconds, 3),
        **curves(trained),
        # The net rounds as its int8 file does: its accuracy is near.
        "scored": [
            to_plain(
                ScoredEpoch(
                    epoch=epoch,
                    accuracy={"int8": trained.curve[epoch - 1]},
                    loss={"int8": trained.validation_losses[epoch - 1]},
                )
            )
            for epoch in sorted({trained.best_epoch, trained.last.epoch})
        ],
    }
