"""A home of a module of tests, for models of real digits."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from walk_support import small_digits


@pytest.fixture(scope="module")
def digits_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """The current folder and `$TUNE_HOME` of a module, with the data `digits.npz`."""
    home = tmp_path_factory.mktemp("models")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        small_digits(home / "digits.npz")
        yield home
