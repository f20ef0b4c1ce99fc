"""Two model versions on the same images."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner import catalog
from tuner.engine.builds import PRECISIONS
from tuner.errors import DataError, InputError
from tuner.spec import SPLITS, ModelVersion, Precision, Split
from tuner.store.files import cache_folder
from tuner.store.models import ModelFolder, learned_from

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuner.data import Dataset
    from tuner.engine.predictions import Predictions

SHOWN: tuple[Precision, ...] = PRECISIONS[::-1]
"""What a device computes comes first."""

NAMED = 5
"""Unknown classes that are named, at most."""


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
        splits: of the source, whose images were taken; none if all were.
        images: that were taken.
        unlabelled: of these, images that no class of the versions is known for. They count for
            `alike` alone.
        unknown_classes: that the source has and the versions do not.
        left_out: files that could not be read, each with its reason.
        doubtful: of `models`, those that were trained on other data, or on another split of the
            same, and may have learned from some of the images; unknown where `source` was given.
        alike: images that both versions take for the same class, by precision.
        pairs: of the labelled images, by precision; none without labelled images.
    """

    models: tuple[str, str]
    source: str
    splits: tuple[Split, ...]
    images: int
    unlabelled: int
    unknown_classes: tuple[str, ...]
    left_out: tuple[str, ...]
    doubtful: tuple[str, ...]
    alike: Mapping[Precision, int]
    pairs: Mapping[Precision, Pairs]

    def notes(self) -> Iterator[str]:
        """What of the images is not known or not read, and who may have learned from them."""
        if self.doubtful:
            yield (
                f"{' and '.join(self.doubtful)} learned from other data, or from another split of "
                "the same, maybe from some of these images, and may be less accurate on new ones. "
                "Compare on images that neither learned from: --input FOLDER."
            )
        if self.unknown_classes:
            names = ", ".join(self.unknown_classes[:NAMED])
            more = len(self.unknown_classes) - NAMED
            and_more = f" and {more} more" if more > 0 else ""
            yield f"No classes of {self.models[0]}: {names}{and_more}."
        if self.unlabelled:
            yield (
                f"Images without a label of its classes: {self.unlabelled:,}. Only whether both "
                "say the same is counted of them."
            )
        if self.left_out:
            yield f"Left out: {len(self.left_out):,} files; the first: {self.left_out[0]}."


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """What two versions took each of the same images for.

    Args:
        comparison: how often each was right.
        dataset: that the images are of, split by split in the order of `splits`.
        splits: of the dataset.
        classes: of the versions.
        labels: the true classes, int64, n; -1 where there is none.
        predictions: of both versions, by precision.
    """

    comparison: Comparison
    dataset: Dataset
    splits: tuple[Split, ...]
    classes: tuple[str, ...]
    labels: NDArray[np.int64]
    predictions: Mapping[Precision, tuple[Predictions, Predictions]]


def compare(first: ModelFolder, second: ModelFolder, source: str | None = None) -> Taken:
    """Run the files of two versions on the same images, each with its own preprocessing.

    Args:
        first: a version.
        second: another, of the same classes.
        source: images, all of which are taken, labelled or not; None for the test images of the
            first's data, or its validation images if it has none.

    Raises:
        InputError: the versions are of different classes.
        DataError: the images cannot be read.
    """
    versions = first.read(), second.read()
    classes, others = (version.dataset.classes for version in versions)
    if tuple(others) != tuple(classes):
        raise InputError(
            f"Expected the classes of {first.reference}, {', '.join(classes)}, in "
            f"{second.reference}. Received: {', '.join(others)}."
        )
    dataset, splits, labels = _images(versions[0], source)
    predictions = {
        precision: (
            _predictions(first, versions[0], precision, dataset, splits),
            _predictions(second, versions[1], precision, dataset, splits),
        )
        for precision in SHOWN
    }
    labelled = labels >= 0
    comparison = Comparison(
        models=(first.reference, second.reference),
        source=dataset.spec.source,
        splits=splits if source is None else (),
        images=len(labels),
        unlabelled=int((~labelled).sum()),
        unknown_classes=tuple(name for name in dataset.spec.classes if name not in classes),
        left_out=dataset.spec.left_out,
        doubtful=tuple(
            folder.reference
            for folder in (first, second)
            if source is None
            and any(
                before.fingerprint != dataset.spec.fingerprint for before in learned_from(folder)
            )
        ),
        alike={
            precision: int((one.classes == other.classes).sum())
            for precision, (one, other) in predictions.items()
        },
        pairs={
            precision: _pairs(labels[labelled], one.classes[labelled], other.classes[labelled])
            for precision, (one, other) in predictions.items()
            if labelled.any()
        },
    )
    return Taken(
        comparison=comparison,
        dataset=dataset,
        splits=splits,
        classes=tuple(classes),
        labels=labels,
        predictions=predictions,
    )


def _images(
    version: ModelVersion, source: str | None
) -> tuple[Dataset, tuple[Split, ...], NDArray[np.int64]]:
    """The images, the splits that hold them, and their labels; see `compare`."""
    import numpy as np

    from tuner.data import is_gone, open_again, open_dataset
    from tuner.data.unsplit import UNKNOWN, open_unsplit

    own = version.dataset
    if source is None:
        if is_gone(own):
            raise DataError(
                f"Expected the data of {version.name}@{version.version} at {own.source}, to "
                "compare on its images. There is nothing. Name images with --input PATH."
            )
        dataset = open_again(own)
        splits: tuple[Split, ...] = ("test",) if dataset.spec.counts["test"] else ("validation",)
    else:
        dataset = open_unsplit(source, own.classes) or open_dataset(source, split_seed=0)
        splits = tuple(split for split in SPLITS if dataset.spec.counts[split])
    numbers = {name: number for number, name in enumerate(own.classes)}
    # The last is for images without a label.
    known = [numbers.get(name, UNKNOWN) for name in dataset.spec.classes] + [UNKNOWN]
    labels = np.concatenate([dataset.labels(split) for split in splits])
    return dataset, splits, np.array(known, np.int64)[labels]


def _pairs(labels: NDArray[np.int64], first: NDArray[np.int64], second: NDArray[np.int64]) -> Pairs:
    one, other = first == labels, second == labels
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
