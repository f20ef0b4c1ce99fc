"""The best takes too long to retrain: it is refused, and what is named in its place keeps it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from tuner.store.models import find_model, models_folder
from walk_support import tune

ROOM = 1.6
"""The limit is so many times what the quickest candidate is predicted to take."""

DROP = 0.01
"""Of the validation images: by so much a retrained model may be behind what the board said."""


def search(home: Path) -> None:
    """A run on pictures of parts, with a clock, so that it predicts times."""
    tune(
        home, "--target", "nano33ble", "--data", "sample:parts", "--time", "90s", "--name", "walk"
    )  # fmt: skip


def walk(home: Path) -> None:
    """The best is refused; what the refusal names is retrained within the limit."""
    board = json.loads(tune(home, "report", "walk", "--format", "json").stdout)
    tune(home, "select", "walk", 1, "-o", "best.toml")
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", 0.001, code=2).stderr
    needed = float(re.search(r"full training ([\d.]+) min > 0\.001", line)[1])
    predicted = [row["costs"]["nano33ble"]["train_minutes"] for row in board if row["rank"]]
    limit = round(ROOM * needed * min(predicted) / predicted[0], 3)
    assert limit < needed, "some candidate is much quicker than the best"
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", limit, code=2).stderr
    assert "takes too long" in line.splitlines()[-1]
    assert re.search(r"What fits: --epochs \d+ or --minutes [\d.]+", line)
    rank = int(re.search(r"or rank (\d+) of the run walk", line)[1])
    assert f"tune select walk {rank}" in line
    assert not list(models_folder().glob("best/[0-9]*"))
    tune(home, "select", "walk", rank, "-o", "other.toml")
    tune(home, "retrain", "other.toml", "--max-train-minutes", limit)
    version = find_model("other").read()
    assert version.train_seconds <= 1.15 * 60.0 * limit
    (promised,) = [row["accuracy"]["validation"]["int8"] for row in board if row["rank"] == rank]
    accuracy = version.builds["int8"].accuracy["validation"].value
    print(f"limit {limit} min, rank {rank}: promised {promised:.4f}, retrained {accuracy:.4f}")
    assert accuracy >= promised - DROP


@pytest.mark.slow
def test_the_walk_to_an_alternative_that_keeps_the_limit(home: Path):
    search(home)
    walk(home)
