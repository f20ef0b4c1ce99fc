"""Models for tests: small nets, retrained for real."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tuner import catalog
from tuner.models.retrain import retrain
from tuner.spec import Candidate, Template
from tuner.store.models import ModelFolder
from tuner.testing.specs import small_candidate


def template_of(candidate: Candidate, data: str, name: str, *, target: str = "k230") -> Template:
    """What `tune select` would write of a candidate."""
    from tuner.data import open_dataset

    return Template(
        name=name,
        run="run",
        candidate=candidate.id,
        task="classification",
        data=data,
        fingerprint=open_dataset(data, split_seed=0).spec.fingerprint,
        split_seed=0,
        seed=0,
        target=catalog.load_target(target),
        preprocessing=candidate.preprocessing,
        architecture=candidate.architecture,
        training=candidate.training,
    )


def trained(
    candidate: Candidate, data: str, name: str, *, target: str = "k230", **options: Any
) -> ModelFolder:
    """The first version of a model, below the current `$TUNE_HOME`.

    Args:
        candidate: to train.
        data: to train on.
        name: of the model.
        target: of the template.
        options: of `retrain`; quantization-aware only if they say so, which takes seconds.
    """
    template = template_of(candidate, data, name, target=target)
    return retrain(template, **{"quantization_percent": 0.0, **options})


def small_model(home: Path) -> ModelFolder:
    """A net of one convolution for `nano33ble`, retrained for 3 epochs on `sample:digits`.

    Args:
        home: that gets its folder.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        return trained(small_candidate(outputs=10), "sample:digits", "digits", target="nano33ble")
