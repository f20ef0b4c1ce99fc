"""Two versions on the same images."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models_support import trained
from tests_support import small_candidate
from tuner.models.compare import Pairs
from tuner.models.retrain import retrain
from walk_support import tune


@pytest.fixture(scope="module")
def place(digits_home: Path) -> Path:
    """A home with digit@1, hardly trained, and digit@2, which goes on from it."""
    data = str(digits_home / "digits.npz")
    trained(small_candidate(outputs=3), data, "digit", target="raspberry-pi-4", epochs=1)
    retrain(continued="digit@1", epochs=40)
    return digits_home


def test_the_better_version_is_told_with_its_error(place: Path):
    told = json.loads(tune(place, "compare", "digit@1", "digit@2", "--format", "json").stdout)
    assert told["models"] == ["digit@1", "digit@2"]
    assert told["splits"] == ["test"]
    models = {row["version"]: row for row in json.loads(
        tune(place, "models", "--format", "json").stdout)}  # fmt: skip
    for precision, pairs in told["pairs"].items():
        images = sum(pairs.values())
        for version, only in ((1, "first"), (2, "second")):
            accuracy = models[version]["accuracy"]["test"][precision]
            assert (pairs["both"] + pairs[only]) / images == pytest.approx(accuracy)
    text = tune(place, "compare", "digit@1", "digit@2").stdout
    assert "digit@2 is ahead by " in text
    assert max(map(len, text.splitlines()[1:])) <= 80  # the first has a path
    assert "digit@1 is behind by " in tune(place, "compare", "digit@2", "digit@1").stdout
    same = tune(place, "compare", "digit@2", "digit").stdout
    assert "digit@2 is ahead by 0.00 ±0.00 points, within chance" in same


def test_all_images_of_another_source(place: Path):
    with np.load(place / "digits.npz") as arrays:
        few = {"x": arrays["x"], "y": arrays["y"], "classes": arrays["classes"]}
    np.savez(place / "few.npz", **few)
    told = json.loads(
        tune(place, "compare", "digit@1", "digit", "--input", "few.npz", "--format", "json").stdout
    )
    assert sum(told["pairs"]["int8"].values()) == len(few["y"])


def test_other_classes_are_not_compared(place: Path):
    with np.load(place / "digits.npz") as arrays:
        np.savez(place / "renamed.npz", **{**arrays, "classes": np.array(["a", "b", "c"])})
    done = tune(place, "compare", "digit@1", "digit", "--input", "renamed.npz", code=2)
    assert "Expected the classes of digit@1, zero, one, two" in done.stderr
    assert "Received: a, b, c" in done.stderr


counts = st.integers(0, 1000)


@given(counts, counts, counts, counts)
def test_the_error_is_that_of_the_mean_of_pairs(both: int, first: int, second: int, neither: int):
    if both + first + second + neither == 0:
        return
    pairs = Pairs(both=both, first=first, second=second, neither=neither)
    differences = np.repeat([0, -1, 1, 0], [both, first, second, neither])
    assert pairs.gain == pytest.approx(differences.mean())
    assert pairs.gain_error == pytest.approx(differences.std() / np.sqrt(pairs.images), abs=1e-12)
