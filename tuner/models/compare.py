"""Two model versions on the same images."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner import catalog
from tuner.errors import InputError
from tuner.spec import ModelVersion, Precision, Split
from tuner.store.files import cache_folder
from tuner.store.models import ModelFolder

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuner.data import Dataset

SPLITS: tuple[Split, ...] = ("training", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class Pairs:
    """How two classifiers did on the same images.

    Args:
        both: images that both have right.
        first: that only the first has right.
        second: that only the second has right.
        neither: that none has right.
    """

    both: int
    first: int
    second: int
    neither: int

    @property
    def images(self) -> int:
        """All of them."""
        return self.both + self.first + self.second + self.neither

    @property
    def gain(self) -> float:
        """Share of images that the second has right beyond the first."""
        return (self.second - self.first) / self.images

    @property
    def gain_error(self) -> float:
        """Standard error of `gain`: that of the mean of pairs (McNemar, Psychometrika 12, 1947)."""
        spread = (self.first + self.second) / self.images - self.gain**2
        return math.sqrt(spread / self.images)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """What two versions say of the same images.

    Args:
        models: `NAME@VERSION` of both.
        source: where the images are from.
        splits: of the source, whose images were taken.
        pairs: by precision.
    """

    models: tuple[str, str]
    source: str
    splits: tuple[Split, ...]
    pairs: Mapping[Precision, Pairs]


def compare(first: ModelFolder, second: ModelFolder, source: str | None = None) -> Comparison:
    """Run the files of two versions on the same images, each with its own preprocessing.

    Args:
        first: a version.
        second: another, of the same classes.
        source: labelled images, all of which are taken; None for the test images of the first's
            data, or its validation images if it has none.

    Raises:
        InputError: the versions or the images are of different classes.
        DataError: the images cannot be read.
    """
    from tuner.data import open_dataset

    versions = first.read(), second.read()
    own = versions[0].dataset
    if source is None:
        dataset = open_dataset(
            own.source, split_seed=own.split_seed, cache=cache_folder(), group_by=own.group_by
        )
        splits: tuple[Split, ...] = ("test",) if dataset.spec.counts["test"] else ("validation",)
    else:
        dataset = open_dataset(source, split_seed=0, cache=cache_folder())
        splits = tuple(split for split in SPLITS if dataset.spec.counts[split])
    for name, classes in (
        (second.reference, versions[1].dataset.classes),
        (dataset.spec.source, dataset.spec.classes),
    ):
        if tuple(classes) != tuple(own.classes):
            raise InputError(
                f"Expected the classes of {first.reference}, {', '.join(own.classes)}, in {name}. "
                f"Received: {', '.join(classes)}."
            )
    precisions: tuple[Precision, ...] = ("int8", "float32")
    pairs = {}
    for precision in precisions:
        one, other = (
            _right(folder, version, precision, dataset, splits)
            for folder, version in zip((first, second), versions, strict=True)
        )
        pairs[precision] = Pairs(
            both=int((one & other).sum()),
            first=int((one & ~other).sum()),
            second=int((~one & other).sum()),
            neither=int((~one & ~other).sum()),
        )
    return Comparison(
        models=(first.reference, second.reference),
        source=dataset.spec.source,
        splits=splits,
        pairs=pairs,
    )


def _right(
    folder: ModelFolder,
    version: ModelVersion,
    precision: Precision,
    dataset: Dataset,
    splits: tuple[Split, ...],
) -> NDArray[np.bool_]:
    """By image, whether the version's file of a precision names its class."""
    import numpy as np

    from tuner.data.preprocess import scaled_chunks

    build = version.builds[precision]
    runtime = catalog.load_module("runtimes", build.runtime)
    content = (folder.path / build.artifact).read_bytes()
    preprocessing = version.template.preprocessing
    right = []
    for split in splits:
        images, labels = dataset.arrays(preprocessing, split, cache_folder())
        logits = np.concatenate(
            [
                runtime.predict(content, precision, part)
                for part in scaled_chunks(images, preprocessing.scaling)
            ]
        )
        right.append(logits.argmax(axis=-1) == labels)
    return np.concatenate(right)
