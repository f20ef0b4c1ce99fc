"""What a slot does with the best candidates: runtimes' own tools measure and simulate them."""

from __future__ import annotations

import functools
import hashlib
import io
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.engine.builds import PRECISIONS, pairs
from tuner.engine.compiling import compile_nearest, made_by
from tuner.engine.images import labelled, open_data
from tuner.errors import MachineError, TuneError, full_disk
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
    import numpy as np
    from numpy.typing import NDArray

    from tuner.runtimes import CompiledModel

CAMERA = "camera.tflite"
"""The float32 net as exporters hand it to a device's compiler; see `tuner.train.camera`."""

BLOCK_IMAGES = 1000
"""Simulated at once; then what it gave is kept."""

LEAST_CORRELATION = 0.9
"""Between the logits of what was compiled and of its float32 model, means over images taken off.
nncase 2.11's kmodels of trained nets had .9998 and more, those that it computes wrongly .92 and
less (docs/costs/k230.md)."""


def can_measure(target: Target) -> bool:
    """Whether the target's runtime has a tool that measures; see `tuner.runtimes.Measures`."""
    return hasattr(catalog.load_module("runtimes", target.runtime), "measure")


def simulates(target: Target) -> bool:
    """Whether the target's runtime compiles and simulates; see `tuner.runtimes.Simulates`."""
    return hasattr(catalog.load_module("runtimes", target.runtime), "compile_model")


def simulators_ready(targets: Iterable[Target]) -> bool:
    """Whether finalists will be simulated for one of the targets on this machine."""
    return any(_simulator_ready(target.runtime) for target in targets)


@functools.cache
def _simulator_ready(name: str) -> bool:
    """Asked once: plans ask thousands of times, and looking for tools reads folders."""
    runtime = catalog.load_module("runtimes", name)
    tools = runtime.tools() if hasattr(runtime, "tools") else ()
    return hasattr(runtime, "compile_model") and all(tool.ready for tool in tools)


def write_camera_model(model: Any, spec: RunSpec, folder: Path) -> None:
    """Write what the compilers of a run's targets take of a trained net, if one has a compiler.

    Args:
        model: Keras model.
        spec: of the run.
        folder: of the candidate.
    """
    if any(map(simulates, spec.targets)):
        from tuner.train.camera import camera_model
        from tuner.train.convert import convert_tflite

        write_atomic(folder / CAMERA, convert_tflite(camera_model(model), "float32"))


def measure_builds(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    builds: Mapping[str, Any],
    names: Sequence[str],
    images: int | None,
    seconds: float | None,
    processes: int = 1,
) -> dict[str, Any]:
    """Let the runtimes' own tools measure a candidate, and simulate it where they can.

    Args:
        run: plain RunSpec.
        folder: the candidate's folder; what a compiler makes is written here.
        candidate_plain: plain Candidate.
        builds: plain Builds.
        names: the targets to measure it for.
        images: of validation to simulate it on, drawn at random by the run's seed, the same ones
            for all its candidates; None for all.
        seconds: after so many, images are left out; None for no limit. What was simulated before
            is not simulated again.
        processes: of a simulator that run at once.

    Returns:
        `measured`, plain Quantities by target and name; `builds`, plain Builds that were
        simulated, by key; `unmeasured`, by target why a tool refused the candidate; and
        `prevented`, what on this machine kept tools from working: one is not installed, the disk is
        full.
    """
    spec = from_plain(RunSpec, run, "run.json")
    models: dict[Precision, bytes] = {
        precision: (folder / builds[precision]["artifact"]).read_bytes() for precision in PRECISIONS
    }
    done: dict[tuple[object, ...], Mapping[str, Any]] = {}
    refused: dict[tuple[object, ...], str] = {}
    measured, simulated, prevented, unmeasured = {}, {}, [], {}
    for target in spec.targets:
        if target.name not in names:
            continue
        runtime = catalog.load_module("runtimes", target.runtime)
        key = (target.runtime, *(getattr(target, name) for name in runtime.MEASURES_BY))
        if key not in done:
            try:
                if hasattr(runtime, "compile_model"):
                    quantities, build = _simulate(
                        spec, folder, candidate_plain, builds, target, images, seconds, processes
                    )
                    own = builds_key("int8", target.runtime, target.kernels)
                    simulated[own] = to_plain(build)
                else:
                    quantities = runtime.measure(models, target)
                done[key] = {name: to_plain(quantity) for name, quantity in quantities.items()}
            except ImportError as error:
                done[key] = {}
                prevented.append(f"Not measured for {target.runtime}: {error}")
            except (TuneError, OSError, MemoryError) as error:
                done[key] = {}
                if _is_of_machine(error):
                    prevented.append(
                        f"Not measured for {target.runtime}: {_said_of_machine(error)} Until 'tune "
                        "resume' asks again, candidates keep their int8 accuracy and estimated "
                        "costs."
                    )
                else:
                    refused[key] = f"Not measured for {target.runtime}: {error}"
        if done[key]:
            measured[target.name] = done[key]
        elif key in refused:
            unmeasured[target.name] = refused[key]
    return {
        "measured": measured,
        "builds": simulated,
        "unmeasured": unmeasured,
        "prevented": prevented,
    }


