"""Zips, which are read without being unpacked."""

from __future__ import annotations

import io
import os
import stat
import threading
import warnings
import zipfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest

from pictures_support import fill, picture
from tuner.data import open_dataset, scan, tree
from tuner.errors import DataError
from tuner.spec import SPLITS, Preprocessing

SMALL = Preprocessing(height=4, width=4, colour="rgb")


def png(seed: int) -> bytes:
    file = io.BytesIO()
    picture(seed).save(file, "PNG")
    return file.getvalue()


def images(*classes: str, each: int = 5) -> dict[str, bytes]:
    names = [f"{name}/{number}.png" for name in classes for number in range(each)]
    return {name: png(seed) for seed, name in enumerate(names)}


def packed(path: Path, files: Mapping[str | zipfile.ZipInfo, bytes]) -> Path:
    with warnings.catch_warnings(), zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        warnings.simplefilter("ignore")  # of names that are there twice
        for name, content in files.items():
            archive.writestr(name, content)
    return path


def info(name: str) -> zipfile.ZipInfo:
    return zipfile.ZipInfo(name)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(path, split_seed=0)
    assert "\n" not in str(caught.value)
    for part in (str(path), *parts):
        assert part in str(caught.value)


def test_a_zip_is_the_folder_it_was_made_of(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"a": 8, "b/deep": 8})
    files = {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*.png")}
    path = packed(tmp_path / "images.zip", files)
    before = set(tmp_path.rglob("*"))
    folder, archive = (open_dataset(source, split_seed=4) for source in (root, path))
    assert archive.spec.fingerprint == folder.spec.fingerprint
    assert archive.spec.source == str(path)
    for split in SPLITS:
        assert archive.names(split) == folder.names(split)
        assert np.array_equal(archive.labels(split), folder.labels(split))
        assert np.array_equal(archive.image(split, 0), folder.image(split, 0))
    assert set(tmp_path.rglob("*")) == before, "nothing is unpacked"


@pytest.mark.parametrize("top", ["images/", "a b/ü/", "./x//"])
def test_one_folder_around_all_is_passed_through(tmp_path: Path, top: str) -> None:
    files = {top + name: content for name, content in images("a", "b").items()}
    files |= {"README.txt": b"", "__MACOSX/a/._0.png": b"mac", f"{top}.DS_Store": b"mac"}
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert dataset.spec.classes == ("a", "b")
    assert sum(dataset.spec.counts.values()) == 10
    assert not dataset.spec.left_out


def test_splits_within_one_folder(tmp_path: Path) -> None:
    files = images("x/train/a", "x/train/b", "x/test/a", "x/test/b")
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert dict(dataset.spec.counts) == {"training": 8, "validation": 2, "test": 10}


def test_a_single_folder_for_training_stays_a_split(tmp_path: Path) -> None:
    dataset = open_dataset(packed(tmp_path / "i.zip", images("train/a", "train/b")), split_seed=0)
    assert dataset.spec.classes == ("a", "b")


def test_names_with_backslashes(tmp_path: Path) -> None:
    files = {f"i\\{name}".replace("/", "\\"): data for name, data in images("a", "b").items()}
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert dataset.spec.classes == ("a", "b")
    assert sorted(dataset.names("test"))[0].startswith("i/a/")


def test_names_that_lead_out_are_refused(tmp_path: Path) -> None:
    evil = ("../a/evil.png", "/a/evil.png", "a/../../evil.png", "C:\\a\\evil.png", "\\\\pc\\a.png")
    files = images("a", "b") | {name: png(90) for name in evil}
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert sum(dataset.spec.counts.values()) == 10
    assert len(dataset.spec.left_out) == len(evil)
    assert all(line.endswith("its name leads out of the zip") for line in dataset.spec.left_out)
    assert {path.name for path in tmp_path.iterdir()} == {"i.zip"}
    only = packed(tmp_path / "only.zip", dict.fromkeys(evil, png(0)))
    refused(only, "none that can be used; 5 were refused, the first ../a/evil.png")


def test_names_without_the_utf8_flag(tmp_path: Path) -> None:
    path = packed(tmp_path / "i.zip", images("xxxxx", "b"))
    content = path.read_bytes().replace(b"xxxxx/", "ü犬".encode() + b"/")
    path.write_bytes(content)
    assert open_dataset(path, split_seed=0).spec.classes == ("b", "ü犬")
    path.write_bytes(content.replace("ü犬".encode(), b"b\x81cks"))
    assert open_dataset(path, split_seed=0).spec.classes == ("b", "bücks"), "code page 437"


def test_two_entries_of_one_name(tmp_path: Path) -> None:
    files = {info("a/0.png"): png(50), **images("a", "b"), info("b/1.png"): png(51)}
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert sum(dataset.spec.counts.values()) == 10
    assert dataset.spec.left_out == (
        "a/0.png: replaced by a later entry of the same name",
        "b/1.png: replaced by a later entry of the same name",
    )
    split = next(split for split in SPLITS if "b/1.png" in dataset.names(split))
    shown = dataset.image(split, dataset.names(split).index("b/1.png"))
    assert np.array_equal(shown, np.asarray(picture(51)))


def test_entries_that_cannot_be_read_are_left_out(tmp_path: Path) -> None:
    link = info("a/link.png")
    link.external_attr = (stat.S_IFLNK | 0o777) << 16
    files = images("a", "b") | {
        link: b"/etc/passwd",
        "a/secret.png": png(60),
        "a/method.png": png(61),
        "a/worn.png": png(62),
    }
    path = packed(tmp_path / "i.zip", files)
    content = bytearray(path.read_bytes())
    with zipfile.ZipFile(path) as archive:
        worn = archive.getinfo("a/worn.png").header_offset
    directory = content.index(b"PK\x01\x02")
    for name, place, value in ((b"a/secret.png", 8, 1), (b"a/method.png", 10, 9)):
        content[content.index(name, directory) - 46 + place] = value
    content[worn + 80] ^= 0xFF
    path.write_bytes(content)
    dataset = open_dataset(path, split_seed=0)
    assert sum(dataset.spec.counts.values()) == 10
    left_out = dict(line.split(": ", 1) for line in dataset.spec.left_out)
    assert left_out.pop("a/worn.png") in (
        "damaged within the zip (bad data)",
        "damaged within the zip (bad checksum)",
    )
    assert left_out == {
        "a/link.png": "a link, which is not followed within a zip",
        "a/secret.png": "encrypted; pack it without a password",
        "a/method.png": "packed with method 9, which cannot be unpacked here; pack it with deflate",
    }


def test_an_entry_that_unpacks_to_too_much(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tree, "FILE_MAX_BYTES", 2**20)
    files = images("a", "b") | {"b/huge.png": bytes(5 * 2**20)}
    dataset = open_dataset(packed(tmp_path / "i.zip", files), split_seed=0)
    assert dataset.spec.left_out == (
        "b/huge.png: 5 MB, more than the 1 MB that an image file may have",
    )
    root = fill(tmp_path / "images", {"a": 5, "b": 5})
    (root / "b" / "huge.png").write_bytes(bytes(3 * 2**20))
    assert "b/huge.png: 3 MB" in open_dataset(root, split_seed=0).spec.left_out[0]


def test_damaged_as_a_whole(tmp_path: Path) -> None:
    path = packed(tmp_path / "my images.zip", images("a", "b"))
    path.write_bytes(path.read_bytes()[:-100])
    refused(path, "undamaged directory", f"zip -FF '{path}' --out mended.zip")
    refused(packed(tmp_path / "empty.zip", {}), "a folder without folders or images")
    refused(packed(tmp_path / "flat.zip", {"1.png": png(0)}), "1 images directly in it")


def test_a_zip_that_changes_later_is_one_line(tmp_path: Path) -> None:
    path = packed(tmp_path / "i.zip", images("a", "b"))
    dataset = open_dataset(path, split_seed=0)
    path.write_bytes(bytes(path.stat().st_size))
    with pytest.raises(DataError, match="Received: damaged within the zip"):
        dataset.arrays(SMALL, "training", tmp_path / "cache")


def test_a_slow_zip_is_decoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path, cache = packed(tmp_path / "i.zip", images("a", "b")), tmp_path / "cache"
    monkeypatch.setattr(scan, "INDEX_FROM_SECONDS", 0.0)
    monkeypatch.setattr(scan, "SETTLED_AFTER_SECONDS", -60.0)
    first = open_dataset(path, split_seed=0, cache=cache)
    with monkeypatch.context() as patch:
        patch.setattr(scan, "check_image", None)
        assert open_dataset(path, split_seed=0, cache=cache).spec == first.spec
    packed(path, images("a", "b") | {"a/9.png": png(99)})
    changed = open_dataset(path, split_seed=0, cache=cache)
    assert sum(changed.spec.counts.values()) == 11


def test_a_pipe_is_not_waited_for(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"a": 5, "b": 5})
    os.mkfifo(root / "a" / "pipe.png")
    names: list[str] = []

    def open_it() -> None:
        names.extend(open_dataset(root, split_seed=0).spec.left_out)

    thread = threading.Thread(target=open_it, daemon=True)
    thread.start()
    thread.join(60)
    assert names == ["a/pipe.png: not a regular file"]


