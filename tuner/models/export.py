"""Export a model version; every artifact is run before it is handed over."""

from __future__ import annotations

import math
import os
import shutil
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

from tuner import catalog
from tuner.catalog import failed_at
from tuner.errors import DataError, InputError, TuneError
from tuner.exporters import Artifact, Check, Shown
from tuner.spec import DatasetSpec, ModelVersion, Paired, Split, to_plain
from tuner.store.events import now
from tuner.store.files import cache_folder, read_json, write_json
from tuner.store.models import ModelFolder

COMPARED_IMAGES = 256
FLOAT_TOLERANCE = 1e-3
"""Largest difference of float32 logits, relative to the largest logit."""


QUANTIZED_ANEW_IMAGES = 400
"""So many held-out images, evenly spaced, run through what a device's compiler quantized; its
simulator takes .04 s and more for each."""

ALLOWED_DROP = 0.02
"""Of the images: so many fewer may be correct after quantization, beside two standard errors of the
pairs that differ."""


def export(
    model: ModelFolder, formats: Sequence[str], output: Path | None, data: str | None = None
) -> Path:
    """Export a model version and write `export_report.json` beside the files.

    Args:
        model: the version.
        formats: names of exporters.
        output: a folder that does not exist yet or is empty; None for
            `exports/NAME-VERSION` in the current folder.
        data: where the data that it was trained on lies now; None for where it was.

    Returns:
        The folder.

    Raises:
        InputError: the folder holds something, a format is unknown, or the data is another.
        DataError: the data is gone.
        TuneError: an exporter raises; names it and the line of its file.
    """
    version = model.read()
    exporters = {name: catalog.load_exporter(name) for name in dict.fromkeys(formats)}
    folder = output or Path("exports") / f"{version.name}-{version.version}"
    left = f".{folder.resolve().name}-"  # an export that was killed leaves it
    if folder.exists() and not (
        folder.is_dir() and all(path.name.startswith(left) for path in folder.iterdir())
    ):
        raise InputError(f"{folder} is not empty; choose another folder with -o, or remove it.")
    if data is not None:
        version = replace(version, dataset=_at(version.dataset, data))
    held_out = _HeldOut(model, version)
    whole = folder.resolve()
    # A folder that is there may be a file system of its own, into which nothing can be renamed.
    temporary = (whole if whole.exists() else whole.parent) / f"{left}{os.getpid()}"
    for old in (temporary, *(whole.iterdir() if whole.exists() else ())):
        shutil.rmtree(old, ignore_errors=True)
    temporary.mkdir(parents=True)
    try:
        checks = []
        for name, exporter in exporters.items():
            with _named(name, exporter):
                artifacts = list(exporter.export(model.path, version, temporary))
            for artifact in artifacts:
                check, shown = held_out.check(exporter, name, artifact, temporary)
                checks.append(check)
                if hasattr(exporter, "document"):
                    with _named(name, exporter):
                        exporter.document(temporary, version, check, shown)
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


def _at(spec: DatasetSpec, data: str) -> DatasetSpec:
    """The same data in another place."""
    from tuner.data.source import SAMPLE_PREFIX, absolute

    return replace(spec, source=data if data.startswith(SAMPLE_PREFIX) else str(absolute(data)))


def check_passed(folder: Path) -> None:
    """Read the report of an export.

    Raises:
        TuneError: an artifact does not do what the model does.
    """
    report = folder / "export_report.json"
    if not read_json(report)["passed"]:
        raise TuneError(f"A check failed; see {report}. Do not deploy it.")


@contextmanager
def _named(name: str, exporter: ModuleType, runs: str = "") -> Iterator[None]:
    """Say which exporter an error comes from, where in its file, and what it `runs`."""
    path = Path(str(exporter.__file__))
    try:
        yield
    except TuneError as error:
        # Of other kinds are a tool that is missing or a full disk, which no exporter is to blame
        # for.
        if not runs or type(error) is not TuneError:
            raise
        raise TuneError(
            f"The exporter '{name}' ({path}) wrote {runs}, which cannot be run: {error}"
        ) from error
    except Exception as error:
        raise TuneError(
            f"{failed_at('exporter', name, path, error)} Nothing was written; --debug shows it all."
        ) from error


