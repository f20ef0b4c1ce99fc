"""`tune targets` and `tune targets show`: complete, in 80 columns, and readable by programs."""

from __future__ import annotations

import json

import pytest

from tuner.catalog import load_target, names
from tuner.cli.targets import list_targets, show_target, size_text
from tuner.errors import UnknownNameError


def test_the_list_has_a_line_for_each_target_in_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list_targets("table")
    lines = capsys.readouterr().out.splitlines()
    for name in names("targets"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert max(len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("name", sorted(names("targets")))
def test_one_target_shows_every_number_and_source(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_target(name, "table")
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    target = load_target(name)
    # Words wrap: compare without spaces.
    flat = "".join(out.split())
    assert f"{target.clock_mhz:g}MHz" in flat
    for region in target.ram_regions:
        assert "".join(size_text(region.size_bytes).split()) in flat
    for field in ("clock_mhz", "flash_reserved_bytes"):
        assert target.sources[field].split()[0][:20] in flat
    assert "amodelmayuse" in flat


def test_json_holds_the_file_and_the_effective_limits(capsys: pytest.CaptureFixture[str]) -> None:
    show_target("nano33ble", "json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["ram_regions"][0]["size_bytes"] == 262144
    assert shown["model_limits"]["ram_bytes"] == 262144 - 48 * 1024
    assert shown["file"].endswith("nano33ble.toml")
    list_targets("json")
    assert shown in json.loads(capsys.readouterr().out)


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rp2040'"):
        show_target("rp2400", "table")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(512, "0.5 KB"), (240 * 1024, "240 KB"), (2 * 1024**2, "2 MB"), (3 * 1024**3, "3 GB"),
     (1020 * 1024, "0.996 MB")],
)  # fmt: skip
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text
