"""What a slot does with the best candidates: runtimes' own tools measure and simulate them."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.engine.builds import PRECISIONS, pairs
from tuner.engine.images import labelled, open_data
from tuner.errors import TuneError
from tuner.spec import (
    Accuracy,
    Build,
    Candidate,
    Precision,
    Quantity,
    RunSpec,
    Target,
    builds_key,
    from_plain,
    to_plain,
)
from tuner.store.files import read_json, write_atomic, write_json

if TYPE_CHECKING:
    from tuner.runtimes import CompiledModel

COMPILED_WITH_IMAGES = 100
"""Training images that a device's compiler quantizes by, evenly spaced."""

SIMULATED_IMAGES = 400
"""Validation images that a build is simulated on where no clock tells how many there is time for.
They are drawn at random by the run's seed, the same ones for all its candidates."""

SIMULATED_AT_LEAST = 100
"""With a clock, so many are simulated in any case."""

QUICKEST_SECONDS = 0.02
"""No simulator is expected to run an image in less: more images are not made ready for it than it
could run. The KPU's took .04 s and more."""


def can_measure(target: Target) -> bool:
    """Whether the target's runtime has a tool that measures; see `tuner.runtimes.Measures`."""
    return hasattr(catalog.load_module("runtimes", target.runtime), "measure")


def measure_builds(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    builds: Mapping[str, Any],
    names: Sequence[str],
    seconds: float | None,
) -> dict[str, Any]:
    """Let the runtimes' own tools measure a candidate, and simulate it where they can.

    Args:
        run: plain RunSpec.
        folder: the candidate's folder; what a compiler makes is written here.
        candidate_plain: plain Candidate.
        builds: plain Builds.
        names: the targets to measure it for.
        seconds: for each simulation; None for `SIMULATED_IMAGES`.

    Returns:
        `measured`, plain Quantities by target and name; `builds`, plain Builds that were
        simulated, by key; `unmeasured`, by target why a tool refused the candidate; and `missing`,
        which tools are not installed.
    """
    spec = from_plain(RunSpec, run, "run.json")
    models: dict[Precision, bytes] = {
        precision: (folder / builds[precision]["artifact"]).read_bytes() for precision in PRECISIONS
    }
    done: dict[tuple[object, ...], Mapping[str, Any]] = {}
    refused: dict[tuple[object, ...], str] = {}
    measured, simulated, missing, unmeasured = {}, {}, [], {}
    for target in spec.targets:
        if target.name not in names:
            continue
        runtime = catalog.load_module("runtimes", target.runtime)
        key = (target.runtime, *(getattr(target, name) for name in runtime.MEASURES_BY))
        if key not in done:
            try:
                if hasattr(runtime, "compile_model"):
                    quantities, build = _simulate(
                        spec, folder, candidate_plain, builds, target, seconds
                    )
                    own = builds_key("int8", target.runtime, target.kernels)
                    simulated[own] = to_plain(build)
                else:
                    quantities = runtime.measure(models, target)
                done[key] = {name: to_plain(quantity) for name, quantity in quantities.items()}
            except ImportError as error:
                done[key] = {}
                missing.append(f"Not measured for {target.runtime}: {error}")
            except TuneError as error:
                done[key] = {}
                refused[key] = f"Not measured for {target.runtime}: {error}"
        if done[key]:
            measured[target.name] = done[key]
        elif key in refused:
            unmeasured[target.name] = refused[key]
    return {
        "measured": measured,
        "builds": simulated,
        "unmeasured": unmeasured,
        "missing": missing,
    }


def _simulate(
    spec: RunSpec,
    folder: Path,
    candidate_plain: Mapping[str, Any],
    builds: Mapping[str, Any],
    target: Target,
    seconds: float | None,
) -> tuple[Mapping[str, Any], Build]:
    """Compile a candidate for a target and run it there beside its int8 build.

    Returns:
        What the compiler measured, and the Build, scored on a part of the validation images.
    """
    import numpy as np

    from tuner.data.preprocess import scaled_chunks

    runtime = catalog.load_module("runtimes", target.runtime)
    task = catalog.load_module("tasks", spec.task)
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    validation = labelled(open_data(spec.dataset), candidate, "validation")
    compiled, artifact = _compile(spec, folder, candidate, builds["float32"]["artifact"], target)
    possible = SIMULATED_IMAGES
    if seconds is not None:
        possible = max(SIMULATED_AT_LEAST, math.ceil(seconds / QUICKEST_SECONDS))
    rows = np.random.default_rng(spec.seed).permutation(len(validation.labels))[:possible]
    logits = runtime.simulate(
        compiled.content, validation.images[rows], seconds, SIMULATED_AT_LEAST
    )
    rows = rows[: len(logits)]
    images, labels = validation.images[rows], validation.labels[rows]
    beside = (folder / builds["int8"]["artifact"]).read_bytes()
    int8 = np.concatenate(
        [
            runtime.predict(beside, "int8", part)
            for part in scaled_chunks(images, candidate.preprocessing.scaling)
        ]
    )
    accuracy: Accuracy = task.score(logits, labels, task.outputs(spec.dataset))
    return compiled.measured, Build(
        runtime=target.runtime,
        kernels=target.kernels,
        precision="int8",
        recipe=compiled.recipe,
        artifact=artifact.relative_to(folder).as_posix(),
        size_bytes=len(compiled.content),
        accuracy={"validation": accuracy},
        paired={
            "validation": pairs(logits.argmax(axis=-1) == labels, int8.argmax(axis=-1) == labels)
        },
    )


def _compile(
    spec: RunSpec, folder: Path, candidate: Candidate, float32: str, target: Target
) -> tuple[CompiledModel, Path]:
    """Compile the float32 build for a target, or take what an earlier job compiled from it.

    Args:
        spec: of the run.
        folder: of the candidate.
        candidate: what was trained.
        float32: path of the build in the folder.
        target: the device.

    Returns:
        What was compiled, and its file.
    """
    from tuner.data.preprocess import evenly_spaced
    from tuner.runtimes import CompiledModel
    from tuner.train.convert import INPUT_RANGES

    runtime = catalog.load_module("runtimes", target.runtime)
    model = (folder / float32).read_bytes()
    record, digest = folder / f"{target.runtime}.json", hashlib.sha256(model).hexdigest()
    if record.exists():
        known = read_json(record)
        artifact = folder / f"{target.runtime}{known['suffix']}"
        if known["model_sha256"] == digest and artifact.exists():
            measured = {
                name: from_plain(Quantity, plain, str(record))
                for name, plain in known["measured"].items()
            }
            content = artifact.read_bytes()
            return CompiledModel(
                content=content,
                suffix=known["suffix"],
                recipe=known["recipe"],
                measured=measured,
            ), artifact
    training = labelled(open_data(spec.dataset), candidate, "training")
    rows = evenly_spaced(len(training.labels), COMPILED_WITH_IMAGES)
    compiled: CompiledModel = runtime.compile_model(
        model, training.images[rows], INPUT_RANGES[candidate.preprocessing.scaling]
    )
    artifact = folder / f"{target.runtime}{compiled.suffix}"
    write_atomic(artifact, compiled.content)
    write_json(
        record,
        {
            "model_sha256": digest,
            "suffix": compiled.suffix,
            "recipe": compiled.recipe,
            "measured": to_plain(compiled.measured),
        },
    )
    return compiled, artifact
