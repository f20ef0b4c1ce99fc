"""Folders: layout, splits, what is left out, the text of errors."""

from __future__ import annotations

import os
import shutil
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from pictures_support import MakeFolder, fill, picture
from tuner.data import Dataset, open_dataset, scan, tree
from tuner.errors import DataError
from tuner.spec import SPLITS, Preprocessing

SMALL = Preprocessing(height=6, width=6, colour="rgb")


def all_names(dataset: Dataset) -> list[str]:
    return [name for split in SPLITS for name in dataset.names(split)]


def refused(source: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(source, split_seed=0)
    message = str(caught.value)
    assert "\n" not in message
    for part in parts:
        assert part in message


def test_a_folder_per_class_is_split_64_16_20(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"cat": 50, "dog": 30, "ant": 20}), split_seed=0)
    assert dataset.spec.classes == ("ant", "cat", "dog")
    assert dict(dataset.spec.counts) == {"training": 64, "validation": 16, "test": 20}
    assert np.bincount(dataset.labels("test")).tolist() == [4, 10, 6]
    assert np.bincount(dataset.labels("validation")).tolist() == [3, 8, 5]
    assert (dataset.spec.image_height, dataset.spec.image_width) == (10, 12)
    assert dataset.spec.colour == "rgb"
    assert dataset.labels("test").dtype == np.int64


def test_each_image_is_in_exactly_one_split(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"a": 17, "b": 23}), split_seed=3)
    names = all_names(dataset)
    assert len(names) == len(set(names)) == 40
    for split in SPLITS:
        for name, label in zip(dataset.names(split), dataset.labels(split), strict=True):
            assert name.startswith(dataset.spec.classes[label])


def test_the_seed_decides_the_split(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 20, "b": 20})
    one, again, other = (open_dataset(root, split_seed=seed) for seed in (1, 1, 2))
    assert one.spec == again.spec
    assert one.names("test") == again.names("test")
    assert one.names("test") != other.names("test")
    assert one.spec.fingerprint != other.spec.fingerprint


def test_four_images_a_class_give_each_split_one(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"a": 4, "b": 4}), split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 4, "validation": 2, "test": 2}
    for split in SPLITS:
        assert set(dataset.labels(split)) == {0, 1}


def test_copies_of_an_image_stay_in_one_split(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 20, "b": 20})
    for path in sorted((root / "a").iterdir()):
        shutil.copy(path, path.with_name(f"copy-{path.name}"))
    dataset = open_dataset(root, split_seed=0)
    kept = [{n.replace("copy-", "") for n in dataset.names(split)} for split in SPLITS]
    assert sum(map(len, kept)) == 40


def test_a_class_of_copies_only_is_still_split(tmp_path: Path) -> None:
    for name, shade in (("a", 10), ("b", 200)):
        (tmp_path / name).mkdir()
        for number in range(10):
            Image.new("L", (4, 4), shade).save(tmp_path / name / f"{number}.png")
    dataset = open_dataset(tmp_path, split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 13, "validation": 3, "test": 4}
    assert dataset.spec.colour == "grey"


@pytest.mark.parametrize("names", [("train", "val", "test"), ("training", "validation", "test")])
def test_given_splits_are_honoured(make_folder: MakeFolder, names: tuple[str, ...]) -> None:
    sizes = {f"{top}/{c}": n for top, n in zip(names, (6, 3, 2), strict=True) for c in "ab"}
    dataset = open_dataset(make_folder(sizes), split_seed=0)
    for split, top in zip(SPLITS, names, strict=True):
        assert {name.split("/")[0] for name in dataset.names(split)} == {top}
    assert dict(dataset.spec.counts) == {"training": 12, "validation": 6, "test": 4}


@pytest.mark.parametrize("top", ["images", "v1/images"])
def test_one_folder_around_all_is_passed_through(make_folder: MakeFolder, top: str) -> None:
    root = make_folder({f"{top}/train/a": 5, f"{top}/train/b": 5, f"{top}/test/a": 1,
                        f"{top}/test/b": 1, "notes": 0})  # fmt: skip
    dataset = open_dataset(root, split_seed=0)
    assert dataset.spec.fingerprint == open_dataset(root / top, split_seed=0).spec.fingerprint
    assert {name.rsplit("/", 2)[0] for name in dataset.names("test")} == {f"{top}/test"}


