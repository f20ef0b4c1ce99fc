"""Opening a dataset by what `--data` names."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.data.archive import open_archive
from tuner.data.dataset import Dataset
from tuner.data.folder import LAYOUT, open_folder
from tuner.data.sample import open_sample
from tuner.errors import DataError
from tuner.store.files import cache_folder

SAMPLE_PREFIX = "sample:"
PACKED_SUFFIXES = (".zip", ".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")


def open_dataset(source: str | Path, *, split_seed: int, cache: Path | None = None) -> Dataset:
    """Open labelled images and split them.

    A folder holds a folder per class, at any depth below which its images lie; or `train/`
    (`training/`) and, where given, `validation/` (`val/`) and `test/`, each with a folder per
    class. An `.npz` file holds `x` and `y`, and where given `classes`, `x_validation`,
    `y_validation`, `x_test` and `y_test`. A split that is not given is taken from training:
    20 % for test, then 20 % of the rest for validation, stratified and seeded. Files that cannot
    be read are left out and listed in `spec.left_out`.

    Args:
        source: a folder, an `.npz` file, or `sample:NAME`.
        split_seed: of the split, where the source gives none.
        cache: for generated samples, and for what is known of slow folders; the home's cache
            folder unless given.

    Raises:
        DataError: what is there cannot be used; the message says what to do.
        UnknownNameError: no such sample.
    """
    cache = cache or cache_folder()
    text = str(source)
    if text.startswith(SAMPLE_PREFIX):
        return open_sample(text.removeprefix(SAMPLE_PREFIX), split_seed=split_seed, cache=cache)
    path = Path(os.path.abspath(Path(source).expanduser()))
    if path.is_dir():
        return open_folder(path, split_seed=split_seed, cache=cache)
    expected = "Expected a folder of images, an .npz file or sample:NAME."
    if not path.exists():
        raise DataError(f"{expected} Received: {path}, which does not exist. Check the path.")
    if path.suffix.lower() == ".npz":
        return open_archive(path, split_seed=split_seed)
    if path.name.lower().endswith(PACKED_SUFFIXES):
        raise DataError(f"{expected} Received: {path}, a packed file. Unpack it first.")
    raise DataError(f"{expected} Received: {path}, a file of another kind; {LAYOUT}.")
