"""What is made of a trained model: its float32 and int8 files, run and scored."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.cost.lower import lower
from tuner.engine.images import labelled
from tuner.spec import (
    Build,
    Candidate,
    Paired,
    Precision,
    RunSpec,
    Split,
    builds_key,
)
from tuner.store.files import write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuner.data import Dataset
    from tuner.train.loop import LabelledImages

PRECISIONS: tuple[Precision, ...] = ("float32", "int8")

CALIBRATION_IMAGES = 200
"""Training images that int8 is calibrated with."""

CHOICE_IMAGES = 400
"""Other training images that a recipe for int8 is chosen by, at most."""

LEAST_CHOICE_IMAGES = 50
CHOICE_MACS = 20e9
"""Multiply-accumulates that the choice may take, for all recipes: fewer images for larger nets,
but never fewer than `LEAST_CHOICE_IMAGES`."""


def runs_with(spec: RunSpec) -> dict[tuple[str, str], Any]:
    """The runtimes that score the run's targets here, by what they run with."""
    found: dict[tuple[str, str], Any] = {}
    for target in spec.targets:
        runtime = catalog.load_module("runtimes", target.runtime)
        found.setdefault(runtime.RUN_WITH, runtime)
    return found


def make_builds(
    model: Any,
    candidate: Candidate,
    training: LabelledImages,
    runs_with: Sequence[tuple[str, str]],
    folder: Path,
    where: Path | None = None,
    *,
    chosen: bool = False,
) -> dict[str, Build]:
    """Convert a trained model to float32 and int8 TFLite files in `folder`.

    Args:
        model: Keras model.
        candidate: what it was made from.
        training: images to calibrate with.
        runs_with: runtime and kernels that score the builds.
        folder: of the candidate.
        where: the folder in it that gets the files, if not itself.
        chosen: choose the recipe for int8 among those of `tuner.train.recipes`, by other training
            images, in place of min-max, the converter's rule: seconds for a small net. The
            builds are then compared with float32 too.

    Returns:
        Builds by precision for the first of `runs_with`; by `builds_key` for the others.
    """
    from tuner.train.convert import convert_tflite

    float32 = convert_tflite(model, "float32")
    if chosen:
        int8, recipe, snr_db = _quantize_best(float32, candidate, training)
    else:
        int8, recipe = _quantize_min_max(float32, candidate, training)
        snr_db = ()
    return write_builds(float32, int8, recipe, snr_db, runs_with, folder, where)


def write_builds(
    float32: bytes,
    int8: bytes,
    recipe: str,
    snr_db: tuple[float, ...],
    runs_with: Sequence[tuple[str, str]],
    folder: Path,
    where: Path | None = None,
) -> dict[str, Build]:
    """Write two TFLite files; their Builds, not scored yet.

    Args:
        float32: content of a file.
        int8: content of the other.
        recipe: for int8, in words.
        snr_db: of the int8 file's operators; empty where it was not measured.
        runs_with: see `make_builds`, as for `folder`, `where` and what is returned.
        folder: of the candidate.
        where: the folder in it that gets the files.
    """
    builds: dict[str, Build] = {}
    for precision, content in zip(PRECISIONS, (float32, int8), strict=True):
        artifact = (where or folder) / f"{precision}.tflite"
        write_atomic(artifact, content)
        for index, (runtime, kernels) in enumerate(runs_with):
            key = precision if index == 0 else builds_key(precision, runtime, kernels)
            builds[key] = Build(
                runtime=runtime,
                kernels=kernels,
                precision=precision,
                recipe=recipe if precision == "int8" else "",
                artifact=artifact.relative_to(folder).as_posix(),
                size_bytes=len(content),
                accuracy={},
                snr_db=snr_db if precision == "int8" else (),
            )
    return builds


def run_build(
    build: Build, spec: RunSpec, candidate: Candidate, images: NDArray[np.uint8], folder: Path
) -> NDArray[np.float32]:
    """Logits, images x outputs, of a build in `folder`, with the runtime that it names.

    Args:
        build: what to run.
        spec: of the run.
        candidate: that was built.
        images: uint8, n x height x width x channels.
        folder: of the candidate.
    """
    import numpy as np

    from tuner.data.preprocess import scaled_chunks

    runtime = runs_with(spec)[build.runtime, build.kernels]
    content = (folder / build.artifact).read_bytes()
    return np.concatenate(
        [
            runtime.predict(content, build.precision, part)
            for part in scaled_chunks(images, candidate.preprocessing.scaling)
        ]
    )


