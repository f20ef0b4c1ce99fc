"""The best takes too long to retrain: it is refused, and what is named in its place keeps it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tuner.store.models import find_model, models_folder
from walk_support import tune

CANDIDATES = 6
DROP = 0.01
"""Of the validation images: by so much a retrained model may be behind what the board said."""


@pytest.mark.slow
def test_the_walk_to_an_alternative_that_keeps_the_limit(home: Path):
    tune(
        home, "--target", "nano33ble", "--data", "sample:parts", "--name", "walk",
        "--max-candidates", CANDIDATES,
    )  # fmt: skip
    board = json.loads(tune(home, "report", "walk", "--format", "json").stdout)
    tune(home, "select", "walk", 1, "-o", "best.toml")
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", 0.001, code=2).stderr
    needed = float(re.search(r"full training ([\d.]+) min > 0\.001", line)[1])
    limit = 0.7 * needed
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", limit, code=2).stderr
    assert "takes too long" in line.splitlines()[-1]
    assert re.search(r"--epochs \d+ or --minutes [\d.]+", line)
    rank = int(re.search(r"or rank (\d+) of the run walk", line)[1])
    assert f"tune select walk {rank}" in line
    assert not list(models_folder().glob("best/[0-9]*"))
    tune(home, "select", "walk", rank, "-o", "other.toml")
    tune(home, "retrain", "other.toml", "--max-train-minutes", limit)
    version = find_model("other").read()
    assert version.train_seconds <= 1.15 * 60.0 * limit
    (promised,) = [row["accuracy"]["validation"]["int8"] for row in board if row["rank"] == rank]
    assert version.builds["int8"].accuracy["validation"].value >= promised - DROP
