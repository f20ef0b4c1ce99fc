"""TFLite with activations of 16 bits and weights of 8, for nets that int8 costs too much accuracy.

The file has about the size of the int8 one; its activations take twice the RAM, and int16 kernels
are slower, by how much depends on the device and is not estimated here. Input and output are
int16: an image is `round(32767 * x)` of what the float32 file reads (`preprocessing.json`).
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from tuner import catalog
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.engine.builds import CALIBRATION_IMAGES
from tuner.engine.costs import cost_on
from tuner.errors import InputError
from tuner.exporters import Artifact
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import FilePrecision, ModelVersion, Target
from tuner.store.files import cache_folder, write_atomic

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Convert from the Keras model; see `Exporter`.

    Raises:
        InputError: the target's runtime has no such kernels, or the activations do not fit.
        TuneError: the converter, or the runtime, has an operator not with 16 bits.
    """
    target = version.template.target
    runtime = catalog.load_module("runtimes", target.runtime)
    if not getattr(runtime, "INT16_ACTIVATIONS", False):
        raise InputError(
            "Expected a target whose runtime has kernels for activations of 16 bits, such as tflm "
            f"or litert. Received: {target.name}, which runs {target.runtime}."
        )
    graph = lower(version.template.architecture)
    wide = tuple(replace(tensor, bytes=2 * tensor.bytes) for tensor in graph.tensors)
    cost = cost_on(replace(graph, tensors=wide), target)
    if ram := tuple(excess for excess in cost.over if excess.limit == "ram_bytes"):
        raise InputError(
            f"With activations of 16 bits '{version.name}' does not fit {target.name}: "
            f"{reasons(replace(cost, over=ram))}. Export it as int8, or select a candidate that "
            "takes less RAM."
        )
    from tuner.data import open_again
    from tuner.data.preprocess import scale
    from tuner.data.stratify import stratified_rows
    from tuner.train.build import load_keras
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    pixels = version.template.preprocessing
    dataset = open_again(version.dataset)
    training, labels = dataset.arrays(pixels, "training", cache_folder())
    (rows,) = stratified_rows(labels, (CALIBRATION_IMAGES,))
    content = convert_tflite(
        load_keras(model / "model.keras"),
        "int16x8",
        scale(training[rows], pixels.scaling),
        input_range=INPUT_RANGES[pixels.scaling],
    )
    if hasattr(runtime, "measure"):
        with suppress(ImportError):  # where the tool is, it says whether all operators are there
            runtime.measure({"int8": content}, target)
    path = f"{version.name}_int16x8.tflite"
    write_atomic(folder / path, content)
    return [Artifact(path=path, precision="int16x8", quantized_anew=True)]


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Run with LiteRT's built-in kernels; see `Exporter`."""
    return run_tflite(artifact.read_bytes(), precision, images, "builtin")