def test_folders_with_the_ending_of_images(tmp_path: Path) -> None:
    root = fill(tmp_path / "images", {"a.png": 5, "b.jpg/c.gif": 5})
    dataset = open_dataset(root, split_seed=0)
    assert dataset.spec.classes == ("a.png", "b.jpg")
    assert not dataset.spec.left_out


def test_only_known_formats_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """For PostScript, Pillow would start a program."""
    root = fill(tmp_path / "images", {"a": 5, "b": 5})
    picture(70).save(root / "a" / "page.eps")
    (root / "a" / "page.eps").rename(root / "a" / "page.jpg")
    started: list[object] = []
    monkeypatch.setattr("subprocess.check_call", started.append)
    left_out = open_dataset(root, split_seed=0).spec.left_out
    assert left_out == ("a/page.jpg: not an image, or damaged at its beginning",)
    assert not started


def test_too_many_pixels_have_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = fill(tmp_path / "images", {"a": 5, "b": 5})
    picture(1, 40, 30).save(root / "a" / "large.png")
    picture(2, 50, 3).save(root / "b" / "long.png")
    monkeypatch.setattr(scan, "PIXELS_MAX", 1000)
    monkeypatch.setattr(scan, "SIDE_MAX", 45)
    assert open_dataset(root, split_seed=0).spec.left_out == (
        "a/large.png: too many pixels (40 x 30; at most 0 million are decoded)",
        "b/long.png: 50 x 3 pixels, a side longer than 45",
    )