def _is_of_machine(error: TuneError | OSError | MemoryError) -> bool:
    """Whether the same may work later; a tool may call a full disk a refusal of the model."""
    refused = isinstance(error, TuneError) and not isinstance(error, MachineError)
    return not refused or bool(full_disk(error))


def _said_of_machine(error: TuneError | OSError | MemoryError) -> str:
    """The same for each candidate: without the names of its files."""
    if isinstance(error, MachineError):
        return str(error)
    if isinstance(error, TuneError):
        return "the disk is full, as its tool says."
    if isinstance(error, OSError):
        return f"{error.strerror or error}, on reading or writing files of the run."
    return "a worker of this machine got no more memory."


def _simulate(
    spec: RunSpec,
    folder: Path,
    candidate_plain: Mapping[str, Any],
    builds: Mapping[str, Any],
    target: Target,
    images: int | None,
    seconds: float | None,
    processes: int,
) -> tuple[Mapping[str, Any], Build]:
    """Compile a candidate for a target and run it there beside its float32 and int8 builds.

    Returns:
        What the compiler measured, and the Build, scored on validation images.

    Raises:
        ImportError: the compiler is not installed.
        MachineError: the disk is full, or the like.
        TuneError: it refuses the model, or made something else of it.
    """
    import numpy as np

    from tuner.data.preprocess import scaled_chunks
    from tuner.train.camera import both_logits, in_colour

    runtime = catalog.load_module("runtimes", target.runtime)
    task = catalog.load_module("tasks", spec.task)
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    validation = labelled(open_data(spec.dataset), candidate, "validation")
    compiled, artifact = _compile(spec, folder, candidate, target)
    rows = np.random.default_rng(spec.seed).permutation(len(validation.labels))[:images]
    kept = _logits_of(artifact)
    given = _run(runtime, compiled.content, validation.images, rows, kept, seconds, processes)
    rows = rows[: len(given)]
    labels = validation.labels[rows]

    def beside(path: str, precision: Precision) -> NDArray[np.float32]:
        model, logits = (folder / path).read_bytes(), []
        for start in range(0, len(rows), BLOCK_IMAGES):
            part = validation.images[rows[start : start + BLOCK_IMAGES]]
            for scaled in scaled_chunks(
                in_colour(part) if path == CAMERA else part, candidate.preprocessing.scaling
            ):
                logits.append(runtime.predict(model, precision, scaled))
        return np.concatenate(logits)

    float32 = beside(CAMERA, "float32")
    _check_same(given, float32)
    logits = both_logits(given)
    accuracy: Accuracy = task.score(logits, labels, task.outputs(spec.dataset))
    right, exact, int8 = (
        found.argmax(axis=-1) == labels
        for found in (logits, both_logits(float32), beside(builds["int8"]["artifact"], "int8"))
    )
    return compiled.measured, Build(
        runtime=target.runtime,
        kernels=target.kernels,
        precision="int8",
        recipe=compiled.recipe,
        artifact=artifact.relative_to(folder).as_posix(),
        size_bytes=len(compiled.content),
        accuracy={"validation": accuracy},
        paired={"validation": pairs(right, int8)},
        beside_float32={"validation": pairs(right, exact)},
    )


