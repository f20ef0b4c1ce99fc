"""Layouts that open and are hardly what their maker meant: told by the check and by a search."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_report_support import classes_of, kinds, problem
from pictures_support import fill, picture
from tuner.data import open_dataset
from tuner.data.check import check_data
from tuner.errors import DataError


def told(root: Path) -> str:
    """What a search tells at its start."""
    return open_dataset(root, split_seed=0).spec.doubt


@pytest.mark.parametrize("beside", [0, 3])
def test_a_stray_image_beside_the_training_classes(tmp_path: Path, beside: int) -> None:
    root = fill(
        tmp_path / "i",
        {"train/a": 5, "train/b": 5, "train": 1, "test/a": 5, "test/b": 5, "docs": beside},
    )
    spec = open_dataset(root, split_seed=0).spec
    assert spec.classes == ("a", "b")
    assert (spec.counts["training"] + spec.counts["validation"], spec.counts["test"]) == (10, 10)
    assert any(line.startswith("train/000.png: not in the folder") for line in spec.left_out)


def test_a_class_may_be_named_train(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"bus": 5, "car": 5, "train": 5, "train/steam": 2})
    assert open_dataset(root, split_seed=0).spec.classes == ("bus", "car", "train")


@pytest.mark.parametrize("splits", [("test", "train"), ("test", "train", "val")])
def test_splits_below_one_class_only(tmp_path: Path, splits: tuple[str, ...]) -> None:
    below = {f"plate/{split}": 4 for split in splits}
    root = fill(tmp_path / "i", {"cup": 5, "fork": 5, **below})
    found = problem(check_data(root), "packing")
    assert found.severity == "warning"
    assert found.text.startswith(f"{', '.join(splits)} lie below plate and not below each class")
    assert told(root) == f"{found.text}\n  {found.mend}"


def test_splits_that_differ_below_the_classes(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"a/train": 5, "a/test": 5, "b/train": 5, "b/test": 5, "b/val": 5})
    assert "test, train lie below a, b and" in problem(check_data(root), "packing").text


@pytest.mark.parametrize("names", [("trian", "test"), ("Images", "test_set", "val")])
def test_a_training_folder_under_an_unknown_name(tmp_path: Path, names: tuple[str, ...]) -> None:
    root = fill(tmp_path / "my data", {f"{name}/{c}": 5 for name in names for c in ("cup", "fork")})
    fill(root, {f"{names[0]}/rare": 5, "docs": 4})
    report = check_data(root)
    assert report.usable
    found = problem(report, "packing")
    assert "not read as splits above the classes cup, fork" in found.text
    assert f"leaves out 4 of {10 * len(names) + 9} images" in found.text
    start, _, command = found.mend.partition(": ")
    assert start == f"If {names[0]}/ is for training"
    command, _, mended = command.rpartition(" && tune data check ")
    subprocess.run(["bash", "-ec", command], check=True, timeout=60)
    after = check_data(mended.strip("'"))
    assert classes_of(after) == {"cup": 5 * len(names), "fork": 5 * len(names), "rare": 5}
    assert {row.test for row in after.classes} == {5, 0}
    assert "packing" not in kinds(after)


@pytest.mark.parametrize("name", ["eval", "tset"])
def test_a_folder_beside_the_splits_that_has_their_classes(tmp_path: Path, name: str) -> None:
    images = {"train/cup": 9, "train/fork": 9, f"{name}/cup": 3, f"{name}/fork": 3, "docs": 1}
    root = fill(tmp_path / "i", images)
    report = check_data(root)
    found = problem(report, "unused_split")
    assert found.severity == "warning"
    assert found.text == (
        f"{name}/ has classes of train/ and is not read: 6 of 25 images are left out."
    )
    assert "rename it to validation or test" in found.mend
    assert told(root) == f"{found.text}\n  {found.mend}"
    assert "docs/: not train, validation or test; images in it: 1" in report.left_out


@pytest.mark.parametrize("split", ["validation", "test"])
def test_a_class_that_a_split_lacks(tmp_path: Path, split: str) -> None:
    images = {"train/cup": 9, "train/fork": 9, "train/plate": 9}
    root = fill(tmp_path / "i", {**images, f"{split}/cup": 5, f"{split}/fork": 5})
    found = problem(check_data(root), "class_not_in_split")
    assert found.text == (
        f"{split} has no image of plate, so accuracy on it is over 2 of 3 classes."
    )
    assert told(root) == f"{found.text}\n  {found.mend}"


def test_a_class_that_a_split_of_arrays_lacks(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 8, 8, 3), dtype=np.uint8)
    arrays = {"x": x[:16], "y": np.arange(16) % 2, "x_test": x[16:], "y_test": np.zeros(4, int)}
    np.savez(tmp_path / "i.npz", **arrays)
    found = problem(check_data(tmp_path / "i.npz"), "class_not_in_split")
    assert found.text.startswith("test has no image of 1, so")
    assert found.text in told(tmp_path / "i.npz")


@pytest.mark.parametrize("zipped", [False, True])
def test_files_beside_the_classes(tmp_path: Path, zipped: bool) -> None:
    root = fill(tmp_path / "i", {"v1/cup": 5, "v1/fork": 5})
    others = ["readme.txt", "v1/Thumbs.db", "v1/cup.zip", "v1/cup/more.tar.gz", "v1/plate.zip"]
    for name in others:
        (root / name).write_bytes(b"")
    if zipped:
        root = Path(shutil.make_archive(str(tmp_path / "i"), "zip", root))
    report = check_data(root)
    assert problem(report, "other_files").items == tuple(others)
    found = problem(report, "packed_files")
    assert found.severity == "warning"
    assert found.items == ("v1/cup/more.tar.gz", "v1/plate.zip"), "cup/ is beside cup.zip"


@pytest.mark.parametrize("folder", ["", "x"])
def test_a_folder_that_holds_only_a_zip(tmp_path: Path, folder: str) -> None:
    images = fill(tmp_path / "images", {"cup": 5, "fork": 5})
    root = tmp_path / "i"
    inner = Path(shutil.make_archive(str(root / folder / "images"), "zip", images))
    with pytest.raises(DataError, match=rf"Received: no image, but .*\. Did you mean {inner}\?"):
        open_dataset(root, split_seed=0)
    report = check_data(root)
    assert f"Did you mean {inner}?" in problem(report, "data").text
    assert "packed_files" not in kinds(report), "it is in the error"
    outer = shutil.make_archive(str(tmp_path / "outer"), "zip", root)
    with pytest.raises(DataError, match="Unpack the outer zip"):
        open_dataset(outer, split_seed=0)
    (root / "other.zip").write_bytes(b"")
    with pytest.raises(DataError, match=r"but .*other\.zip.*\. Unpack them; lay them out as"):
        open_dataset(root, split_seed=0)


def test_a_class_with_the_folders_of_several(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"cup": 5, "other/fork": 5, "other/plate": 5})
    found = problem(check_data(root), "deeper_classes")
    assert found.severity == "note"
    assert found.text == (
        "other/ is taken for one class, with the images of its folders: fork, plate."
    )
    assert told(root) == ""
    plain = fill(tmp_path / "j", {"cup/near": 5, "cup/far": 5, "fork/near": 5, "fork/left": 5})
    assert "deeper_classes" not in kinds(check_data(plain))


def test_dark_images_of_16_bits_are_told_by_a_search(tmp_path: Path) -> None:
    for number, name in enumerate("ab"):
        (tmp_path / "i" / name).mkdir(parents=True)
        for index in range(5):
            values = np.asarray(picture(9 * number + index).convert("L")).astype(np.uint16) * 16
            Image.fromarray(values).save(tmp_path / "i" / name / f"{index}.png")
    found = problem(check_data(tmp_path / "i"), "dark")
    assert "values of 12 bits, of which the high byte is read" in found.text
    assert told(tmp_path / "i") == f"{found.text}\n  {found.mend}"


def test_all_warnings_of_a_search_are_told(tmp_path: Path) -> None:
    images = {"train/cup": 9, "train/fork": 9, "test/cup": 3, "eval/cup": 2}
    lines = told(fill(tmp_path / "i", images)).splitlines()
    assert [line.split(" ")[0] for line in lines if line[0] != " "] == ["eval/", "test"]
