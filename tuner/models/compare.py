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
    from tuner.engine.predictions import Predictions

SPLITS: tuple[Split, ...] = ("training", "validation", "test")
PRECISIONS: tuple[Precision, ...] = ("int8", "float32")


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What two versions took each of the same images for.

    Args:
        comparison: how often each was right.
        dataset: that the images are of, split by split in the order of `comparison.splits`.
        labels: the true classes, int64, n.
        predictions: of both versions, by precision.
    """

    comparison: Comparison
    dataset: Dataset
    labels: NDArray[np.int64]
    predictions: Mapping[Precision, tuple[Predictions, Predictions]]


def compare(first: ModelFolder, second: ModelFolder, source: str | None = None) -> Taken:
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
    import numpy as np

    from tuner.data import open_again, open_dataset

    versions = first.read(), second.read()
    own = versions[0].dataset
    if source is None:
        dataset = open_again(own)
        splits: tuple[Split, ...] = ("test",) if dataset.spec.counts["test"] else ("validation",)
    else:
        dataset = open_dataset(source, split_seed=0)
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
    labels = np.concatenate([dataset.labels(split) for split in splits])
    predictions = {
        precision: (
            _predictions(first, versions[0], precision, dataset, splits),
            _predictions(second, versions[1], precision, dataset, splits),
        )
        for precision in PRECISIONS
    }
    comparison = Comparison(
        models=(first.reference, second.reference),
        source=dataset.spec.source,
        splits=splits,
        pairs={precision: _pairs(labels, *both) for precision, both in predictions.items()},
    )
    return Taken(comparison=comparison, dataset=dataset, labels=labels, predictions=predictions)


def _pairs(labels: NDArray[np.int64], first: Predictions, second: Predictions) -> Pairs:
    one, other = first.classes == labels, second.classes == labels
    return Pairs(
        both=int((one & other).sum()),
        first=int((one & ~other).sum()),
        second=int((~one & other).sum()),
        neither=int((~one & ~other).sum()),
    )


def _predictions(
    folder: ModelFolder,
    version: ModelVersion,
    precision: Precision,
    dataset: Dataset,
    splits: tuple[Split, ...],
) -> Predictions:
    """What a version's file takes the images for, as its target's runtime runs it here."""
    import numpy as np

    from tuner.data.preprocess import scaled_chunks
    from tuner.engine.predictions import predictions_of

    runtime = catalog.load_module("runtimes", version.template.target.runtime)
    content = (folder.path / version.builds[precision].artifact).read_bytes()
    preprocessing = version.template.preprocessing
    logits = [
        runtime.predict(content, precision, part)
        for split in splits
        for part in scaled_chunks(
            dataset.arrays(preprocessing, split, cache_folder())[0], preprocessing.scaling
        )
    ]
    return predictions_of(np.concatenate(logits))
