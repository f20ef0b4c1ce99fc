"""`sample:NAME`: data that comes with the tuner, made once and kept in the cache."""

from __future__ import annotations

import importlib
import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.data.archive import ArrayImages, ArrayReader, dataset_of_arrays
from tuner.data.dataset import Dataset
from tuner.data.samples import sample_names
from tuner.errors import DataError, UnknownNameError
from tuner.store.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray


def open_sample(name: str, *, split_seed: int, cache: Path) -> Dataset:
    """Make a sample, or take it from the cache; see `open_dataset`."""
    if name not in sample_names():
        raise UnknownNameError("sample", name, sample_names())
    module = importlib.import_module(f"tuner.data.samples.{name}")
    folder = cache / "samples" / f"{name}-{module.VERSION}"
    images, labels = _load(folder, "images"), _load(folder, "labels")
    if images is None or labels is None or len(images) != len(labels):
        images, labels = module.make()
        _keep(folder, {"images": images, "labels": labels})
        # As a map, so that a process does not hold the whole sample.
        images = _load(folder, "images")
    if images is None:
        raise DataError(
            f"Expected the sample '{name}', just made, in {folder}. Received: nothing that can "
            "be read. Remove the folder and try again."
        )
    kept = ArrayImages([images])
    return dataset_of_arrays(
        source=f"sample:{name}",
        images=kept,
        labels=np.asarray(labels, np.int64),
        classes=module.CLASSES,
        names=[f"{name}[{row}]" for row in range(len(kept))],
        given=["training"] * len(kept),
        split_seed=split_seed,
        reader=ArrayReader(lambda: kept),
    )


def _load(folder: Path, name: str) -> NDArray[Any] | None:
    try:
        array: NDArray[Any] = np.load(folder / f"{name}.npy", mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return array


def _keep(folder: Path, arrays: dict[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        buffer = io.BytesIO()
        np.save(buffer, array, allow_pickle=False)
        try:
            write_atomic(folder / f"{name}.npy", buffer.getvalue())
        except OSError as error:
            raise DataError(
                f"Expected to write a sample to {folder}. Received: {error.strerror or error}. "
                "Free space or set TUNE_HOME to a folder that can be written."
            ) from None
