"""What each image was taken for: kept beside a candidate's builds, for its report."""

from __future__ import annotations

import io
import zipfile
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.spec import Split
from tuner.store.files import write_atomic

STEPS = 255
"""Confidences are kept as whole multiples of one by this, in a byte."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Predictions:
    """What one build took the images of a split for.

    Args:
        classes: predicted, in the split's fixed order, int64, n.
        confidences: the softmax of the predicted class, 0 to 1, float64, n.
    """

    classes: NDArray[np.int64]
    confidences: NDArray[np.float64]


@dataclass(frozen=True, slots=True, kw_only=True)
class SplitPredictions:
    """What the builds of a candidate took the images of a split for.

    Args:
        labels: the true classes, in the split's fixed order, int64, n.
        builds: by the key of the build.
    """

    labels: NDArray[np.int64]
    builds: Mapping[str, Predictions]

    def mistakes(self, build: str) -> NDArray[np.int64]:
        """Places of the wrongly classified images, the most confident first.

        Args:
            build: key of a build.
        """
        found = self.builds[build]
        wrong = np.flatnonzero(found.classes != self.labels)
        return wrong[np.argsort(-found.confidences[wrong], kind="stable")]


def predictions_of(logits: NDArray[np.float32]) -> Predictions:
    """Predictions from logits, images x outputs; the first of equal logits is predicted."""
    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    # Of the largest logit, exp(0) by the sum of all.
    return Predictions(
        classes=np.argmax(logits, axis=-1), confidences=1.0 / np.exp(shifted).sum(axis=-1)
    )


def write_predictions(folder: Path, split: Split, found: SplitPredictions) -> None:
    """Write what a candidate's builds took a split's images for, atomically.

    A thousand images take about 2 KB a build, before compression.

    Args:
        folder: of the candidate.
        split: the split.
        found: what to write; confidences are rounded to multiples of 1 / STEPS.
    """
    classes = np.min_scalar_type(_largest_class(found))
    arrays: dict[str, NDArray[Any]] = {"labels": found.labels.astype(classes)}
    for key, predictions in found.builds.items():
        arrays[f"{key} class"] = predictions.classes.astype(classes)
        arrays[f"{key} confidence"] = np.rint(predictions.confidences * STEPS).astype(np.uint8)
    content = io.BytesIO()
    np.savez_compressed(content, **arrays)  # type: ignore[arg-type]  # its allow_pickle is a bool
    write_atomic(_path(folder, split), content.getvalue())


def read_predictions(folder: Path, split: Split) -> SplitPredictions | None:
    """Read what `write_predictions` wrote; None if there is none that can be read."""
    try:
        # numpy leaves a damaged file open that it opened by itself.
        content = io.BytesIO(_path(folder, split).read_bytes())
        with np.load(content, allow_pickle=False) as archive:
            keys = [name.removesuffix(" class") for name in archive if name.endswith(" class")]
            return SplitPredictions(
                labels=archive["labels"].astype(np.int64),
                builds={
                    key: Predictions(
                        classes=archive[f"{key} class"].astype(np.int64),
                        confidences=archive[f"{key} confidence"] / STEPS,
                    )
                    for key in keys
                },
            )
    except (OSError, EOFError, KeyError, ValueError, zipfile.BadZipFile, zlib.error):
        return None


def _largest_class(found: SplitPredictions) -> int:
    arrays = [found.labels, *(predictions.classes for predictions in found.builds.values())]
    return max(int(array.max(initial=0)) for array in arrays)


def _path(folder: Path, split: Split) -> Path:
    return folder / f"predictions-{split}.npz"
