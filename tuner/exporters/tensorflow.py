"""A TensorFlow SavedModel, float32, with the signature `serve`: images -> logits."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.exporters import Artifact
from tuner.runtimes.tool import package_tool
from tuner.spec import FilePrecision, ModelVersion, Target, Tool
from tuner.train.build import load_keras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def tools() -> tuple[Tool, ...]:
    """The package; edge-tuner requires it."""
    return (
        package_tool(
            "tensorflow",
            ["tensorflow"],
            "tensorflow is not installed: install edge-tuner again, which requires it.",
        ),
    )


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Write the SavedModel; see `Exporter`."""
    path = f"{version.name}_saved_model"
    load_keras(model / "model.keras").export(folder / path, verbose=False)
    return [Artifact(path=path, precision="float32")]


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Load the SavedModel without Keras and serve the images; see `Exporter`."""
    import numpy as np
    import tensorflow as tf

    loaded = tf.saved_model.load(str(artifact))
    return np.asarray(loaded.serve(tf.constant(images)), np.float32)
