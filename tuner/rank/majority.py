"""The least that a net must beat: to take every image for the largest class."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.spec import SPLITS, DatasetSpec


@dataclass(frozen=True, slots=True, kw_only=True)
class Majority:
    """What taking every image for one class gives.

    Args:
        class_name: the class with the most training images, of equal ones the first.
        accuracy: share of its images, by split but training; splits without images are left out.
    """

    class_name: str
    accuracy: Mapping[str, float]


def majority_of(dataset: DatasetSpec) -> Majority | None:
    """The largest class of a dataset; None if a run of before did not count its classes."""
    if not dataset.class_counts:
        return None
    training = dataset.class_counts["training"]
    largest = training.index(max(training))
    return Majority(
        class_name=dataset.classes[largest],
        accuracy={
            split: dataset.class_counts[split][largest] / total
            for split in SPLITS[1:]
            if (total := sum(dataset.class_counts[split]))
        },
    )
