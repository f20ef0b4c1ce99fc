"""What `tune data check` finds in images, classes and splits."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from data_report_support import classes_of, kinds, problem
from odd_images_support import digests, saved
from pictures_support import fill, picture
from tuner.data import open_dataset
from tuner.data.check import Spread, check_data
from tuner.data.samples import parts
from tuner.errors import DataError


def part(index: int) -> Image.Image:
    return Image.fromarray(parts.draw(index))


def part_folder(root: Path, classes: str = "ab", each: int = 6, first: int = 0) -> Path:
    for number, name in enumerate(classes):
        (root / name).mkdir(parents=True)
        for index in range(each):
            part(first + number * each + index).save(root / name / f"{index}.png")
    return root


def test_a_sound_data_set(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.data.problems.ADVISED_IMAGES", 6)
    root = part_folder(tmp_path / "images")
    report = check_data(root)
    assert report.problems == ()
    assert report.usable
    assert report.fingerprint == open_dataset(root, split_seed=0).spec.fingerprint
    assert classes_of(report) == {"a": 6, "b": 6}
    assert [(c.training, c.validation, c.test) for c in report.classes] == [(4, 1, 1), (4, 1, 1)]


def test_counts_sizes_and_colours(tmp_path: Path) -> None:
    root = tmp_path / "images"
    (root / "a").mkdir(parents=True)
    (root / "b").mkdir()
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(0, 40, 20).save(root / "a" / "turned.jpg", exif=exif)
    frames = [picture(seed, 10, 10) for seed in range(3)]
    frames[0].save(root / "a" / "moving.gif", save_all=True, append_images=frames[1:])
    picture(1, 30, 30).convert("L").save(root / "b" / "grey.png")
    picture(2, 5, 4).convert("RGBA").save(root / "b" / "alpha.png")
    (root / "b" / "cut.png").write_bytes(saved(picture(3), "PNG")[:99])
    report = check_data(root)
    assert (report.images, report.unreadable) == (4, 1)
    assert report.width == Spread(min=5, median=15, max=30)
    assert report.height == Spread(min=4, median=20, max=40)
    assert report.aspect == Spread(min=0.5, median=1, max=1.25)
    assert report.modes == {"RGB": 1, "P": 1, "L": 1, "RGBA": 1}
    assert report.kinds == {"JPEG": 1, "GIF": 1, "PNG": 2}
    assert (report.animated, report.turned) == (1, 1)
    readable = [path for path in root.rglob("*.*") if path.name != "cut.png"]
    assert report.size_bytes == sum(path.stat().st_size for path in readable)
    assert report.left_out == ("b/cut.png: truncated",)
    assert problem(report, "small_images").items == ("b/alpha.png: 5x4",)
    assert not report.usable
    assert "at least 4 readable images in each class" in problem(report, "data").text


def test_classes_that_are_small_or_uneven(tmp_path: Path) -> None:
    report = check_data(fill(tmp_path / "i", {"few": 5, "many": 51}))
    assert problem(report, "few_images").items == ("few: 5", "many: 51")
    assert "'many' has 51 images, class 'few' has 5" in problem(report, "uneven_classes").text
    report = check_data(fill(tmp_path / "j", {"few": 300, "many": 310}))
    assert "few_images" not in kinds(report)
    assert "uneven_classes" not in kinds(report)


def test_the_same_image_in_two_classes_and_splits(tmp_path: Path) -> None:
    root = tmp_path / "i"
    part_folder(root / "train")
    part_folder(root / "test", each=3, first=20)
    shutil.copy(root / "train" / "a" / "0.png", root / "train" / "b" / "again.png")
    shutil.copy(root / "train" / "a" / "1.png", root / "test" / "a" / "again.png")
    shutil.copy(root / "train" / "a" / "2.png", root / "train" / "a" / "again.png")
    report = check_data(root)
    (pair,) = problem(report, "same_in_two_classes").items
    assert "train/a/0.png" in pair
    assert "train/b/again.png" in pair
    pairs = problem(report, "same_in_two_splits").items
    assert any("test/a/again.png (test)" in pair and "train/a/1.png" in pair for pair in pairs)
    assert problem(report, "duplicates").count == 3
    assert {len(group) for group in report.duplicates} == {2}
    assert not report.near_duplicates, "copies are no near duplicates"
    assert "none for validation" in problem(report, "split_missing").text


def test_images_that_look_alike(tmp_path: Path) -> None:
    root = tmp_path / "i"
    part_folder(root / "train")
    part_folder(root / "test", each=3, first=20)
    part(0).save(root / "train" / "b" / "again.jpg", quality=85)
    part(1).resize((80, 80)).save(root / "test" / "a" / "smaller.png")
    report = check_data(root)
    assert [sorted(group) for group in report.near_duplicates] == [
        ["test/a/smaller.png", "train/a/1.png"],
        ["train/a/0.png", "train/b/again.jpg"],
    ]
    assert problem(report, "near_in_two_classes").count == 1
    found = problem(report, "near_in_two_splits")
    assert found.count >= 1
    assert found.mend.endswith("what belongs together: --group-by.")
    assert "same_in_two_classes" not in kinds(report)


def test_frames_that_a_pattern_keeps_together(tmp_path: Path) -> None:
    root = tmp_path / "i"
    for number in range(12):
        name = "ab"[number % 2]
        (root / name).mkdir(parents=True, exist_ok=True)
        for frame in range(4):
            scene = part(number).crop((frame, 0, 90 + frame, 90))
            scene.save(root / name / f"video{number}_{frame}.jpg", quality=90)
    picture(0, 90, 90).save(root / "a" / "alone.png")
    before = check_data(root)
    command = f"tune data check {root} --group-by '^(.+)[_-][0-9]+\\.'"
    assert problem(before, "near_in_two_splits").mend.endswith(command)
    grouped = check_data(root, group_by=r"^(.+)[_-][0-9]+\.")
    assert "near_in_two_splits" not in kinds(grouped)
    assert grouped.near_duplicates == before.near_duplicates
    text = problem(grouped, "groups").text
    assert "gives 12 groups; the largest, 'video0', has 4 images." in text
    assert "1 image is in no group" in text


def test_nothing_is_passed_over_in_silence(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {"a": 5, "b": 5, ".git": 2, "empty": 0})
    picture(1).save(root / "a" / ".thumb.png")
    picture(2).save(root / "loose.png")
    (root / "a" / "notes.txt").write_text("")
    (root / "b" / "raw").write_text("")
    report = check_data(root)
    assert problem(report, "hidden").items == (".git", "a/.thumb.png")
    assert problem(report, "other_files").items == ("a/notes.txt", "b/raw")
    assert "by the ending (.txt 1, none 1)" in problem(report, "other_files").text
    assert (
        problem(report, "left_out").items
        == report.left_out
        == (
            "loose.png: not in the folder of a class",
            "empty/: no images in it",
        )
    )


def test_class_names_that_hardly_differ(tmp_path: Path) -> None:
    report = check_data(fill(tmp_path / "i", {"Gut": 5, "gut ": 5, "gu\u0308t": 5, "g\u00fct": 5}))
    texts = [p.text for p in report.problems if p.kind == "class_names"]
    assert len(texts) == 2
    assert any("'Gut' and 'gut '" in text for text in texts)


@pytest.mark.parametrize(
    ("images", "words"),
    [
        ({"a/x": 5, "a/y": 5, "b": 1}, "class 'b' has 1 readable image"),
        ({"val/a": 5, "test/a": 5}, "Expected a folder train/"),
    ],
)
def test_errors_that_are_no_packing(tmp_path: Path, images: dict[str, int], words: str) -> None:
    report = check_data(fill(tmp_path / "i", images))
    assert not report.usable
    assert words in problem(report, "data").text


def test_no_data_at_all(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="does not exist"):
        check_data(tmp_path / "none")


def test_arrays_and_samples(tmp_path: Path) -> None:
    x = np.random.default_rng(0).integers(0, 256, (20, 12, 10, 3), dtype=np.uint8)
    x[7] = x[4]
    np.savez(tmp_path / "i.npz", x=x, y=np.arange(20) % 2)
    report = check_data(tmp_path / "i.npz")
    assert report.usable
    assert report.kinds == {"array": 20}
    assert report.width == Spread(min=10, median=10, max=10)
    assert problem(report, "same_in_two_classes").count == 1
    digits = check_data("sample:digits")
    assert digits.usable
    assert digits.images == 1797
    assert digits.modes == {"L": 1797}


def test_progress(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tuner.data.scan.PROGRESS_FILES", 4)
    monkeypatch.setattr("tuner.data.scan.PART_FILES", 3)
    told: list[tuple[int, int]] = []
    root = fill(tmp_path / "i", {"a": 5, "b": 5})
    check_data(root, on_progress=lambda done, count: told.append((done, count)))
    assert told == [(4, 10), (8, 10)]


def test_looking_changes_nothing(tmp_path: Path) -> None:
    root = part_folder(tmp_path / "i")
    (root / "a" / "broken.png").write_bytes(b"broken")
    before = digests(tmp_path)
    check_data(root)
    assert digests(tmp_path) == before


@pytest.mark.parametrize(
    ("bits", "warned"), [(10, "10 bits"), (12, "12 bits"), (14, "14 bits"), (16, "")]
)
def test_images_that_use_the_low_bits_of_16_are_named(tmp_path: Path, bits: int, warned: str):
    for number, name in enumerate("ab"):
        (tmp_path / name).mkdir()
        for index in range(6):
            values = np.asarray(part(number * 6 + index).convert("L")).astype(np.uint16)
            values = values * 256 + values >> 16 - bits
            Image.fromarray(values).save(tmp_path / name / f"{index}.png")
    report = check_data(tmp_path)
    assert report.modes == {"I;16": 12}
    assert [found for found in kinds(report) if found == "dark"] == (["dark"] if warned else [])
    if warned:
        dark = problem(report, "dark")
        assert dark.text.startswith(f"12 images of 16 bits have values of {warned}")
        assert dark.mend == f"Save values x {2 ** (16 - bits)}, or as 8 bits."
