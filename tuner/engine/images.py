"""The images of a run, opened once a process."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING

from tuner.errors import DataError
from tuner.spec import Candidate, DatasetSpec, Split
from tuner.store.files import cache_folder

if TYPE_CHECKING:
    from tuner.data import Dataset
    from tuner.train.loop import LabelledImages


@functools.lru_cache(maxsize=2)
def _open_data(source: str, split_seed: int, fingerprint: str, group_by: str) -> Dataset:
    from tuner.data import open_dataset

    dataset = open_dataset(source, split_seed=split_seed, cache=cache_folder(), group_by=group_by)
    if dataset.spec.fingerprint != fingerprint:
        raise DataError(
            f"The data at {source} changed since this run began: expected the fingerprint "
            f"{fingerprint}. Received: {dataset.spec.fingerprint}. Start a new run for it."
        )
    return dataset


def open_data(spec: DatasetSpec) -> Dataset:
    """Open a dataset once a process.

    Raises:
        DataError: the data changed since the run began.
    """
    return _open_data(spec.source, spec.split_seed, spec.fingerprint, spec.group_by)


def labelled(dataset: Dataset, candidate: Candidate, split: Split) -> LabelledImages:
    """One split, resized for a candidate."""
    from tuner.train.loop import LabelledImages

    images, labels = dataset.arrays(candidate.preprocessing, split, cache_folder())
    return LabelledImages(images=images, labels=labels)
