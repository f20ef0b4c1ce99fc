"""Model folders: `models/NAME/VERSION/`, numbered, never overwritten."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from tuner.errors import UnknownNameError
from tuner.spec import DatasetSpec, ModelVersion, from_plain, to_plain
from tuner.store.files import home, read_json, write_json
from tuner.store.lock import locked
from tuner.store.runs import check_name

CHECKPOINT = "checkpoint.npz"
"""Of a training, in the folder of a version that is being made."""

FLOAT_PART = "float_part.json"
"""What the float32 part of a training gave, in that folder too, where another part follows."""

FLOAT_WEIGHTS = "float_part.keras"
"""What that part has trained, which the other begins with."""

QUANTIZED = "quantized"
"""Folder of the quantization-aware part, in that of the version that is being made."""

PACE = "pace.json"
"""How long an epoch took when the training was begun."""

_NEW = ".new-"


@dataclass(frozen=True, slots=True)
class ModelFolder:
    """The files of one version: `model.json`, `model.keras`, `*.tflite`."""

    path: Path

    @property
    def reference(self) -> str:
        """`NAME@VERSION`."""
        return f"{self.path.parent.name}@{self.path.name}"

    def read(self) -> ModelVersion:
        """Read `model.json`."""
        path = self.path / "model.json"
        return from_plain(ModelVersion, read_json(path), str(path))


def models_folder() -> Path:
    """The folder that holds all models."""
    return home() / "models"


def known_models() -> list[ModelFolder]:
    """All versions of all models, the newest first."""
    paths = [
        path.parent
        for path in models_folder().glob("*/*/model.json")
        if path.parent.name.isdigit()  # a version being made lies in a folder with a dot
    ]
    return [
        ModelFolder(path)
        for path in sorted(paths, key=lambda path: (path / "model.json").stat().st_mtime_ns)[::-1]
    ]


def _versions(name: str) -> list[int]:
    folders = (models_folder() / name).glob("*/model.json")
    return sorted(int(path.parent.name) for path in folders if path.parent.name.isdigit())


def learned_from(model: ModelFolder) -> Iterator[DatasetSpec]:
    """The data of a version and of those that it was trained on from, as far as they are here."""
    seen = set()
    while model.reference not in seen:  # a number is used again once a model's folder is removed
        seen.add(model.reference)
        version = model.read()
        yield version.dataset
        if version.parent is None:
            return
        try:
            model = find_model(version.parent)
        except UnknownNameError:
            return


def learned_elsewhere(model: ModelFolder, dataset: DatasetSpec) -> str:
    """A note where validation and test images may be among those a version learned from; or empty.

    Which images those were is not kept: another split of the same data mixes them, and other data
    may hold them too, if it has classes in common.
    """
    if not any(
        before.fingerprint != dataset.fingerprint and {*before.classes} & {*dataset.classes}
        for before in learned_from(model)
    ):
        return ""
    return (
        f"{model.reference} learned from other data, or from another split of the same: where "
        "validation and test images are among those it learned from, their accuracies are too "
        "high. Data in train/, validation/ and test/ keeps them apart."
    )


def find_model(reference: str) -> ModelFolder:
    """The version that `NAME`, `NAME@VERSION` or `latest` names.

    Raises:
        UnknownNameError: there is no such model or version.
    """
    if reference == "latest" and (models := known_models()):
        return models[0]
    name, at, version = reference.partition("@")
    versions = _versions(name) if name else []
    if not versions:
        known = {folder.path.parent.name for folder in known_models()}
        raise UnknownNameError(
            "model", name, known, f"Models lie in {models_folder()}; 'tune retrain' makes one."
        )
    if not at:
        return ModelFolder(models_folder() / name / str(versions[-1]))
    if version not in map(str, versions):
        raise UnknownNameError(f"version of {name}", version, map(str, versions))
    return ModelFolder(models_folder() / name / version)


@contextmanager
def new_version(name: str, key: str) -> Iterator[Path]:
    """A folder to fill; `write_version` makes it the next version.

    What a killed process left is there again for the same key: a checkpoint to go on from, or
    the float32 part of a training.

    Args:
        name: of the model.
        key: names what is trained, and how.

    Raises:
        LockedError: another process works on it.
    """
    parent = models_folder() / check_name("model", name)
    temporary = parent / f"{_NEW}{key}"
    lock = parent / f"{temporary.name}.lock"
    with locked(lock, f"This version of '{name}'"):
        temporary.mkdir(exist_ok=True)
        try:
            yield temporary
        finally:
            if not can_go_on(temporary):
                shutil.rmtree(temporary, ignore_errors=True)
            lock.unlink(missing_ok=True)


def worker_logs(folder: Path) -> Path:
    """What the workers that make a version print; outlives the folder in which it is made.

    Each version has its own, because a worker keeps files of its job there and others of the same
    model may be made at the same time.
    """
    return folder.parent / ".logs" / folder.name.removeprefix(_NEW)


def can_go_on(folder: Path) -> bool:
    """Whether the folder of a version that is being made has what its training goes on from."""
    return (folder / FLOAT_PART).exists() or any(folder.rglob(CHECKPOINT))


def write_version(temporary: Path, version: ModelVersion) -> ModelFolder:
    """Give a filled folder the next free number, whatever number `version` names."""
    while True:
        # A number is never used again, not even that of a version whose model.json is lost.
        taken = (int(path.name) for path in temporary.parent.iterdir() if path.name.isdigit())
        number = max(taken, default=0) + 1
        write_json(temporary / "model.json", to_plain(replace(version, version=number)))
        path = temporary.parent / str(number)
        try:
            os.rename(temporary, path)
        except OSError as error:
            if error.errno not in (errno.EEXIST, errno.ENOTEMPTY):
                raise
            continue  # another process took the number in the meantime
        for left in (CHECKPOINT, FLOAT_PART, FLOAT_WEIGHTS, PACE):  # now nothing can fail any more
            (path / left).unlink(missing_ok=True)
        shutil.rmtree(path / QUANTIZED, ignore_errors=True)
        return ModelFolder(path)
