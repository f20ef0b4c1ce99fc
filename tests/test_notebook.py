"""The notebook of the docs runs from top to bottom."""

from __future__ import annotations

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

import tuner

NOTEBOOK = Path(__file__).parent.parent / "docs" / "notebook.ipynb"


def code_cells() -> list[str]:
    cells = json.loads(NOTEBOOK.read_text(encoding="utf-8"))["cells"]
    return ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"]


def test_the_notebook_holds_no_outputs_and_uses_public_names():
    notebook = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert not any(cell.get("outputs") for cell in notebook["cells"])
    assert len({cell["id"] for cell in notebook["cells"]}) == len(notebook["cells"])
    used = {
        node.attr
        for cell in code_cells()
        for node in ast.walk(ast.parse(cell))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "tuner"
    }
    assert {"search", "extend", "select", "retrain", "export"} <= used <= set(tuner.__all__)


@pytest.mark.slow
def test_the_notebook_runs(home: Path):
    """As a kernel would: one cell after another in one namespace, the last value of each shown."""
    script = home / "notebook.py"
    script.write_text("\n".join(map(_as_script, code_cells())), encoding="utf-8")
    done = subprocess.run(
        [sys.executable, script.name],
        cwd=home,
        env={**os.environ, "TUNE_HOME": str(home)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    assert "ended" in done.stdout
    assert (home / "exports" / "digits-1" / "digits_int8.tflite").exists()


def _as_script(cell: str) -> str:
    body = ast.parse(cell).body
    if isinstance(body[-1], ast.Expr):
        shown = ast.Call(func=ast.Name(id="print"), args=[body[-1].value], keywords=[])
        body[-1] = ast.Expr(value=shown)
    module = ast.Module(body=body, type_ignores=[])
    return ast.unparse(ast.fix_missing_locations(module))
