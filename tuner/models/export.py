"""Export a model version; every artifact is run before it is handed over."""

from __future__ import annotations

import os
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.errors import InputError
from tuner.exporters import Artifact
from tuner.spec import ModelVersion, Split, to_plain
from tuner.store.events import now
from tuner.store.files import cache_folder, write_json
from tuner.store.models import ModelFolder

COMPARED_IMAGES = 256
FLOAT_TOLERANCE = 1e-3
"""Largest difference of float32 logits, relative to the largest logit."""


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
        expected_correct: how many the model version recorded for this precision.
        agreement: share of the first images with the same class as the float32 Keras model.
        max_difference: largest difference to the Keras model's logits on those images.
        passed: for float32, logits agree with the Keras model's within the tolerance; for int8,
            as many images are correct as the model version recorded.
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


def export(model: ModelFolder, formats: Sequence[str], output: Path | None) -> Path:
    """Export a model version and write `export_report.json` beside the files.

    Args:
        model: the version.
        formats: names of exporters.
        output: a folder that does not exist yet or is empty; None for
            `exports/NAME-VERSION` in the current folder.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds something, or a format is unknown.
    """
    version = model.read()
    exporters = {name: catalog.load_module("exporters", name) for name in dict.fromkeys(formats)}
    folder = output or Path("exports") / f"{version.name}-{version.version}"
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder} is not empty; choose another folder with -o, or remove it.")
    held_out = _HeldOut(model, version)
    whole = folder.resolve()
    temporary = whole.parent / f".{whole.name}-{os.getpid()}"
    shutil.rmtree(temporary, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        checks = []
        for name, exporter in exporters.items():
            for artifact in exporter.export(model.path, version, temporary):
                checks.append(held_out.check(exporter, name, artifact, temporary))
        _write_beside(version, temporary)
        write_json(
            temporary / "export_report.json",
            {
                "model": version.name,
                "version": version.version,
                "target": version.template.target.name,
                "passed": all(check.passed for check in checks),
                "created": now(),
                "artifacts": [to_plain(check) for check in checks],
            },
        )
        folder.mkdir(parents=True, exist_ok=True)
        for item in temporary.iterdir():
            os.replace(item, folder / item.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    return folder


class _HeldOut:
    """Held-out images and what the model says of them."""

    def __init__(self, model: ModelFolder, version: ModelVersion) -> None:
        import numpy as np

        from tuner.data import open_dataset
        from tuner.data.preprocess import scaled_chunks
        from tuner.train.build import load_keras, run_keras

        dataset = open_dataset(
            version.dataset.source,
            split_seed=version.dataset.split_seed,
            cache=cache_folder(),
            group_by=version.dataset.group_by,
        )
        if dataset.spec.fingerprint != version.dataset.fingerprint:
            raise InputError(
                f"The data at {version.dataset.source} changed since {version.name}@"
                f"{version.version} was trained, so its export cannot be checked. "
                "Retrain on the new data, or put the old data back."
            )
        self._split: Split = "test" if dataset.spec.counts["test"] else "validation"
        pixels = version.template.preprocessing
        self._images, self._labels = dataset.arrays(pixels, self._split, cache_folder())
        self._scaling = pixels.scaling
        self._version = version
        keras_model = load_keras(model.path / "model.keras")
        self._logits = np.concatenate(
            [
                run_keras(keras_model, images)
                for images in scaled_chunks(self._images[:COMPARED_IMAGES], self._scaling)
            ]
        )

    def check(self, exporter: Any, name: str, artifact: Artifact, folder: Path) -> Check:
        """Run one artifact on all held-out images."""
        import numpy as np

        from tuner.data.preprocess import scaled_chunks

        path = folder / artifact.path
        target = self._version.template.target
        logits = np.concatenate(
            [
                exporter.run(path, artifact.precision, images, target)
                for images in scaled_chunks(self._images, self._scaling)
            ]
        )
        classes = logits.argmax(axis=-1)
        correct = int((classes == self._labels).sum())
        expected = self._version.builds[artifact.precision].accuracy[self._split].correct
        compared = logits[:COMPARED_IMAGES]
        difference = float(np.abs(compared - self._logits).max())
        if artifact.precision == "float32":
            passed = difference <= FLOAT_TOLERANCE * max(1.0, float(np.abs(self._logits).max()))
        else:
            passed = correct == expected
        return Check(
            file=artifact.path,
            format=name,
            precision=artifact.precision,
            size_bytes=_size_bytes(path),
            split=self._split,
            images=len(self._labels),
            correct=correct,
            expected_correct=expected,
            agreement=float((compared.argmax(axis=-1) == self._logits.argmax(axis=-1)).mean()),
            max_difference=difference,
            passed=passed,
        )


def _write_beside(version: ModelVersion, folder: Path) -> None:
    """Labels and preprocessing: what a device needs to know beside the file."""
    from tuner.data.preprocess import preprocessing_document

    (folder / "labels.txt").write_text("\n".join(version.dataset.classes) + "\n", encoding="utf-8")
    write_json(
        folder / "preprocessing.json",
        preprocessing_document(version.template.preprocessing, version.dataset.classes),
    )


def _size_bytes(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(item.stat().st_size for item in path.rglob("*") if item.is_file())
