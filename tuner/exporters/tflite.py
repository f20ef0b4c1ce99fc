"""TFLite files, int8 and float32: the builds that were scored, byte for byte."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from tuner import catalog
from tuner.exporters import Artifact
from tuner.spec import FilePrecision, ModelVersion, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Copy the builds; see `Exporter`."""
    artifacts = []
    for build in version.builds.values():
        path = f"{version.name}_{build.precision}.tflite"
        shutil.copyfile(model / build.artifact, folder / path)
        artifacts.append(Artifact(path=path, precision=build.precision))
    return artifacts


def run(
    artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
) -> NDArray[np.float32]:
    """Run with the runtime that scored the build; see `Exporter`."""
    runtime = catalog.load_module("runtimes", target.runtime)
    logits: NDArray[np.float32] = runtime.predict(artifact.read_bytes(), precision, images)
    return logits
