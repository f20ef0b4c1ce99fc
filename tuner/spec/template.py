"""A Template: a selected candidate with what retraining needs; a person may edit it."""

from __future__ import annotations

from dataclasses import dataclass

from tuner.errors import SpecError
from tuner.spec.architecture import Architecture
from tuner.spec.candidate import Candidate, Preprocessing, TrainingSettings
from tuner.spec.target import Target


@dataclass(frozen=True, slots=True, kw_only=True)
class Template:
    """What `tune select` writes and `tune retrain` reads.

    Args:
        name: of the model that retraining makes.
        run: the run it was selected in.
        candidate: the id it was selected by; an edited template trains as another candidate.
        task: a file of `tuner/tasks`.
        data: folder, zip, `.npz` or `sample:NAME`.
        fingerprint: of the data; other data is used with a warning.
        split_seed: of the split into training, validation and test.
        seed: of the training.
        preprocessing: see Candidate.
        training: see Candidate.
        architecture: see Candidate.
        target: the device, with the limits of the run.
        group_by: see DatasetSpec.
        weights: file of the weights that training begins with, whose fingerprint
            `training.weights` is; empty where there are none.
    """

    name: str
    run: str
    candidate: str
    task: str
    data: str
    fingerprint: str
    split_seed: int
    seed: int
    preprocessing: Preprocessing
    training: TrainingSettings
    architecture: Architecture
    target: Target
    group_by: str = ""
    weights: str = ""

    def __post_init__(self) -> None:
        if not self.name:
            raise SpecError("expected a name for the model. Received: name=''.")

    @property
    def as_candidate(self) -> Candidate:
        """The candidate to train, as edited."""
        return Candidate(
            preprocessing=self.preprocessing,
            architecture=self.architecture,
            training=self.training,
        )
