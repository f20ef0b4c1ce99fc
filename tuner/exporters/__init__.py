"""Exporters: files that run on the device. One file each; its stem is its name."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

from tuner.spec import FilePrecision, ModelVersion, Paired, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True, kw_only=True)
class Artifact:
    """One exported file or folder.

    Args:
        path: relative to the export's folder.
        precision: of its weights and activations.
        quantized_anew: from the float32 model, by the device's own compiler: its numbers are not
            those of the model version's builds.
    """

    path: str
    precision: FilePrecision
    quantized_anew: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Check:
    """What running one artifact gave.

    Args:
        file: path relative to the export's folder.
        format: the exporter's name.
        precision: `int8` or `float32`.
        size_bytes: of the file or folder.
        split: the held-out data it was run on.
        images: how many.
        correct: of them classified correctly.
        expected_correct: how many the model version recorded for this precision; for an artifact
            that was quantized anew, how many its float32 Keras model has of the same images.
        agreement: share of the first images with the same class as the float32 Keras model.
        max_difference: largest difference to the Keras model's logits on those images.
        passed: for float32, logits agree with the Keras model's within the tolerance; for int8,
            as many images are correct as the model version recorded; quantized anew, not more
            than the allowed share fewer are correct than by the Keras model, beyond chance.
        beside_float32: of an artifact that was quantized anew, how it did beside that model.
    """

    file: str
    format: str
    precision: str
    size_bytes: int
    split: str
    images: int
    correct: int
    expected_correct: int
    agreement: float
    max_difference: float
    passed: bool
    beside_float32: Paired | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Shown:
    """Held-out images and what an artifact said of them.

    Args:
        images: images x height x width x channels, as the net reads them, 0 to 255.
        labels: the true classes.
        logits: images x outputs.
    """

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    logits: NDArray[np.float32]


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
        self, artifact: Path, precision: FilePrecision, images: NDArray[np.float32], target: Target
    ) -> NDArray[np.float32]:
        """Run an exported artifact on scaled images; logits, images x outputs.

        Args:
            artifact: the file or folder.
            precision: of the artifact.
            images: images x height x width x channels, scaled as the net reads them.
            target: the device; its runtime runs what only it can run.
        """


class Documents(Protocol):
    """What an exporter may offer beside: a guide with what the checks gave."""

    def document(self, folder: Path, version: ModelVersion, check: Check, shown: Shown) -> None:
        """Write what a user reads beside an artifact, once it was run.

        Args:
            folder: of the export.
            version: what was exported.
            check: of the artifact.
            shown: what it was run on.
        """
