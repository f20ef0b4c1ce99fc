"""Versions handed on through a folder, with checksums."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from tuner.errors import InputError, TuneError
from tuner.models.publish import CHECKSUMS, get, publish
from tuner.models.retrain import retrain
from tuner.store.models import ModelFolder, find_model, learned_from
from tuner.testing.models import trained
from tuner.testing.specs import small_candidate
from walk_support import tune


@pytest.fixture(scope="module")
def place(digits_home: Path) -> Path:
    """A home with digit@1, published at `shelf`."""
    data = str(digits_home / "digits.npz")
    trained(small_candidate(outputs=3), data, "digit", target="raspberry-pi-4", epochs=2)
    publish(find_model("digit"), str(digits_home / "shelf"))
    return digits_home


@pytest.fixture
def elsewhere(home: Path, place: Path) -> Path:
    """Another home, without models; the shelf's path."""
    return place / "shelf"


def test_a_version_arrives_whole_and_exports(home: Path, elsewhere: Path):
    done = tune(home, "models", "get", elsewhere, "digit")
    assert done.stdout.startswith("digit@1 from ")
    made = find_model("digit")
    shelf = elsewhere / "digit" / "1"
    for path in made.path.iterdir():
        if path.name != "model.json":
            assert path.read_bytes() == (shelf / path.name).read_bytes()
    assert {path.name for path in made.path.iterdir()} | {CHECKSUMS} == {
        path.name for path in shelf.iterdir()
    }
    tune(home, "export", "digit", "--to", "tflite", "-o", "out")


def test_a_version_whose_data_lies_elsewhere(home: Path, place: Path, elsewhere: Path):
    made = get(str(elsewhere), "digit")
    content = (made.path / "model.json").read_text()
    (made.path / "model.json").write_text(
        content.replace(str(place / "digits.npz"), str(home / "gone.npz"))
    )
    export = ("export", "digit", "--to", "tflite")
    told = tune(home, *export, code=2).stderr
    assert f"the data that digit@1 was trained on at {home / 'gone.npz'}" in told
    assert "Say where it lies now: --data PATH" in told
    other = tune(home, *export, "--data", "sample:digits", code=2).stderr
    assert "sample:digits is not, or no longer, what digit@1 was trained on" in other
    assert not (home / "exports").exists()
    tune(home, *export, "--data", place / "digits.npz")
    compared = tune(home, "compare", "digit@1", "digit", code=2).stderr
    assert "Name images with --input PATH" in compared


def test_it_becomes_the_next_version_under_any_name(home: Path, elsewhere: Path):
    assert get(str(elsewhere), "digit@1", "own").reference == "own@1"
    assert get(str(elsewhere), "digit", "own").reference == "own@2"
    assert find_model("own").read().name == "own"


def test_the_parent_of_another_home_is_told_and_is_no_version_here(home: Path, place: Path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(place))
        child = retrain(continued="digit@1", epochs=1, quantization_percent=0, name="child")
        publish(child, str(place / "shelf"))
    made = get(str(place / "shelf"), "child", "digit")
    assert made.reference == "digit@1", "the name of its parent there"
    version = made.read()
    assert version.parent is None
    assert (version.origin.reference, version.origin.parent) == ("child@1", "digit@1")
    (row,) = json.loads(tune(home, "models", "--format", "json").stdout)
    assert row["origin"] == {"reference": "child@1", "parent": "digit@1"}
    publish(made, str(home / "shelf"))
    again = get(str(home / "shelf"), "digit").read()
    assert (again.origin.reference, again.origin.parent) == ("digit@1", "digit@1")
    child = retrain(continued="digit@1", epochs=1, quantization_percent=0)
    assert (child.reference, child.read().parent) == ("digit@3", "digit@1")


def test_published_versions_are_not_overwritten(home: Path, place: Path, monkeypatch):
    monkeypatch.setenv("TUNE_HOME", str(place))
    with pytest.raises(InputError, match=r"digit@1 is published at .*never overwritten"):
        publish(find_model("digit"), str(place / "shelf"))


def test_what_is_not_there_is_said_with_what_is(home: Path, elsewhere: Path):
    for wanted in ("digit@7", "digits"):
        with pytest.raises(InputError, match=rf"Received: {wanted}"):
            get(str(elsewhere), wanted)
    assert "digit@1" in tune(home, "models", "get", elsewhere, "digit@7", code=2).stderr


@pytest.mark.parametrize("content", ["", "{", "[]", "{}"])
def test_damaged_checksums_are_named(
    home: Path, elsewhere: Path, tmp_path: Path, content: str
) -> None:
    shutil.copytree(elsewhere, tmp_path / "copy")
    (tmp_path / "copy" / "digit" / "1" / CHECKSUMS).write_text(content)
    with pytest.raises(
        TuneError, match=rf"{CHECKSUMS} of digit at .* is damaged.*Publish it again"
    ):
        get(str(tmp_path / "copy"), "digit")


@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_damaged_files_are_not_taken(home: Path, elsewhere: Path, tmp_path: Path, damage: str):

    shelf = tmp_path / "copy"
    shutil.copytree(elsewhere, shelf)
    file = shelf / "digit" / "1" / "int8.tflite"
    assert file.name in json.loads((file.parent / CHECKSUMS).read_text())
    if damage == "gone":
        file.unlink()
    else:
        content = bytearray(file.read_bytes())
        content[-1] ^= 1
        file.write_bytes(content)
    with pytest.raises(
        TuneError, match=r"int8\.tflite of digit .*(damaged|missing).* first remove digit/1 there\."
    ):
        get(str(shelf), "digit")
    with pytest.raises(TuneError):
        find_model("digit")
    shutil.rmtree(shelf / "digit" / "1")  # as the line said
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(elsewhere.parent))
        publish(find_model("digit"), str(shelf))
    assert get(str(shelf), "digit").reference == "digit@1"


def test_an_address_of_a_file_system(home: Path, elsewhere: Path):
    assert "digit@1 from file://" in tune(home, "models", "get", elsewhere.as_uri(), "digit").stdout


def test_an_address_of_an_unknown_kind(home: Path, place: Path):
    with pytest.raises(InputError, match=r"whose kind fsspec knows\. Received: nowhere://models"):
        get("nowhere://models", "digit")


def test_versions_that_name_each_other_as_parents(home: Path, small_model: ModelFolder):
    for name, parent in (("a", "b@1"), ("b", "a@1")):
        file = Path(shutil.copytree(small_model.path, home / "models" / name / "1")) / "model.json"
        file.write_text(json.dumps({**json.loads(file.read_text()), "parent": parent}))
    assert len(list(learned_from(find_model("a")))) == 2
