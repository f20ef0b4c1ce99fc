"""`make pictures` writes the pictures of README from a run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from PIL import Image

from runs_support import make_run

SCRIPT = Path(__file__).parent.parent / "docs" / "make_pictures.py"


def test_pictures_of_a_run(tmp_path: Path) -> None:
    run = make_run(tmp_path, "shown", [10, 12], ended=True)
    output = tmp_path / "images"
    subprocess.run([sys.executable, SCRIPT, run.path, output], check=True)
    board = (output / "board.svg").read_text(encoding="utf-8")
    assert "shown" in board
    assert "60.0" in board.replace("&#160;", " "), "12 of 20 images"
    assert "font-face" not in board
    with Image.open(output / "parts.jpg") as sheet:
        assert sheet.width > sheet.height > 0
