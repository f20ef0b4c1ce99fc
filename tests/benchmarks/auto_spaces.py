"""Each search space of `auto` alone beside `auto`, which searches all that suit the target.

CIFAR-10 (1,000 training images a class), blood cells cut out of BCCD (three classes), and
`sample:parts`; on each, every search has the same time. A run's score is the int8 accuracy of its
rank 1 on the test images. One JSON a run in `--out`; what is there is not run again. Prints JSON:
by data set the score of each, and what each loses to the best space alone, in points and in
standard errors. Run it alone, it takes (spaces + 1) x the sum of the times:
    .venv/bin/python tests/benchmarks/auto_spaces.py --times 4m 3m 2m --out bench-results/auto
"""

from __future__ import annotations

import argparse
import io
import json
import math
import os
import subprocess
import sys
import zipfile
from collections import Counter
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

from cifar10_search import DATA, TRAINING_IMAGES_PER_CLASS, unpack
from PIL import Image

from tuner.catalog import load_space
from tuner.engine.search import AUTO_SPACES
from tuner.spec.space import suits
from tuner.testing.specs import context_of

MARGIN = 0.1
"""Around a cell, of its width and height."""
MOST_CELLS = 400
"""Of a class and split; there are ten times as many red cells as others."""


def cut_cells(archive: Path, folder: Path) -> None:
    """Write the cells of BCCD below `folder`: its own test images, and all others to train on."""
    with zipfile.ZipFile(archive) as source:
        held_out = set(source.read("ImageSets/Main/test.txt").decode().split())
        counts: Counter[tuple[str, str]] = Counter()
        for name in sorted(source.namelist()):
            if not name.startswith("Annotations/"):
                continue
            stem = Path(name).stem
            split = "test" if stem in held_out else "train"
            picture = Image.open(io.BytesIO(source.read(f"JPEGImages/{stem}.jpg"))).convert("RGB")
            for found in ElementTree.fromstring(source.read(name)).iter("object"):
                label = found.findtext("name", "")
                left, top, right, bottom = (
                    int(found.findtext(f"bndbox/{side}", "0"))
                    for side in ("xmin", "ymin", "xmax", "ymax")
                )
                across, down = MARGIN * (right - left), MARGIN * (bottom - top)
                if min(right - left, bottom - top) < 8 or counts[split, label] == MOST_CELLS:
                    continue
                counts[split, label] += 1
                place = folder / split / label
                place.mkdir(parents=True, exist_ok=True)
                box = (left - across, top - down, right + across, bottom + down)
                picture.crop(tuple(map(round, box))).save(
                    place / f"{stem}-{counts[split, label]:04}.png"
                )


def data_sets(home: Path) -> dict[str, str]:
    """By name, what `--data` takes."""
    cifar10, cells = home / "cifar10", home / "cells"
    if not cifar10.exists():
        unpack(DATA / "cifar10-train.zip", cifar10 / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", cifar10 / "test", None)
    if not cells.exists():
        cut_cells(DATA / "bccd-voc.zip", cells)
    return {"cifar10": str(cifar10), "cells": str(cells), "parts": "sample:parts"}


def search(
    home: Path, data: str, space: str, target: str, minutes: str, name: str
) -> dict[str, Any]:
    """The best of one search."""
    environment = {**os.environ, "TUNE_HOME": str(home)}
    tune = [sys.executable, "-m", "tuner"]
    subprocess.run(
        [*tune, "--target", target, "--data", data, "--time", minutes, "--name", name,
         "--space", space],
        env=environment, cwd=home, check=True, stdout=sys.stderr,
    )  # fmt: skip
    told = subprocess.run(
        [*tune, "report", name, "--format", "json"],
        env=environment, cwd=home, check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    best = json.loads(told)[0]
    test = best["builds"]["int8"]["accuracy"]["test"]["confusion"]
    images = sum(map(sum, test))
    accuracy = best["accuracy"]["test"]["int8"]
    return {
        "space": best["space"],
        "id": best["id"],
        "test": accuracy,
        "images": images,
        "standard_error": math.sqrt(accuracy * (1 - accuracy) / images),
        "validation": best["accuracy"]["validation"]["int8"],
    }


def main() -> None:
    """Search, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--times", nargs=3, default=["4m", "3m", "2m"])
    parser.add_argument("--target", default="nano33ble")
    parser.add_argument("--out", type=Path, default=Path("bench-results/auto"))
    options = parser.parse_args()
    home = options.out.resolve()
    home.mkdir(parents=True, exist_ok=True)
    context = context_of(options.target, 32, 32)
    spaces = [name for name in AUTO_SPACES if suits(load_space(name), context)]
    runs: dict[str, dict[str, dict[str, Any]]] = {}
    for (data_name, data), minutes in zip(data_sets(home).items(), options.times, strict=True):
        for side in ("auto", *spaces):
            kept = home / f"{data_name}-{side}.json"
            if not kept.exists():
                row = search(home, data, side, options.target, minutes,
                             f"{data_name}-{side}".replace("_", "-"))  # fmt: skip
                kept.write_text(json.dumps(row, indent=2))
            runs.setdefault(data_name, {})[side] = json.loads(kept.read_text())
    lost: dict[str, dict[str, Any]] = {}
    for data_name, rows in runs.items():
        best = max(spaces, key=lambda space: rows[space]["test"])
        for side, row in rows.items():
            less = rows[best]["test"] - row["test"]
            lost.setdefault(data_name, {"best_alone": best})[side] = {
                "points": round(100 * less, 2),
                "standard_errors": round(less / (row["standard_error"] or 1e-9), 2),
            }
    print(json.dumps({"times": options.times, "lost": lost, "runs": runs}, indent=2))


if __name__ == "__main__":
    main()
