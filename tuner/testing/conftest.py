"""What the contract tests share."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tuner.store.models import ModelFolder


@pytest.fixture(scope="session")
def trained_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A small net, trained for real; see `tuner.testing.models.small_model`."""
    from tuner.testing.models import small_model

    return small_model(tmp_path_factory.mktemp("trained_model"))