def _quantize_min_max(
    float32: bytes, candidate: Candidate, training: LabelledImages
) -> tuple[bytes, str]:
    """The int8 file as TFLite's converter makes it, and the recipe in words."""
    from tuner.data.preprocess import evenly_spaced, scale
    from tuner.train.convert import INPUT_RANGES
    from tuner.train.quantize import quantize_min_max

    scaling = candidate.preprocessing.scaling
    rows = evenly_spaced(len(training.labels), CALIBRATION_IMAGES)
    calibration = scale(training.images[rows], scaling)
    int8 = quantize_min_max(float32, calibration, INPUT_RANGES[scaling])
    return int8, f"min-max over {len(rows)} training images"


def _quantize_best(
    float32: bytes, candidate: Candidate, training: LabelledImages
) -> tuple[bytes, str, tuple[float, ...]]:
    """The int8 file of the best recipe, the recipe in words, and signal-to-noise of each layer."""
    from tuner.data.preprocess import scale
    from tuner.data.stratify import stratified_rows
    from tuner.train.convert import INPUT_RANGES
    from tuner.train.quantize import quantize_best
    from tuner.train.recipes import RECIPES

    scaling = candidate.preprocessing.scaling
    possible = int(CHOICE_MACS / len(RECIPES) / max(1, lower(candidate.architecture).macs))
    count = min(CHOICE_IMAGES, max(LEAST_CHOICE_IMAGES, possible))
    rows, others = stratified_rows(training.labels, (CALIBRATION_IMAGES, count))
    # A single image calibrates, and there is nothing to choose by but itself.
    others = others if len(others) else rows
    best = quantize_best(
        float32,
        scale(training.images[rows], scaling),
        scale(training.images[others], scaling),
        INPUT_RANGES[scaling],
    )
    words = (
        f"{best.recipe.words} over {len(rows)} training images; the best of {len(RECIPES)} recipes "
        f"on {len(others)} others"
    )
    return best.content, words, best.snr_db


def score_builds(
    builds: Mapping[str, Build],
    spec: RunSpec,
    candidate: Candidate,
    dataset: Dataset,
    folder: Path,
    splits: Sequence[Split],
    *,
    keep_predictions: bool = False,
) -> dict[str, Build]:
    """Run builds on some splits, each with the runtime and kernels that it names.

    Args:
        builds: by key.
        spec: of the run.
        candidate: that was built.
        dataset: of the run.
        folder: of the candidate.
        splits: to run them on.
        keep_predictions: write what each image was taken for; see `tuner.engine.predictions`.

    Returns:
        The builds with the accuracies on these splits.
    """
    from tuner.engine.predictions import SplitPredictions, predictions_of, write_predictions

    task = catalog.load_module("tasks", spec.task)
    scored = dict(builds)
    for split in splits:
        data = labelled(dataset, candidate, split)
        predictions = {}
        right: dict[str, NDArray[np.bool_]] = {}
        for key, build in scored.items():
            logits = run_build(build, spec, candidate, data.images, folder)
            accuracy = task.score(logits, data.labels, task.outputs(spec.dataset))
            scored[key] = replace(build, accuracy={**build.accuracy, split: accuracy})
            predictions[key] = predictions_of(logits)
            right[key] = predictions[key].classes == data.labels
        for key, build in scored.items():
            exact = key.replace("int8", "float32", 1)
            if build.snr_db and exact in right:
                beside = {**build.beside_float32, split: pairs(right[key], right[exact])}
                scored[key] = replace(build, beside_float32=beside)
        if keep_predictions:
            write_predictions(
                folder, split, SplitPredictions(labels=data.labels, builds=predictions)
            )
    return scored


def pairs(right: NDArray[np.bool_], other: NDArray[np.bool_]) -> Paired:
    """Compare which images two builds classified correctly, booleans in the same order."""
    return Paired(
        images=len(right),
        gained=int((right & ~other).sum()),
        lost=int((other & ~right).sum()),
    )
