"""Image classification: one of several classes an image, cross-entropy over logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.spec import Accuracy, DatasetSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def outputs(dataset: DatasetSpec) -> int:
    """One logit a class."""
    return len(dataset.classes)


def loss() -> Any:
    """Sparse cross-entropy over logits."""
    import keras

    return keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def score(logits: NDArray[np.float32], labels: NDArray[np.int64], outputs: int) -> Accuracy:
    """Count images by true and predicted class; the first of equal logits is predicted."""
    import numpy as np

    confusion = np.zeros((outputs, outputs), np.int64)
    np.add.at(confusion, (labels, np.argmax(logits, axis=-1)), 1)
    return Accuracy(confusion=tuple(tuple(int(count) for count in row) for row in confusion))
