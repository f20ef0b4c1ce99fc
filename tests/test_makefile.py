"""What `make` finds on a machine before it installs anything."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

import pytest

MAKEFILE = Path(__file__).resolve().parent.parent / "Makefile"
SHOW = 'shown: ; @echo "$$DOTNET_ROOT|$(EXTRAS)"'


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    folder = tmp_path / "checkout"
    folder.mkdir()
    shutil.copyfile(MAKEFILE, folder / "Makefile")
    return folder


def shown(checkout: Path, **environment: str) -> list[str]:
    """DOTNET_ROOT as commands get it, and the extras that are installed."""
    command = shutil.which("make")
    if command is None:
        pytest.skip("make is not installed")
    environment = {"PATH": os.defpath, **environment}
    done = subprocess.run(
        [command, "--eval", SHOW, "shown"],
        cwd=checkout,
        env=environment,
        capture_output=True,
        text=True,
        check=True,
    )
    root, extras = done.stdout.strip().split("|")
    return [root, *extras.split(",")]


def test_dotnet_beside_the_checkout_is_found_and_handed_on(checkout: Path) -> None:
    beside = checkout.parent / "shared" / "dotnet"
    (beside / "host").mkdir(parents=True)
    root, *extras = shown(checkout)
    assert root == str(beside)
    assert "k230" in extras


def test_a_dotnet_that_is_named_comes_first(checkout: Path, tmp_path: Path) -> None:
    (checkout.parent / "shared" / "dotnet" / "host").mkdir(parents=True)
    (tmp_path / "own" / "host").mkdir(parents=True)
    root, *extras = shown(checkout, DOTNET_ROOT=str(tmp_path / "own"))
    assert root == str(tmp_path / "own")
    assert "k230" in extras


def test_a_folder_without_dotnet_is_none(checkout: Path) -> None:
    (checkout.parent / "shared" / "dotnet").mkdir(parents=True)
    root, *extras = shown(checkout, PATH="/nowhere")
    assert root == ""
    assert "k230" not in extras


def test_installing_is_told_before_it_begins(checkout: Path) -> None:
    command = shutil.which("make")
    if command is None:
        pytest.skip("make is not installed")
    stand_in = checkout / ".venv" / "bin" / "python"
    stand_in.parent.mkdir(parents=True)
    stand_in.write_text("#!/bin/sh\necho pip\n")
    stand_in.chmod(0o755)
    for name in ("pyproject.toml", "constraints.txt"):
        (checkout / name).touch()
    call = [command, "--silent", "DOTNET=", "PYTHON=python3", ".venv/.ready"]
    first, again = (
        subprocess.run(call, cwd=checkout, capture_output=True, text=True, check=True).stdout
        for _ in range(2)
    )
    assert first.startswith("Installing into .venv: 1 to 2 minutes")
    assert first.endswith("\npip\n")
    assert "Installing" not in again
