"""Tasks: what is learned. One file each; its stem is its name."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Protocol

from tuner.spec import Accuracy, DatasetSpec, TrainingSettings

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Task(Protocol):
    """What a file of `tuner/tasks` offers: a module with these functions."""

    def outputs(self, dataset: DatasetSpec) -> int:
        """Logits that a net for this data needs."""

    def loss(self, training: TrainingSettings, labels: NDArray[np.int64], outputs: int) -> Any:
        """A function of (labels, logits) that gives the mean loss of a batch, as Keras losses do.

        Args:
            training: says how labels and classes are weighed.
            labels: of all training images.
            outputs: logits.
        """

    def score(
        self, logits: NDArray[np.float32], labels: NDArray[np.int64], outputs: int
    ) -> Accuracy:
        """Decode logits, images x outputs, and compare with the labels."""

    def mean_loss(self, logits: NDArray[np.float32], labels: NDArray[np.int64]) -> float:
        """The plain loss of logits, images x outputs: no smoothing, all classes alike."""
