"""Folders of small real images, and a home of their own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from pictures_support import MakeFolder, fill


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    def make(images: Mapping[str, int]) -> Path:
        return fill(tmp_path / "images", images)

    return make


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TUNE_HOME", str(tmp_path / "home"))
