"""Two versions on the same images."""

from __future__ import annotations

import base64
import dataclasses
import io
import json
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from tuner.dashboard import compare_page as compare_page_module
from tuner.dashboard.compare_page import compare_page, groups_of
from tuner.models.compare import Pairs, compare
from tuner.models.retrain import retrain
from tuner.store.models import find_model
from tuner.testing.models import trained
from tuner.testing.specs import small_candidate
from walk_support import tune

CLASSES = ("zero", "one", "two")


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


def test_the_page_shows_first_what_they_differ_on(place: Path):
    taken = compare(find_model("digit@1"), find_model("digit@2"))
    groups = groups_of(taken)
    assert sorted(at for group in groups for at in group.places) == list(range(len(taken.labels)))
    differs = [group.differs for group in groups]
    assert differs == sorted(differs, reverse=True)
    assert differs[0]
    first, second = taken.predictions["int8"]
    for group in groups:
        for at in group.places:
            assert (first.classes[at] != second.classes[at]) == group.differs
    counted = taken.comparison.pairs["int8"]
    sizes = {group.title: len(group.places) for group in groups}
    assert sizes.get("Only digit@1 is right", 0) == counted.first
    assert sizes.get("Only digit@2 is right", 0) == counted.second
    assert sizes["Both right"] == counted.both


def test_the_page_is_one_file_with_both_predictions_of_each_image(place: Path):
    done = tune(place, "compare", "digit@1", "digit@2", "--format", "html")
    assert done.stdout == "Written: digit-1-digit-2.html\n"
    text = (place / "digit-1-digit-2.html").read_text()
    taken = compare(find_model("digit@1"), find_model("digit@2"))
    figures = re.findall(r"<figure.*?</figure>", text, re.S)
    assert len(figures) == len(taken.labels)
    at = groups_of(taken)[0].places[0]
    for precision, both in taken.predictions.items():
        for model, found in zip(("digit@1", "digit@2"), both, strict=True):
            row = rf"{model} {precision}</td><td>.*?{CLASSES[found.classes[at]]}.*?"
            assert re.search(row + f"{100 * found.confidences[at]:.0f} %", figures[0], re.S)
    picture = re.search(r"data:image/jpeg;base64,([^\"]+)", figures[0])
    assert Image.open(io.BytesIO(base64.b64decode(picture[1]))).size == (8, 8)
    assert "@@" not in text
    assert str(place) not in text, "a path is nobody's business"
    assert re.findall(r'(?:src|href)="(?!data:)', text) == []


def test_names_of_classes_are_text_and_the_page_is_bounded(place: Path, monkeypatch):
    taken = compare(find_model("digit@1"), find_model("digit@2"))
    hostile = ("<b onload=x>", "</script><script>", "@@style@@")
    spec = dataclasses.replace(taken.dataset.spec, classes=hostile)
    monkeypatch.setattr(taken.dataset, "spec", spec)
    text = compare_page(taken)
    assert "<b onload=x>" not in text
    assert text.count("<script>") == 1
    assert "@@style@@" in text
    monkeypatch.setattr(compare_page_module, "PICTURES_LETTERS", 5000)
    small = compare_page(taken)
    assert 0 < small.count("<img") < text.count("<img")
    assert " are shown" in small


def test_a_page_alone_is_written_to_a_file(place: Path):
    line = tune(place, "compare", "digit@1", "digit@2", "-o", "x.html", code=2).stderr
    assert "Expected -o together with --format html" in line


counts = st.integers(0, 1000)


@given(counts, counts, counts, counts)
def test_the_error_is_that_of_the_mean_of_pairs(both: int, first: int, second: int, neither: int):
    if both + first + second + neither == 0:
        return
    pairs = Pairs(both=both, first=first, second=second, neither=neither)
    differences = np.repeat([0, -1, 1, 0], [both, first, second, neither])
    assert pairs.gain == pytest.approx(differences.mean())
    assert pairs.gain_error == pytest.approx(differences.std() / np.sqrt(pairs.images), abs=1e-12)
