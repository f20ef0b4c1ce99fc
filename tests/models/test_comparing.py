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
from tuner.engine.transfer import learned_before
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


def other_classes(home: Path) -> Path:
    """The digits under other names."""
    with np.load(home / "digits.npz") as arrays:
        np.savez(home / "renamed.npz", **{**arrays, "classes": np.array(["a", "b", "c"])})
    return home / "renamed.npz"


def test_versions_of_other_classes_are_not_compared(place: Path):
    data = str(other_classes(place))
    trained(small_candidate(outputs=3), data, "renamed", target="raspberry-pi-4", epochs=1)
    done = tune(place, "compare", "digit@1", "renamed", code=2)
    assert "Expected the classes of digit@1, zero, one, two, in renamed@1." in done.stderr
    assert "Received: a, b, c" in done.stderr


def test_a_version_of_another_split_is_told(place: Path):
    """Some images that it learned from are test images of the other."""
    with np.load(place / "digits.npz") as arrays:
        fewer = {"x": arrays["x"][:-9], "y": arrays["y"][:-9], "classes": arrays["classes"]}
    np.savez(place / "fewer.npz", **fewer)
    notes: list[str] = []
    options = {"epochs": 1, "quantization_percent": 0, "on_note": notes.append}
    retrain(continued="digit@1", data=str(place / "fewer.npz"), name="fewer", **options)
    assert any(line.startswith("digit@1 learned from other data, or from") for line in notes)
    told = json.loads(tune(place, "compare", "digit@1", "fewer", "--format", "json").stdout)
    assert told["doubtful"] == ["fewer@1"]
    text = tune(place, "compare", "digit@1", "fewer").stdout
    assert "fewer@1 learned from other data, or from another split" in " ".join(text.split())
    # So is what goes on from it, though on the data that it was trained on last.
    told = json.loads(tune(place, "compare", "fewer", "digit@1", "--format", "json").stdout)
    assert told["doubtful"] == ["fewer@1", "digit@1"]
    notes.clear()
    retrain(continued="digit@1", **options)
    assert not any("learned from" in line for line in notes)
    told = json.loads(tune(place, "compare", "digit@1", "digit", "--format", "json").stdout)
    assert told["doubtful"] == []
    dataset = find_model("fewer@1").read().dataset
    assert learned_before("digit@1", dataset).startswith("digit@1 learned from other data")
    others = dataclasses.replace(dataset, classes=("cat", "dog"))
    assert learned_before("digit@1", others) == "", "it has no image of those"
    digits = find_model("digit@1").read().dataset
    for source in ("", "imagenet", "digit@1", "gone@3"):
        assert learned_before(source, digits) == ""


def test_of_images_of_unknown_classes_the_agreement_is_told(place: Path):
    data = other_classes(place).name
    done = tune(place, "compare", "digit@1", "digit@2", "--input", data)
    assert "No classes of digit@1: a, b, c." in done.stdout
    assert re.search(r"alike +[\d,]+ of [\d,]+ images, [\d.]+%", done.stdout)
    assert "right" not in done.stdout


def pictures(home: Path, *names: str) -> str:
    """A folder with real images of the class one, under these names."""
    with np.load(home / "digits.npz") as arrays:
        images = arrays["x"][arrays["y"] == 1]
    folder = home / f"pictures-{len(names)}-{len(list(home.glob('pictures-*')))}"
    for name, image in zip(names, images, strict=False):
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(image.reshape(image.shape[:2])).save(path)
    return folder.name


def told(home: Path, source: str) -> dict:
    """What `tune compare --format json` says of these images."""
    options = ("--input", source, "--format", "json")
    return json.loads(tune(home, "compare", "digit@1", "digit@2", *options).stdout)


def test_one_image_without_a_label(place: Path):
    folder = pictures(place, "photo.png")
    for source in (folder, f"{folder}/photo.png"):
        found = told(place, source)
        assert (found["images"], found["unlabelled"], found["pairs"]) == (1, 1, {})
        assert found["alike"]["int8"] in (0, 1)
        assert found["unknown_classes"] == []
    text = tune(place, "compare", "digit@1", "digit@2", "--input", folder).stdout
    assert "Images without a label of its classes: 1." in text
    page = compare_page(compare(find_model("digit@1"), find_model("digit@2"), folder))
    assert "Images without a label of its classes: 1." in page
    assert "No label, said" in page
    assert "no label</span>" in page
    assert "true:" not in page


def test_folders_tell_the_labels_that_are_known(place: Path):
    names = ("test/one/1.png", "one/deep/2.png", "other/3.png", "other/one/4.png", "loose.png")
    folder = pictures(place, *names)
    (place / folder / "one" / "broken.png").write_bytes(b"nothing")
    found = told(place, folder)
    assert found["images"] == 5
    assert found["unlabelled"] == 2, "in other/, and in none"
    assert sum(found["pairs"]["int8"].values()) == 3
    assert found["unknown_classes"] == ["other"]
    (left_out,) = found["left_out"]
    assert left_out.startswith("one/broken.png: ")
    assert found["splits"] == []


def test_a_folder_without_images_is_said(place: Path):
    (place / "empty").mkdir()
    line = tune(place, "compare", "digit@1", "digit@2", "--input", "empty", code=2).stderr
    assert "Expected images that can be read in" in line


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
    taken = dataclasses.replace(taken, classes=hostile)
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
