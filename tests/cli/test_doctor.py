"""`tune doctor`: what is ready, with which version, and what to install, as users see it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dotnet_support import dotnet, dotnet_command, false_nncase
from tuner.catalog import names

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture
def plain_home(home: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home without .NET, settings and a search path."""
    monkeypatch.delenv("DOTNET_ROOT", raising=False)
    monkeypatch.delenv("TUNE_PATH", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(home / "config"))
    monkeypatch.setenv("PATH", str(home / "bin"))
    return home


def doctor(*arguments: str) -> str:
    """What the command prints in a process of its own."""
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "doctor", *arguments],
        env={**os.environ, "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout


def rows() -> dict[tuple[str, str], dict]:
    return {(row["kind"], row["name"]): row for row in json.loads(doctor("--format", "json"))}


def dotnet_of(row: dict) -> dict:
    (found,) = (tool for tool in row["tools"] if tool["name"] == ".NET")
    return found


def test_every_runtime_and_exporter_has_a_row_in_80_columns(plain_home: Path) -> None:
    found = rows()
    assert set(found) == {("runtime", name) for name in names("runtimes")} | {
        ("exporter", name) for name in names("exporters")
    }
    for row in found.values():
        assert all(bool(tool["version"]) != bool(tool["missing"]) for tool in row["tools"])
    text = doctor()
    assert max(map(len, text.splitlines())) <= 80
    for kind, name in found:
        assert any(line.split()[:2] == [kind, name] for line in text.splitlines()), name


def test_without_dotnet_it_says_what_to_install(plain_home: Path) -> None:
    found = rows()
    runtime, exporter = found["runtime", "nncase"], found["exporter", "k230"]
    assert (runtime["ready"], exporter["ready"]) == ("estimates", "no")
    said = dotnet_of(runtime)["missing"]
    assert said.startswith("nncase needs the .NET runtime 7.0 or newer: install ")
    assert str(plain_home / "config" / "edge-tuner" / "settings.toml") in said
    assert said.endswith(
        "Received: neither DOTNET_ROOT nor dotnet_root in the settings nor 'dotnet' in the PATH."
    )
    assert dotnet_of(exporter)["missing"] == said
    text = doctor()
    assert "\nestimates: searches go on without what the missing tool tells.\n" in text
    flat = " ".join(text.split())
    assert flat.count("- nncase needs the .NET runtime 7.0 or newer") == 1, "said once for both"


@pytest.mark.parametrize("where", ["DOTNET_ROOT", "settings", "PATH"])
def test_dotnet_is_found_in_each_of_the_three_places(
    where: str, plain_home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = dotnet(plain_home / "runtime", "8.0.21")
    (root / "shared" / "Microsoft.NETCore.App" / "10.0.0-rc.1").mkdir()
    if where == "DOTNET_ROOT":
        monkeypatch.setenv("DOTNET_ROOT", str(root))
    elif where == "settings":
        file = plain_home / "config" / "edge-tuner" / "settings.toml"
        file.parent.mkdir(parents=True)
        file.write_text(f'dotnet_root = "{root}"\n')
    else:
        dotnet_command(plain_home / "bin", root)
    found = dotnet_of(rows()["exporter", "k230"])
    assert found == {"name": ".NET", "version": "10.0.0-rc.1", "place": str(root), "missing": ""}


def test_with_all_tools_both_are_ready(plain_home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false_nncase(plain_home / "packages", "raise AssertionError('imported')", monkeypatch)
    found = rows()
    assert found["runtime", "nncase"]["ready"] == "yes"
    compiler, _ = found["runtime", "nncase"]["tools"]
    assert (compiler["name"], compiler["version"]) == ("nncase-kpu", "9.9")
    assert "nncase-kpu 9.9, .NET 8.0.1" in " ".join(doctor().split())


def test_settings_with_a_wrong_field(plain_home: Path, cli: Cli) -> None:
    file = plain_home / "config" / "edge-tuner" / "settings.toml"
    file.parent.mkdir(parents=True)
    file.write_text('dotnet = "/opt/dotnet"\n')
    code, out, _ = cli("doctor", "--format", "json")
    assert code == 0
    found = {(row["kind"], row["name"]): row for row in json.loads(out)}
    (tool,) = found["exporter", "k230"]["tools"]
    assert tool["missing"] == (
        f"{file}: unknown field 'dotnet'. Did you mean 'dotnet_root'? Known fields: dotnet_root."
    )


def test_a_file_that_cannot_be_imported_is_named(plain_home: Path, cli: Cli) -> None:
    folder = plain_home / "runtimes"
    folder.mkdir()
    (folder / "mine.py").write_text("KERNELS = frozenset()\ndef cost(): ...\n1 / 0\n")
    code, out, _ = cli("doctor")
    assert code == 0
    assert "mine.py cannot be used" in out
    assert "line 3: ZeroDivisionError: division by zero." in " ".join(out.split())


def test_an_exporter_that_cannot_be_used_is_not_ready(plain_home: Path, cli: Cli) -> None:
    folder = plain_home / "exporters"
    folder.mkdir()
    (folder / "torn.py").write_text("def export(model:\n")
    (folder / "half.py").write_text("def export(model, version, folder): ...\n")
    code, out, _ = cli("doctor")
    assert code == 0
    lines = [line.split() for line in out.splitlines()]
    for name in ("torn", "half"):
        assert ["exporter", name, "no", f"{name}.py", "cannot", "be", "used"] in lines
    flat = " ".join(out.split())
    assert "line 1: SyntaxError: " in flat
    assert "to define 'run'; see docs/guides/own-exporter.md." in flat
