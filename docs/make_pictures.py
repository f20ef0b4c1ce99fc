"""Make the pictures of README.md from a real run: `make pictures`.

Usage: make_pictures.py RUN-FOLDER OUTPUT-FOLDER
"""

from __future__ import annotations

import io
import re
import sys
from pathlib import Path

from PIL import Image

from tuner.data import open_dataset
from tuner.store.runs import RunFolder

SIDE = 96
COLUMNS = 12
ROWS = 2


def contact_sheet(path: Path) -> None:
    """Images of sample:parts, good and defective side by side."""
    dataset = open_dataset("sample:parts", split_seed=0)
    labels = dataset.labels("training")
    sheet = Image.new("RGB", (COLUMNS * SIDE, ROWS * SIDE))
    taken = dict.fromkeys(range(len(dataset.spec.classes)), 0)
    per_class = COLUMNS * ROWS // len(taken)
    for index, label in enumerate(labels):
        place = taken[int(label)]
        if place < per_class:
            taken[int(label)] += 1
            column = int(label) * (COLUMNS // len(taken)) + place % (COLUMNS // len(taken))
            row = place // (COLUMNS // len(taken))
            image = Image.fromarray(dataset.image("training", index))
            sheet.paste(image, (column * SIDE, row * SIDE))
    sheet.save(path, quality=88)


def board_picture(run: Path, path: Path) -> None:
    """The board as `tune report` prints it."""
    from rich.console import Console

    from tuner.cli.board_table import board_renderables
    from tuner.engine.board import board

    folder = RunFolder(run)
    console = Console(record=True, width=80, file=io.StringIO())
    console.print("$ tune report", style="bold")
    for renderable in board_renderables(board(folder)):
        console.print(renderable, highlight=False)
    svg = console.export_svg(title=folder.name)
    # Pictures must not fetch fonts from a network.
    svg = re.sub(r"@font-face \{.*?\}\s*", "", svg, flags=re.DOTALL)
    path.write_text(svg.replace("Fira Code", "DejaVu Sans Mono"), encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 3:
        raise SystemExit("Say which run is meant: make pictures RUN=runs/NAME")
    output = Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    contact_sheet(output / "parts.jpg")
    board_picture(Path(sys.argv[1]), output / "board.svg")
