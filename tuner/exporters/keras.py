"""A Keras file, float32, to go on with in Python."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.exporters import Artifact
from tuner.runtimes.tool import package_tool
from tuner.spec import FilePrecision, ModelVersion, Target, Tool
from tuner.train.build import load_keras, run_keras

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def tools() -> tuple[Tool, ...]:
    """The package; edge-tuner requires it."""
    return (
        package_tool(
            "keras",
            ["keras"],
            "keras is not installed: install edge-tuner again, which requires it.",
        ),
    )


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Copy the Keras file; see `Exporter`."""
    path = f"{version.name}.keras"
    shutil.copyfile(model / "model.keras", folder / path)
    return [Artifact(path=path, precision="float32")]


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Load the file and run it; see `Exporter`."""
    return run_keras(load_keras(artifact), images)