def test_a_missing_split_is_carved_out_of_training(make_folder: MakeFolder) -> None:
    root = make_folder({"train/a": 20, "train/b": 20, "test/a": 5, "test/b": 5})
    dataset = open_dataset(root, split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 32, "validation": 8, "test": 10}
    shutil.move(root / "test", root / "val")
    dataset = open_dataset(root, split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 32, "validation": 10, "test": 8}
    shutil.rmtree(root / "val")
    dataset = open_dataset(root, split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 26, "validation": 6, "test": 8}


def test_a_class_may_be_called_train(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"bus": 5, "car": 5, "train": 5}), split_seed=0)
    assert dataset.spec.classes == ("bus", "car", "train")


def test_nested_hidden_and_other_files(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b/deep/deeper": 5, ".hidden": 3, "notes": 0})
    picture(90).save(root / "a" / ".thumb.png")
    picture(91).save(root / "loose.png")
    (root / "a" / "readme.txt").write_text("no image")
    dataset = open_dataset(root, split_seed=0)
    assert dataset.spec.classes == ("a", "b")
    assert len(all_names(dataset)) == 10
    assert dataset.spec.left_out == (
        "loose.png: not in the folder of a class",
        "notes/: no images in it",
    )


def test_unreadable_images_are_left_out_with_a_reason(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 6, "b": 6})
    (root / "a" / "empty.jpg").write_bytes(b"")
    (root / "a" / "text.jpg").write_text("this is no image")
    picture(50, 200, 200).save(root / "b" / "cut.jpg")
    content = (root / "b" / "cut.jpg").read_bytes()
    (root / "b" / "cut.jpg").write_bytes(content[: len(content) // 2])
    content = (root / "b" / "001.png").read_bytes()
    (root / "b" / "half.png").write_bytes(content[: len(content) // 2])
    os.symlink(root / "nowhere.png", root / "b" / "broken-link.png")
    dataset = open_dataset(root, split_seed=0)
    left_out = dict(line.split(": ", 1) for line in dataset.spec.left_out)
    assert set(left_out) == {
        *("a/empty.jpg", "a/text.jpg", "b/cut.jpg", "b/half.png", "b/broken-link.png")
    }
    assert left_out["a/empty.jpg"] == "empty file"
    assert left_out["a/text.jpg"].startswith("not an image")
    assert left_out["b/cut.jpg"] == "truncated"
    assert "No such file" in left_out["b/broken-link.png"]
    assert len(all_names(dataset)) == 12
    for split in SPLITS:
        dataset.arrays(SMALL, split, root / "cache")


def test_images_of_every_kind_can_be_used(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 4, "b": 4})
    kinds = root / "b"
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(60, 30, 20).save(kinds / "rotated.jpg", exif=exif)
    picture(61).convert("RGBA").save(kinds / "alpha.png")
    picture(62).convert("P").save(kinds / "palette.gif")
    picture(63).convert("CMYK").save(kinds / "cmyk.jpg")
    picture(64).convert("1").save(kinds / "bits.png")
    Image.fromarray(np.full((5, 5), 40000, np.uint16)).save(kinds / "deep.png")
    picture(65).save(kinds / "käse 写真 é.PNG")
    dataset = open_dataset(root, split_seed=0)
    assert not dataset.spec.left_out
    assert "b/käse 写真 é.PNG" in all_names(dataset)
    for split in SPLITS:
        images, labels = dataset.arrays(SMALL, split, tmp_path / "cache")
        assert images.shape == (len(labels), 6, 6, 3)
    split, index = next(
        (split, dataset.names(split).index("b/rotated.jpg"))
        for split in SPLITS
        if "b/rotated.jpg" in dataset.names(split)
    )
    upright = dataset.image(split, index)
    assert upright.shape == (30, 20, 3)
    full = Preprocessing(height=30, width=20, colour="rgb")
    assert np.array_equal(dataset.arrays(full, split, tmp_path / "cache")[0][index], upright)


def test_grey_images_make_a_grey_dataset(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        for number in range(5):
            shade = picture(number + 10 * (name == "b")).convert("L")
            shade.convert("RGB").save(tmp_path / name / f"{number}.png")
    dataset = open_dataset(tmp_path, split_seed=0)
    assert dataset.spec.colour == "grey"
    assert dataset.image("test", 0).shape == (10, 12, 1)


def test_links_are_followed_and_circles_end(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 5})
    elsewhere = fill(tmp_path / "elsewhere", {"pictures": 5}, first_seed=40)
    os.symlink(elsewhere / "pictures", root / "b")
    os.symlink(root / "a", root / "a" / "circle")
    os.symlink("self.png", root / "a" / "self.png")
    dataset = open_dataset(root, split_seed=0)
    assert len(all_names(dataset)) == 10
    assert dataset.spec.left_out == (
        "a/self.png: cannot be opened (Too many levels of symbolic links)",
    )


def test_file_names_that_are_no_utf8(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b": 4})
    path = os.path.join(os.fsencode(root / "b"), b"caf\xe9.png")
    try:
        shutil.copy(os.fsencode(root / "a" / "000.png"), path)
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset(root, split_seed=0)
    "".join(all_names(dataset)).encode()
    dataset.arrays(SMALL, "training", root / "cache")


def test_folders_whose_names_are_no_utf8(make_folder: MakeFolder) -> None:
    root = make_folder({"a": 5, "b": 5, "c": 5})
    try:
        for name, other in (("b", b"\xb9\xb7"), ("c", b"\xc4\xf1")):
            os.rename(root / name, os.path.join(os.fsencode(root), other))
    except OSError:
        pytest.skip("this file system takes UTF-8 names only")
    dataset = open_dataset(root, split_seed=0)
    assert dataset.spec.classes == ("\\xb9\\xb7", "\\xc4\\xf1", "a"), "not one class"
    dataset.arrays(SMALL, "training", root / "cache")

    above = os.path.join(os.fsencode(root.parent), b"caf\xe9")
    os.rename(root, above)
    with pytest.raises(DataError, match=r"Expected a path of UTF-8.*caf\\xe9. Rename it"):
        open_dataset(Path(os.fsdecode(above)), split_seed=0)


def test_a_file_that_changes_later_is_one_line(make_folder: MakeFolder, tmp_path: Path) -> None:
    root = make_folder({"a": 5, "b": 5})
    dataset = open_dataset(root, split_seed=0)
    name = dataset.names("training")[0]
    (root / name).write_text("gone")
    with pytest.raises(DataError, match=f"Expected {name} as it was .* other content"):
        dataset.arrays(SMALL, "training", tmp_path / "cache")
    (root / name).unlink()
    with pytest.raises(DataError, match="No such file"):
        dataset.image("training", 0)
    assert not list((tmp_path / "cache").rglob("*.npy*"))


def test_errors_of_layout(tmp_path: Path, make_folder: MakeFolder) -> None:
    refused(tmp_path / "none", "does not exist", "sample:NAME")
    (tmp_path / "empty").mkdir()
    refused(tmp_path / "empty", "without folders or images", "FOLDER/CLASS/IMAGE")
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    refused(tmp_path / "hollow", "1 folders without images (a)")
    flat = tmp_path / "flat"
    flat.mkdir()
    picture(0).save(flat / "0.png")
    refused(flat, "1 images directly in it", "FOLDER/CLASS/IMAGE")
    refused(flat / "0.png", "a file of another kind")
    (tmp_path / "images.tar.gz").write_bytes(b"")
    refused(
        tmp_path / "images.tar.gz", "Unpack it: mkdir images && tar -xf ",
        "images.tar.gz -C images && tune data check images",
    )  # fmt: skip
    (tmp_path / "images.7z").write_bytes(b"")
    refused(tmp_path / "images.7z", "a packed file. Unpack it, or pack a zip.")


def test_errors_of_classes(tmp_path: Path) -> None:
    refused(fill(tmp_path / "one", {"a": 5}), "at least two classes", "one, 'a'")
    wrapped = fill(tmp_path / "wrapped", {"": 1, "images/a": 5, "images/b": 5})
    refused(wrapped, f"Did you mean {wrapped / 'images'}?")
    single = fill(tmp_path / "single", {"a": 5, "b": 1})
    refused(single, "at least 4 readable images", "class 'b' has 1 readable image.")
    broken = fill(tmp_path / "broken", {"a": 5, "b": 0})
    (broken / "b" / "0.png").write_bytes(b"")
    refused(broken, "class 'b' has 0 readable images")
    for path in (broken / "a").iterdir():
        path.write_bytes(b"")
    refused(broken, "6 files, none readable; the first: a/000.png: empty file")


def test_errors_of_given_splits(tmp_path: Path) -> None:
    extra = fill(tmp_path / "extra", {"train/a": 5, "train/b": 5, "test/a": 2, "test/c": 2})
    refused(extra, "class 'c' is in test only")
    headless = fill(tmp_path / "headless", {"val/a": 5, "test/a": 5})
    refused(headless, "Expected a folder train/", "test/, val/")
    twice = fill(tmp_path / "twice", {"train/a": 5, "training/a": 5})
    refused(twice, "train/ and training/", "Merge or rename")
    flat = fill(tmp_path / "flat", {"train": 5, "test": 5})
    refused(flat, f"a folder per class in {flat / 'test'}")
    few = fill(tmp_path / "few", {"train/a": 2, "train/b": 5, "test/a": 1, "test/b": 1})
    refused(few, "at least 3 readable images")


def test_a_slow_folder_is_decoded_once(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = make_folder({"a": 5, "b": 5}), tmp_path / "cache"
    monkeypatch.setattr(scan, "INDEX_FROM_SECONDS", 0.0)
    monkeypatch.setattr(scan, "SETTLED_AFTER_SECONDS", -60.0)
    first = open_dataset(root, split_seed=0, cache=cache)
    checked: list[str] = []
    check = scan.check_image
    monkeypatch.setattr(
        scan, "check_image", lambda tree, path: checked.append(path) or check(tree, path)
    )
    assert open_dataset(root, split_seed=0, cache=cache).spec == first.spec
    assert not checked
    picture(99).save(root / "a" / "000.png")
    changed = open_dataset(root, split_seed=0, cache=cache)
    assert checked == ["a/000.png"]
    assert changed.spec.fingerprint != first.spec.fingerprint
    index = next(cache.rglob("index/*.json"))
    index.write_text("{damaged")
    assert open_dataset(root, split_seed=0, cache=cache).spec == changed.spec


def test_what_could_not_be_read_is_looked_at_again(
    make_folder: MakeFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root, cache = make_folder({"a": 5, "b": 5}), tmp_path / "cache"
    monkeypatch.setattr(scan, "INDEX_FROM_SECONDS", 0.0)
    monkeypatch.setattr(scan, "SETTLED_AFTER_SECONDS", -60.0)
    check = scan.check_image

    def without_heic(folder: tree.Tree, path: str) -> scan.ImageFacts:
        return scan.ImageFacts(problem="HEIC") if path == "a/000.png" else check(folder, path)

    with monkeypatch.context() as patch:
        patch.setattr(scan, "check_image", without_heic)
        assert open_dataset(root, split_seed=0, cache=cache).spec.left_out == ("a/000.png: HEIC",)
    assert open_dataset(root, split_seed=0, cache=cache).spec.left_out == ()


def test_a_quick_folder_leaves_nothing_behind(make_folder: MakeFolder, tmp_path: Path) -> None:
    open_dataset(make_folder({"a": 5, "b": 5}), split_seed=0)
    assert not (tmp_path / "home").exists()


def test_image_index_is_checked(make_folder: MakeFolder) -> None:
    dataset = open_dataset(make_folder({"a": 5, "b": 5}), split_seed=0)
    with pytest.raises(DataError, match=r"from 0 to 1 in test\. Received: index=2"):
        dataset.image("test", 2)


def test_suffixes_are_lower_case() -> None:
    assert all(suffix == suffix.lower() for suffix in tree.IMAGE_SUFFIXES)


def test_cifar10(tmp_path: Path) -> None:
    archive = Path(__file__).parents[2] / ".." / "shared" / "data" / "cifar10-test.zip"
    if not archive.exists():
        pytest.skip("CIFAR-10 is not at ../shared/data/cifar10-test.zip")
    with zipfile.ZipFile(archive) as packed:
        chosen = [name for name in packed.namelist() if name.endswith(("1.jpg", "7.jpg"))]
        packed.extractall(tmp_path / "cifar10", chosen)
    dataset = open_dataset(tmp_path / "cifar10", split_seed=0)
    assert len(dataset.spec.classes) == 10
    assert dict(dataset.spec.counts) == {"training": 1280, "validation": 320, "test": 400}
    assert (dataset.spec.image_height, dataset.spec.colour) == (32, "rgb")
    assert set(np.bincount(dataset.labels("test"))) == {40}
