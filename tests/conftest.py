"""Fixtures shared by all tests."""

from __future__ import annotations

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
os.environ.setdefault("KERAS_BACKEND", "tensorflow")
# Small systems of equations: threads cost more than they bring.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

import signal
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from hypothesis import settings

if TYPE_CHECKING:
    from tuner.store.models import ModelFolder

# In a shell's background SIGINT is ignored, and would be in what the tests start.
if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

settings.register_profile("tests", deadline=None, derandomize=True, max_examples=60)
settings.load_profile("tests")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder of its own for runs and models; also the current one."""
    monkeypatch.setenv("TUNE_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def compiler() -> None:
    """The K230's compiler; where it or .NET is not installed, the test is skipped and says so."""
    from tuner.runtimes import kmodel

    try:
        kmodel.nncase_version()
    except ImportError as error:
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def small_model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    """A small net, trained for real; see `tuner.testing.models.small_model`."""
    from tuner.testing import models

    return models.small_model(tmp_path_factory.mktemp("small_model"))