def _run(
    runtime: Any,
    content: bytes,
    images: NDArray[np.uint8],
    rows: NDArray[np.int64],
    kept: Path,
    seconds: float | None,
    processes: int,
) -> NDArray[np.float32]:
    """Logits of a compiled model on these rows, as many of the first as there is time for.

    Those that an earlier job computed are taken from `kept`, and new ones added to it.
    """
    import numpy as np

    from tuner.train.camera import in_colour

    known = [np.load(kept)[: len(rows)]] if kept.exists() else []
    until = None if seconds is None else time.monotonic() + seconds
    while (count := sum(map(len, known))) < len(rows):
        left = None if until is None else until - time.monotonic()
        if count and left is not None and left <= 0:
            break
        part = in_colour(images[rows[count : count + BLOCK_IMAGES]])
        known.append(runtime.simulate(content, part, left, 1, processes))
        buffer = io.BytesIO()
        np.save(buffer, np.concatenate(known))
        write_atomic(kept, buffer.getvalue())
    return np.concatenate(known)


def _logits_of(artifact: Path) -> Path:
    """The file of what a compiled model said of the images that it was simulated on."""
    return artifact.with_name(f"{artifact.name}.npy")


def _check_same(given: NDArray[np.float32], float32: NDArray[np.float32]) -> None:
    """Compare a compiled model with its float32 model, by logits on the same images.

    Raises:
        TuneError: it computes something else.
    """
    import numpy as np

    own, exact = (logits - logits.mean(axis=0) for logits in (given, float32))
    size = float(np.linalg.norm(own) * np.linalg.norm(exact))
    correlation = float((own * exact).sum()) / size if size else float(not exact.any())
    if not correlation >= LEAST_CORRELATION:  # nor if a logit is no number
        raise TuneError(
            "what it was compiled to computes something else than its float32 model: expected "
            f"logits that correlate with the model's by {LEAST_CORRELATION} or more on "
            f"{len(given)} validation images. Received: {correlation:.2f}."
        )


def _compile(
    spec: RunSpec, folder: Path, candidate: Candidate, target: Target
) -> tuple[CompiledModel, Path]:
    """Compile a candidate's net for a target, or take what an earlier job compiled from it.

    What another version of the compiler made, or one with other settings, is compiled again.

    Args:
        spec: of the run.
        folder: of the candidate.
        candidate: what was trained.
        target: the device.

    Returns:
        What was compiled, and its file.
    """
    from tuner.runtimes import CompiledModel

    runtime = catalog.load_module("runtimes", target.runtime)
    if not (folder / CAMERA).exists():
        raise TuneError(
            f"Expected {CAMERA} among the candidate's files. Received: none, as in runs of earlier "
            "versions; a new run writes it."
        )
    model = (folder / CAMERA).read_bytes()
    training = labelled(open_data(spec.dataset), candidate, "training")
    record, digest = folder / f"{target.runtime}.json", hashlib.sha256(model).hexdigest()
    made_of = {"model_sha256": digest, **made_by(runtime, len(training.labels))}
    if record.exists():
        known = read_json(record)
        artifact = folder / f"{target.runtime}{known['suffix']}"
        if known.get("made_of") == made_of and artifact.exists():
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
    scaling = candidate.preprocessing.scaling
    compilation = compile_nearest(runtime, model, training.images, scaling)
    compiled = compilation.compiled
    artifact = folder / f"{target.runtime}{compiled.suffix}"
    _logits_of(artifact).unlink(missing_ok=True)
    write_atomic(artifact, compiled.content)
    write_json(
        record,
        {
            "made_of": made_of,
            "recipe": compiled.recipe,
            "reason": compilation.reason,
            "suffix": compiled.suffix,
            "measured": to_plain(compiled.measured),
        },
    )
    return compiled, artifact
