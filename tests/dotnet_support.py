"""Stand-ins for the .NET runtime and for nncase, as files that a child process finds too."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


def dotnet(folder: Path, version: str) -> Path:
    """A folder that looks like an unpacked .NET runtime."""
    (folder / "shared" / "Microsoft.NETCore.App" / version).mkdir(parents=True)
    return folder


def dotnet_command(folder: Path, root: Path) -> Path:
    """A folder for the PATH whose `dotnet` leads to a runtime, as Linux packages have it."""
    (root / "dotnet").write_text("#!/bin/sh\n")
    (root / "dotnet").chmod(0o755)
    folder.mkdir()
    (folder / "dotnet").symlink_to(root / "dotnet")
    return folder


def false_nncase(folder: Path, body: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """A package nncase whose import runs `body`, for this process and its children, with .NET."""
    (folder / "nncase").mkdir(parents=True)
    (folder / "nncase" / "__init__.py").write_text(body)
    (folder / "nncase_kpu").mkdir()
    (folder / "nncase_kpu" / "__init__.py").write_text("")
    (folder / "nncase_kpu-9.9.dist-info").mkdir()
    (folder / "nncase_kpu-9.9.dist-info" / "METADATA").write_text(
        "Metadata-Version: 2.1\nName: nncase-kpu\nVersion: 9.9\n"
    )
    monkeypatch.syspath_prepend(folder)
    searched = [str(folder), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(searched))
    monkeypatch.setenv("DOTNET_ROOT", str(dotnet(folder / "dotnet", "8.0.1")))
