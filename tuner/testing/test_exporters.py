"""Contract of every exporter of the catalog, drop-ins too: its files do what the model does."""

from __future__ import annotations

import ast
import json
from pathlib import Path

import pytest

from tuner import catalog
from tuner.errors import InputError
from tuner.models.export import export
from tuner.store.models import ModelFolder

EXPORTERS = catalog.names("exporters")


@pytest.mark.parametrize("name", EXPORTERS)
def test_it_says_in_a_line_what_it_gives(name: str) -> None:
    assert ast.get_docstring(ast.parse(EXPORTERS[name].read_text(encoding="utf-8")))


@pytest.mark.parametrize("name", EXPORTERS)
def test_a_small_model_comes_through(name: str, trained_model: ModelFolder, tmp_path: Path) -> None:
    try:
        folder = export(trained_model, [name], tmp_path / "out")
    except InputError as error:
        if "install" not in str(error):  # a tool of the device that is not here
            raise
        pytest.skip(str(error))
    report = json.loads((folder / "export_report.json").read_text())
    assert report["passed"], report
    assert report["artifacts"]
    for row in report["artifacts"]:
        assert row["format"] == name
        assert (folder / row["file"]).exists()
        assert row["size_bytes"] > 0
        assert row["images"] > 0
