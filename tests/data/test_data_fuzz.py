"""Odd and damaged images, zips and arrays: never a traceback, counts right, nothing lost."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import pytest

from odd_images_support import NAMES, Expected, damaged, digests, odd_files
from pictures_support import picture
from tuner.data import Dataset, open_dataset
from tuner.data.check import check_data
from tuner.data.tree import readable
from tuner.errors import TuneError
from tuner.spec import SPLITS, Preprocessing

SMALL = Preprocessing(height=6, width=5, colour="rgb")
CLASSES = ("cat", "dog and 犬", "ünï.code")


def laid_out(count: int, seed: int) -> tuple[dict[str, bytes], dict[str, Expected]]:
    """Odd files of three classes with some plain ones; content and expectation by path."""
    files: dict[str, bytes] = {}
    expected: dict[str, Expected] = {}
    for number, (ending, content, what) in enumerate(odd_files(count, seed)):
        name = f"{number:04} {NAMES[number % len(NAMES)]}{ending}"
        path = f"{CLASSES[number % 3]}/{'deeper/' if number % 7 == 0 else ''}{name}"
        files[path], expected[path] = content, what
    for number in range(15):
        file = io.BytesIO()
        picture(number).save(file, "PNG")
        path = f"{CLASSES[number % 3]}/good {number}.png"
        files[path], expected[path] = file.getvalue(), "good"
    return files, expected


def written(root: Path, files: Mapping[str, bytes]) -> Path:
    for path, content in files.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


def zipped(path: Path, files: Mapping[str, bytes], top: str = "") -> Path:
    methods = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA)
    with zipfile.ZipFile(path, "w") as archive:
        for number, (name, content) in enumerate(files.items()):
            archive.writestr(top + name, content, methods[number % 4])
    return path


def nothing_is_lost(dataset: Dataset, expected: Mapping[str, Expected], top: str = "") -> None:
    used = [name for split in SPLITS for name in dataset.names(split)]
    left_out = [line.rsplit(": ", 1)[0] for line in dataset.spec.left_out]
    names = {readable(top + path): what for path, what in expected.items()}
    assert len(used) == len(set(used))
    unknown = [line for line in dataset.spec.left_out if not line.startswith(tuple(names))]
    assert not unknown
    out = {name for name in names if any(line.startswith(f"{name}: ") for line in
           dataset.spec.left_out)}  # fmt: skip
    assert len(out) == len(left_out)
    assert set(used) | out == set(names)
    assert not set(used) & out
    assert {name for name, what in names.items() if what == "good"} <= set(used)
    assert {name for name, what in names.items() if what == "bad"} <= out
    for split in SPLITS:
        images, labels = dataset.arrays(SMALL, split, Path(dataset.spec.source).parent / "cache")
        assert images.shape == (len(labels), 6, 5, 3)


def odd_images(tmp_path: Path, count: int, seed: int) -> None:
    files, expected = laid_out(count, seed)
    root = written(tmp_path / "images", files)
    before = digests(root)
    dataset = open_dataset(root, split_seed=0)
    nothing_is_lost(dataset, expected)
    report = check_data(root)
    assert report.fingerprint == dataset.spec.fingerprint
    assert report.left_out == dataset.spec.left_out
    assert report.images == sum(dataset.spec.counts.values())
    assert report.images + report.unreadable == len(files)
    assert {row.name: row.images for row in report.classes} == {
        name: sum((dataset.labels(split) == number).sum() for split in SPLITS)
        for number, name in enumerate(dataset.spec.classes)
    }
    assert digests(root) == before
    packed = zipped(tmp_path / "images.zip", files, top="top folder/")
    content = packed.read_bytes()
    of_zip = open_dataset(packed, split_seed=0)
    nothing_is_lost(of_zip, expected, "top folder/")
    assert of_zip.spec.fingerprint == dataset.spec.fingerprint
    assert packed.read_bytes() == content


def test_300_odd_images_in_folders_and_zips(tmp_path: Path) -> None:
    odd_images(tmp_path, 300, seed=1)


@pytest.mark.slow
def test_3000_odd_images_in_folders_and_zips(tmp_path: Path) -> None:
    odd_images(tmp_path, 3000, seed=2)


def small_files() -> dict[str, bytes]:
    files = {}
    for number in range(10):
        file = io.BytesIO()
        picture(number, 6, 5).save(file, "PNG")
        files[f"{'ab'[number % 2]}/{number}.png"] = file.getvalue()
    return files


def odd_packs(count: int, seed: int) -> Iterator[tuple[str, bytes]]:
    """Damaged zips and `.npz` files."""
    random = np.random.default_rng(seed)
    archive, array = io.BytesIO(), io.BytesIO()
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as packed:
        for name, content in small_files().items():
            packed.writestr(name, content)
    x = random.integers(0, 256, (10, 5, 6, 3), dtype=np.uint8)
    np.savez_compressed(array, x=x, y=np.arange(10) % 2, classes=np.array(["a", "b"]))
    plain = {".zip": archive.getvalue(), ".npz": array.getvalue()}
    for number in range(count):
        suffix = ".npz" if number % 4 == 3 else ".zip"
        content = plain[suffix]
        if number % 2:
            yield suffix, damaged(content, random)
        else:  # the directory at the end, where one wrong byte matters most
            place = int(random.integers(len(content) - 700, len(content)))
            yield suffix, content[:place] + random.bytes(1) + content[place + 1 :]


def one_line(error: TuneError) -> None:
    assert "\n" not in str(error)
    assert "Received: " in str(error)


def odd_zips(tmp_path: Path, count: int, seed: int) -> None:
    opened = refused = 0
    for suffix, content in odd_packs(count, seed):
        path = tmp_path / f"images{suffix}"
        path.write_bytes(content)
        try:
            dataset = open_dataset(path, split_seed=0)
        except TuneError as error:
            refused += 1
            one_line(error)
        else:
            opened += 1
            for split in SPLITS:
                dataset.arrays(SMALL, split, tmp_path / "cache")
        try:
            report = check_data(path)
        except TuneError as error:
            one_line(error)
        else:
            assert not any("\n" in problem.text for problem in report.problems)
            assert report.usable or report.problems[0].severity == "error"
        assert path.read_bytes() == content
    assert opened + refused == count
    assert opened
    assert refused


def test_300_damaged_zips_and_arrays(tmp_path: Path) -> None:
    odd_zips(tmp_path, 300, seed=3)


@pytest.mark.slow
def test_3000_damaged_zips_and_arrays(tmp_path: Path) -> None:
    odd_zips(tmp_path, 3000, seed=4)
