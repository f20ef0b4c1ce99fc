"""Layouts that `tune data check` recognises, and that its commands mend them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from data_report_support import classes_of, kinds, problem
from odd_images_support import digests
from pictures_support import fill, picture
from tuner.data import open_dataset
from tuner.data.check import DataReport, check_data


def mend(report: DataReport, where: Path, *, usable: bool = False) -> DataReport:
    """Run the command that mends the packing, and check what it leads to."""
    assert report.usable == usable
    before = digests(where)
    command = problem(report, "packing").mend.removeprefix("If those are the classes: ")
    *commands, last = command.rsplit("; ", 1) if "; " in command else command.rsplit(" && ", 1)
    words = last if commands else command
    assert words.startswith("tune data check ")
    for line in commands:
        subprocess.run(["bash", "-ec", line], check=True, timeout=60, cwd=where)
    mended = words.removeprefix("tune data check ").strip("'")
    assert {name: before[name] for name in before} == {
        name: digest for name, digest in digests(where).items() if name in before
    }
    return check_data(where / mended)


def test_an_extra_folder(tmp_path: Path) -> None:
    root = fill(tmp_path / "my data", {"v1/images/a": 5, "v1/images/b": 5, "v1/doc": 0})
    (root / "readme.txt").write_text("")
    report = check_data(root)
    assert report.usable
    assert classes_of(report) == {"a": 5, "b": 5}
    assert problem(report, "passed_through").text.startswith("v1/images/ is around all images")
    fill(root, {"": 2})
    found = check_data(root)
    assert problem(found, "packing").text.endswith(
        "are in v1/images/, 2 levels too deep. The command below leaves out 2 of 12 images."
    )
    assert classes_of(mend(found, root)) == {"a": 5, "b": 5}


@pytest.mark.parametrize("docs", [1, 6])
@pytest.mark.parametrize("names", [("train", "test"), ("training_set", "test_set")])
def test_splits_below_what_is_taken_for_a_class(
    tmp_path: Path, docs: int, names: tuple[str, str]
) -> None:
    images = {f"parts v2/{split}/{c}": 5 for split in names for c in ("cup", "fork")}
    root = fill(tmp_path / "i", {**images, "docs": docs})
    report = check_data(root)
    text = problem(report, "packing").text
    assert "parts v2/ is taken for a class, but holds" in text
    assert f"The command below leaves out {docs} of {20 + docs} images." in text
    inner = mend(report, root, usable=docs > 1)
    assert inner.images == 20
    if names == ("training_set", "test_set"):
        inner = mend(inner, root, usable=True)
    assert classes_of(inner) == {"cup": 10, "fork": 10}
    assert {row.test for row in inner.classes} == {5}


@pytest.mark.parametrize(
    ("train", "test", "usable"),
    [
        ("training_set", "test_set", True),
        ("train images", "testing", True),
        ("train", "Test-Imgs", True),
        ("seg_train/seg_train", "seg_test/seg_test", True),
        ("dataset-train", "test", True),
        ("train/images", "test/images", False),
        ("train", "test/images", False),
    ],
)
def test_splits_under_other_names(tmp_path: Path, train: str, test: str, usable: bool) -> None:
    root = fill(
        tmp_path / "my data",
        {f"{train}/cup": 6, f"{train}/fork": 6, f"{test}/cup": 5, f"{test}/fork": 5},
    )
    report = check_data(root)
    text = problem(report, "packing").text
    assert f"{train}/, {test}/ look like training, test data above the classes cup, fork" in text
    assert "leaves out" not in text
    mended = mend(report, root, usable=usable)
    assert classes_of(mended) == {"cup": 11, "fork": 11}
    assert {row.test for row in mended.classes} == {5}
    assert "packing" not in kinds(mended)


def test_several_folders_of_splits_beside_a_class(tmp_path: Path) -> None:
    images = {f"v{n}/{s}/{c}": 4 + n for n in (1, 2) for s in ("train", "test") for c in "ab"}
    report = check_data(fill(tmp_path / "i", {**images, "docs": 5}))
    text = problem(report, "packing").text
    assert "v1/, v2/ are taken for classes, but hold test/, train/" in text
    assert "leaves out 25 of 49 images" in text
    assert classes_of(mend(report, tmp_path / "i", usable=True)) == {"a": 12, "b": 12}


def test_images_beside_splits_under_other_names_are_counted(tmp_path: Path) -> None:
    images = {f"{split}/{c}": 5 for split in ("training", "tests") for c in "ab"}
    report = check_data(fill(tmp_path / "i", {**images, "docs": 4}))
    assert "leaves out" in problem(report, "packing").text
    twice = {f"{split}/{c}": 5 for split in ("train1", "train2", "test") for c in "ab"}
    report = check_data(fill(tmp_path / "j", twice))
    assert problem(report, "packing").mend.startswith("Merge the folders of one split")


@pytest.mark.parametrize(
    "images",
    [
        {"train/a": 5, "train/b": 5, "test/a": 5, "test/b": 5, "docs": 5},
        {"bus": 5, "car": 5, "train": 5},
        {"train_station/day": 5, "train_station/night": 5, "test_tube/a": 5, "test_tube/b": 5},
        {"test_set": 5, "validation set": 5},
        {"train/x": 5, "train/y": 5},
    ],
)
def test_what_only_resembles_misnamed_splits(tmp_path: Path, images: dict[str, int]) -> None:
    assert "packing" not in kinds(check_data(fill(tmp_path / "i", images)))


@pytest.mark.parametrize(
    ("names", "usable"), [(("train", "test"), False), (("trainset", "test_images"), True)]
)
def test_splits_with_the_classes_in_the_names(
    tmp_path: Path, names: tuple[str, str], usable: bool
) -> None:
    root = tmp_path / "my data"
    for split, each in zip(names, (12, 6), strict=True):
        (root / split).mkdir(parents=True)
        for number in range(each):
            name = f"{('cup', 'fork')[number % 2]}_{number:02}.png"
            picture(number + 50 * each).save(root / split / name)
    report = check_data(root)
    text = problem(report, "packing").text
    assert f"18 images lie in 2 folders, {names[0]}/, {names[1]}/, and nothing" in text
    assert "leaves out" not in text
    mended = mend(report, root, usable=usable)
    assert classes_of(mended) == {"cup": 9, "fork": 9}
    assert {row.test for row in mended.classes} == {3}


def test_test_images_without_classes_are_counted(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"train": 0, "test": 4})
    for number in range(12):
        picture(number + 50).save(root / "train" / f"{('cup', 'fork')[number % 2]}{number}.png")
    report = check_data(root)
    assert problem(report, "packing").text.endswith("leaves out 4 of 16 images.")
    assert classes_of(mend(report, root)) == {"cup": 6, "fork": 6}


def test_all_in_one_folder_with_the_classes_in_the_names(tmp_path: Path) -> None:
    root = tmp_path / "my data"
    root.mkdir()
    for number in range(12):
        picture(number).save(root / f"{('cat', 'cat_wild', 'dog')[number % 3]}_{number:02}.png")
    report = check_data(root)
    assert "12 images lie in one folder" in problem(report, "packing").text
    assert classes_of(mend(report, root)) == {"cat": 4, "cat_wild": 4, "dog": 4}


def test_all_in_one_folder_with_names_of_a_camera(tmp_path: Path) -> None:
    root = tmp_path / "i"
    root.mkdir()
    for number in range(6):
        picture(number).save(root / f"{('IMG', 'DSC')[number % 2]}_{number}.png")
    found = problem(check_data(root), "packing")
    assert "nothing says their classes" in found.text
    assert "Make a folder per class" in found.mend
    assert "docs/guides/own-data.md" in found.mend


def test_boxes_of_object_detection(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"JPEGImages": 5, "Annotations": 0})
    (root / "Annotations" / "000.xml").write_text("<annotation/>")
    assert "(Pascal VOC), which are not read" in problem(check_data(root), "packing").text


@pytest.mark.parametrize(
    ("folder", "header", "row", "name"),
    [
        ("pics", "id,width,species", '{n},12,"a ""b"" {c}"', "labels.csv"),
        ("", "file\tlabel", "{n}.png\t{c}", "train labels.tsv"),
        ("x/pics", "class;path;class", "{c};some/where/{n}.png;{c}", "x/y.csv"),
    ],
)
def test_labels_in_a_table(tmp_path: Path, folder: str, header: str, row: str, name: str) -> None:
    root = tmp_path / "my data"
    (root / folder).mkdir(parents=True)
    for number in range(10):
        picture(number).save(root / folder / f"{number:03}.png")
    rows = [row.format(n=f"{n:03}", c=f"c/{n % 2}") for n in range(11)]
    (root / name).write_text("\n".join([header, *rows, ""]))
    report = check_data(root)
    assert "holds their labels" in problem(report, "packing").text
    assert sorted(classes_of(mend(report, root)).values()) == [5, 5]


def test_labels_of_the_training_images_in_a_table(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"train": 10, "test": 3})
    rows = [f"{number:03}.png,{'cd'[number % 2]}" for number in range(10)]
    (root / "train.csv").write_text("\n".join(["image,label", *rows]))
    report = check_data(root)
    assert problem(report, "packing").text.endswith("leaves out 3 of 13 images.")
    assert classes_of(mend(report, root)) == {"c": 5, "d": 5}


def test_a_table_of_something_else(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"pics": 6})
    (root / "weather.csv").write_text("day,rain\n1,2\n2,3\n")
    (root / "odd.csv").write_bytes(b"\xff\xfe\x00")
    (root / "empty.csv").write_bytes(b"")
    assert "nothing says their classes" in problem(check_data(root), "packing").text


@pytest.mark.parametrize("below", ["", "/left", "/near/left"])
def test_splits_below_the_classes(tmp_path: Path, below: str) -> None:
    folders = [f"{c}/{s}{below}" for c in ("a b", "c") for s in ("test", "train")]
    root = fill(tmp_path / "i", dict.fromkeys(folders, 5))
    report = check_data(root)
    assert report.usable
    command, _, last = problem(report, "packing").mend.rpartition("; ")
    subprocess.run(["bash", "-ec", command], check=True, timeout=60)
    before = digests(root)
    assert subprocess.run(["bash", "-ec", command], capture_output=True, timeout=60).returncode
    assert digests(root) == before, "a second run adds nothing to the originals"
    mended = check_data(last.removeprefix("tune data check "))
    assert classes_of(mended) == {"a b": 10, "c": 10}
    assert {row.test for row in mended.classes} == {5}


@pytest.mark.parametrize(
    "images",
    [
        {"cat/train": 5, "cat/test": 5, "dog/train": 5, "dog/test": 5},
        {"training_set/cup": 5, "training_set/fork": 5, "test_set/cup": 5, "test_set/fork": 5},
        {"v1/train/cup": 5, "v1/train/fork": 5, "v1/test/cup": 5, "v1/test/fork": 5, "docs": 5},
        {"images/a": 5, "images/b": 5, "masks/a": 5, "masks/b": 5},
        {"a": 5, "b": 5},
    ],
)
def test_what_is_found_is_kept_with_the_data(tmp_path: Path, images: dict[str, int]) -> None:
    root = fill(tmp_path / "i", images)
    found = [f"{p.text}\n  {p.mend}" for p in check_data(root).problems if p.kind == "packing"]
    assert open_dataset(root, split_seed=0).spec.doubt == "".join(found)
    assert bool(found) == (len(images) > 2)


def test_classes_below_what_is_taken_for_them(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {f"{top}/{c}": 5 for top in ("images", "masks") for c in "ab"})
    found = problem(check_data(root), "packing")
    assert found.severity == "warning"
    assert found.text == (
        "images, masks are taken for the classes, and each holds a, b. The command below leaves "
        "out 10 of 20 images."
    )
    assert found.mend.endswith(f"tune data check {root}/images")


def test_a_zip_with_wrong_packing(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"pics": 4})
    for number, path in enumerate(sorted((root / "pics").iterdir())):
        path.rename(path.with_name(f"{'ab'[number % 2]}{number}.png"))
    shutil.make_archive(str(tmp_path / "packed"), "zip", root)
    report = check_data(tmp_path / "packed.zip")
    assert not report.usable
    if shutil.which("unzip"):
        assert classes_of(mend(report, tmp_path)) == {"a": 2, "b": 2}
