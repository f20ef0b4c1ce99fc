"""Exporters: files that run on the device. One file each; its stem is its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuner.spec import ModelVersion, Precision, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One exported file or folder.

    Args:
        path: relative to the export's folder.
        precision: of its weights and activations.
    """

    path: str
    precision: Precision


class Exporter(Protocol):
    """What a file of `tuner/exporters` offers: a module with these functions."""

    def export(self, model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
        """Write the artifacts of a model version into `folder`.

        Args:
            model: folder of the version, with `model.keras`, `float32.tflite`, `int8.tflite`.
            version: what `model.json` says.
            folder: where to write; empty but for what other exporters wrote.
        """

    def run(
        self, artifact: Path, precision: Precision, images: NDArray[np.float32], target: Target
    ) -> NDArray[np.float32]:
        """Run an exported artifact on scaled images; logits, images x outputs.

        Args:
            artifact: the file or folder.
            precision: of the artifact.
            images: images x height x width x channels, scaled as the net reads them.
            target: the device; its runtime runs what only it can run.
        """
