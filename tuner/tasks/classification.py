"""Image classification: one of several classes an image, cross-entropy over logits."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tuner.spec import Accuracy, DatasetSpec, TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


def outputs(dataset: DatasetSpec) -> int:
    """One logit a class."""
    return len(dataset.classes)


def loss(training: TrainingSettings, labels: NDArray[np.int64], outputs: int) -> Any:
    """Cross-entropy over logits, with smoothed labels and weighted classes where asked for.

    A smoothed label gives the share `label_smoothing` to all classes alike (Szegedy et al., arXiv
    1512.00567, section 7). Balanced, an image counts n / (classes x images of its class) times:
    one on average, and all classes that have images the same.
    """
    import keras

    smoothing = training.label_smoothing
    if smoothing == 0.0 and training.class_weights == "none":
        return keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    entropy = keras.losses.CategoricalCrossentropy(from_logits=True, label_smoothing=smoothing)
    weights = class_weights(labels, outputs) if training.class_weights == "balanced" else None

    def cross_entropy(labels: Any, logits: Any) -> Any:
        each = None if weights is None else keras.ops.take(weights, labels)
        return entropy(keras.ops.one_hot(labels, outputs), logits, sample_weight=each)

    return cross_entropy


def class_weights(labels: NDArray[np.int64], outputs: int) -> NDArray[np.float32]:
    """How often an image of each class counts, so that all classes with images weigh the same."""
    import numpy as np

    counts = np.bincount(labels, minlength=outputs)
    used = np.count_nonzero(counts)
    return (len(labels) / (used * np.maximum(counts, 1))).astype(np.float32)


def score(logits: NDArray[np.float32], labels: NDArray[np.int64], outputs: int) -> Accuracy:
    """Count images by true and predicted class; the first of equal logits is predicted."""
    import numpy as np

    confusion = np.zeros((outputs, outputs), np.int64)
    np.add.at(confusion, (labels, np.argmax(logits, axis=-1)), 1)
    return Accuracy(confusion=tuple(tuple(int(count) for count in row) for row in confusion))


def mean_loss(logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
    """Mean cross-entropy, in nats: minus the logarithm of the softmax at the label."""
    import numpy as np

    shifted = logits.astype(np.float64) - logits.max(axis=-1, keepdims=True)
    each = np.log(np.exp(shifted).sum(axis=-1)) - shifted[np.arange(len(labels)), labels]
    return float(each.mean())