class _HeldOut:
    """Held-out images and what the model says of them."""

    def __init__(self, model: ModelFolder, version: ModelVersion) -> None:
        from tuner.data import is_gone, open_again
        from tuner.train.build import load_keras

        source = version.dataset.source
        if is_gone(version.dataset):
            raise DataError(
                f"Expected the data that {model.reference} was trained on at {source}, to check "
                "the export on its images. There is nothing. Say where it lies now: --data PATH."
            )
        dataset = open_again(version.dataset)
        if dataset.spec.fingerprint != version.dataset.fingerprint:
            raise InputError(
                f"The data at {source} is not, or no longer, what {model.reference} was trained "
                "on, so its export cannot be checked. Retrain on the new data, put the old data "
                "back, or say where it lies: --data PATH."
            )
        self._split: Split = "test" if dataset.spec.counts["test"] else "validation"
        pixels = version.template.preprocessing
        self._images, self._labels = dataset.arrays(pixels, self._split, cache_folder())
        self._scaling = pixels.scaling
        self._version = version
        self._keras = load_keras(model.path / "model.keras")

    def check(
        self, exporter: Any, name: str, artifact: Artifact, folder: Path
    ) -> tuple[Check, Shown]:
        """Run one artifact on held-out images: all of them, or a part if it takes long."""
        import numpy as np

        from tuner.data.preprocess import evenly_spaced, scaled_chunks
        from tuner.train.build import run_keras

        path = folder / artifact.path
        if not path.exists():
            raise TuneError(
                f"Expected the exporter '{name}' to write {artifact.path}, as it says. "
                "There is no such file."
            )
        target = self._version.template.target
        anew = artifact.quantized_anew
        if not anew and artifact.precision not in self._version.builds:
            raise TuneError(
                f"The exporter '{name}' ({exporter.__file__}): expected quantized_anew=True of "
                f"{artifact.path}, as {self._version.name} has no build of {artifact.precision}. "
                "Nothing was written."
            )
        count = len(self._labels)
        rows = evenly_spaced(count, QUANTIZED_ANEW_IMAGES if anew else count)
        images, labels = self._images[rows], self._labels[rows]
        parts = []
        for scaled in scaled_chunks(images, self._scaling):
            with _named(name, exporter, runs=artifact.path):
                part = np.asarray(exporter.run(path, artifact.precision, scaled, target))
            # Any other shape could broadcast, and pass.
            expected_shape = (len(scaled), len(self._version.dataset.classes))
            if part.shape != expected_shape:
                raise TuneError(
                    f"The exporter '{name}' ({exporter.__file__}): run returned {part.shape}, "
                    f"expected {expected_shape}: logits, images x classes. Nothing was written."
                )
            parts.append(part)
        logits = np.concatenate(parts)
        compared = images if anew else images[:COMPARED_IMAGES]
        keras = np.concatenate(
            [run_keras(self._keras, part) for part in scaled_chunks(compared, self._scaling)]
        )
        right = logits.argmax(axis=-1) == labels
        correct = int(right.sum())
        same_class = logits[: len(keras)].argmax(axis=-1) == keras.argmax(axis=-1)
        difference = float(np.abs(logits[: len(keras)] - keras).max())
        beside = None
        if anew:
            float_right = keras.argmax(axis=-1) == labels
            expected = int(float_right.sum())
            beside = Paired(
                images=len(labels),
                gained=int((right & ~float_right).sum()),
                lost=int((float_right & ~right).sum()),
            )
            chance = 2.0 * math.sqrt(beside.gained + beside.lost)
            passed = expected - correct <= ALLOWED_DROP * len(labels) + chance
        else:
            expected = self._version.builds[artifact.precision].accuracy[self._split].correct
            if artifact.precision == "float32":
                passed = difference <= FLOAT_TOLERANCE * max(1.0, float(np.abs(keras).max()))
            else:
                passed = correct == expected
        check = Check(
            file=artifact.path,
            format=name,
            precision=artifact.precision,
            size_bytes=_size_bytes(path),
            split=self._split,
            images=len(labels),
            correct=correct,
            expected_correct=expected,
            agreement=float(same_class.mean()),
            max_difference=difference,
            passed=passed,
            beside_float32=beside,
        )
        return check, Shown(images=images, labels=labels, logits=logits)


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
