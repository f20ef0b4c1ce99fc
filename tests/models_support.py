"""Models of tests: small nets, retrained for real."""

from __future__ import annotations

from tuner import catalog
from tuner.models.retrain import retrain
from tuner.spec import Candidate, Template
from tuner.store.models import ModelFolder


def trained(candidate: Candidate, data: str, name: str, *, target: str = "k230") -> ModelFolder:
    """The first version of a model, below the current `$TUNE_HOME`."""
    from tuner.data import open_dataset

    spec = open_dataset(data, split_seed=0).spec
    return retrain(
        Template(
            name=name,
            run="run",
            candidate=candidate.id,
            task="classification",
            data=data,
            fingerprint=spec.fingerprint,
            split_seed=0,
            seed=0,
            target=catalog.load_target(target),
            preprocessing=candidate.preprocessing,
            architecture=candidate.architecture,
            training=candidate.training,
        )
    )
