"""`.npz` files, samples, the cache of prepared images, fingerprints."""

from __future__ import annotations

import fcntl
import shutil
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from numbers_support import SlowReader, numbered
from pictures_support import MakeFolder, fill, picture
from tuner.data import Dataset, archive, dataset, open_dataset
from tuner.data.split import fingerprint, split_rows
from tuner.errors import DataError, UnknownNameError
from tuner.spec import SPLITS, Preprocessing

SMALL = Preprocessing(height=4, width=4, colour="rgb")
RANDOM = np.random.default_rng(0)
X = RANDOM.integers(0, 256, (40, 6, 5, 3), dtype=np.uint8)
Y = np.arange(40) % 2


def saved(tmp_path: Path, **arrays: Any) -> Path:
    path = tmp_path / "images.npz"
    np.savez(path, **arrays)
    return path


def opened(tmp_path: Path, **arrays: Any) -> Dataset:
    return open_dataset(saved(tmp_path, **arrays), split_seed=0)


def refused(path: Path, *parts: str) -> None:
    with pytest.raises(DataError) as caught:
        open_dataset(path, split_seed=0)
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    for part in parts:
        assert part in message


def test_npz(tmp_path: Path) -> None:
    data = opened(tmp_path, x=X, y=Y, classes=np.array(["good", "bad"]))
    assert data.spec.classes == ("good", "bad")
    assert dict(data.spec.counts) == {"training": 26, "validation": 6, "test": 8}
    assert (data.spec.image_height, data.spec.image_width, data.spec.colour) == (6, 5, "rgb")
    row = int(data.names("test")[3].removeprefix("x[").removesuffix("]"))
    assert np.array_equal(data.image("test", 3), X[row])
    assert data.labels("test")[3] == Y[row]


@pytest.mark.parametrize(
    ("x", "colour"),
    [
        (X[:, :, :, 0], "grey"),
        (X[:, :, :, :1], "grey"),
        (X, "rgb"),
        (X[:, :, :, [0, 1, 2, 2]], "rgb"),
    ],
)
def test_npz_shapes(tmp_path: Path, x: Any, colour: str) -> None:
    data = opened(tmp_path, x=x, y=Y)
    assert data.spec.colour == colour
    assert data.image("test", 0).shape == (6, 5, 1 if colour == "grey" else 3)
    images, _ = data.arrays(SMALL, "test", tmp_path / "cache")
    assert images.shape == (8, 4, 4, 3)


@pytest.mark.parametrize("x", [X.astype(np.float32), X / 255.0])
def test_npz_floats_are_the_same_images(tmp_path: Path, x: Any) -> None:
    assert (
        opened(tmp_path, x=x, y=Y).spec.fingerprint == opened(tmp_path, x=X, y=Y).spec.fingerprint
    )


def test_npz_labels(tmp_path: Path) -> None:
    assert opened(tmp_path, x=X, y=Y[:, None]).spec.classes == ("0", "1")
    assert opened(tmp_path, x=X, y=np.array(["z", "a"])[Y]).spec.classes == ("a", "z")
    named = opened(tmp_path, x=X, y=np.array(["z", "a"])[Y], classes=np.array(["z", "a"]))
    assert named.spec.classes == ("z", "a")


def test_npz_given_splits(tmp_path: Path) -> None:
    data = opened(
        tmp_path, x=X, y=Y, x_test=X[:6], y_test=Y[:6], x_validation=X[:4], y_validation=Y[:4]
    )
    assert dict(data.spec.counts) == {"training": 40, "validation": 4, "test": 6}
    assert data.names("test")[5] == "x_test[5]"
    carved = opened(tmp_path, x_train=X, y_train=Y, x_test=X[:6], y_test=Y[:6])
    assert dict(carved.spec.counts) == {"training": 32, "validation": 8, "test": 6}


def test_npz_errors(tmp_path: Path) -> None:
    refused(saved(tmp_path, images=X, y=Y), "Expected an array x", "Received: images, y")
    named = saved(tmp_path, train_images=X, train_labels=Y, test_images=X, test_labels=Y)
    refused(named, "x=d['train_images'], y=d['train_labels']", "x_test=d['test_images']")
    refused(saved(tmp_path, x=X), "Expected an array y beside x")
    refused(saved(tmp_path, x=X, y=np.array(["z\n", "a\n"])[Y]), "one line of text", "'a\\n'")
    named = saved(tmp_path, x=X, y=Y, classes=np.array(["z", " "]))
    refused(named, "one line of text", "[' ']")
    refused(saved(tmp_path, x=X, y=Y[:7]), "40 images in x and 7 labels in y")
    refused(saved(tmp_path, x=X, y=np.eye(40)), "one-hot", "argmax")
    refused(saved(tmp_path, x=X[0, 0], y=Y), "Expected x", "shape (5, 3)")
    refused(saved(tmp_path, x=X[:, :, :, :2], y=Y), "1, 3 or 4 channels", "(40, 6, 5, 2)")
    refused(saved(tmp_path, x=X[:0], y=Y[:0]), "holds none")
    refused(saved(tmp_path, x=X.astype(np.int32), y=Y), "dtype int32", "x.astype('uint8')")
    refused(saved(tmp_path, x=X.astype(np.uint16), y=Y), "dtype uint16", "(x >> 8)")
    refused(saved(tmp_path, x=X - 128.0, y=Y), "values from -128 to 127")
    refused(saved(tmp_path, x=X * np.nan, y=Y), "values from nan to nan")
    refused(saved(tmp_path, x=X, y=Y * 1.0), "integers from 0 or as strings", "float64")
    refused(saved(tmp_path, x=X, y=Y + 1), "every integer from 0 to 1", "from 1 to 2")
    refused(saved(tmp_path, x=X, y=Y * 0), "at least two classes", "one, '0'")
    refused(saved(tmp_path, x=X, y=Y, classes=np.arange(2)), "list of strings", "int64")
    refused(saved(tmp_path, x=X, y=Y, classes=np.array(["a", "a"])), "different names")
    refused(saved(tmp_path, x=X, y=np.array(["z", "a"])[Y], classes=np.array(["a"])), "['z']")
    refused(saved(tmp_path, x=X, y=Y, classes=np.array(["a", "b", "c"])), "class 'c' has 0")
    refused(saved(tmp_path, x=X, y=Y, x_test=X[:, :5], y_test=Y), "x_test", "(6, 5, 3)")
    refused(saved(tmp_path, x=X[:5], y=[0, 0, 0, 0, 1]), "class '1' has 1 readable image")


def test_npz_never_unpickles(tmp_path: Path) -> None:
    refused(saved(tmp_path, x=X, y=np.array([{}] * 40)), "y holds Python objects (pickle)")


def test_damaged_npz(tmp_path: Path) -> None:
    path = tmp_path / "images.npz"
    np.savez_compressed(path, x=X, y=Y)
    content = bytearray(path.read_bytes())
    path.write_bytes(content[: len(content) // 2])
    refused(path, "a damaged file or one of another kind")
    content[300:900] = bytes(600)
    path.write_bytes(content)
    refused(path, "damaged")
    path.write_bytes(b"")
    refused(path, "Expected an .npz archive")


@pytest.mark.parametrize("x", [X, X / 255.0, X[:, :, :, 0]])
def test_large_arrays_are_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, x: Any) -> None:
    np.savez_compressed(tmp_path / "i.npz", x=x, y=Y, x_test=x[:6], y_test=Y[:6])
    small = open_dataset(tmp_path / "i.npz", split_seed=0)
    monkeypatch.setattr(archive, "MAPPED_FROM_BYTES", 100)
    for _ in range(2):
        large = open_dataset(tmp_path / "i.npz", split_seed=0, cache=tmp_path / "cache")
        assert large.spec == small.spec
        assert np.array_equal(large.image("test", 3), small.image("test", 3))
        kept = sorted(path.name for path in (tmp_path / "cache" / "arrays").glob("*.npy"))
        assert [name.partition("-")[2] for name in kept] == ["x.npy", "x_test.npy"]


def test_arrays_that_are_being_unpacked_are_locked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    np.savez_compressed(tmp_path / "i.npz", x=X, y=Y)
    monkeypatch.setattr(archive, "MAPPED_FROM_BYTES", 100)
    copy = shutil.copyfileobj
    looked = []

    def look(*arguments: Any) -> None:
        (lock,) = (tmp_path / "cache" / "arrays").glob(".*.lock")
        with lock.open("rb+") as file, pytest.raises(BlockingIOError):
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        looked.append(lock)
        copy(*arguments)

    monkeypatch.setattr(archive.shutil, "copyfileobj", look)
    open_dataset(tmp_path / "i.npz", split_seed=0, cache=tmp_path / "cache")
    assert looked


def test_large_arrays_that_cannot_be_mapped(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(archive, "MAPPED_FROM_BYTES", 100)
    path = tmp_path / "i.npz"
    np.savez_compressed(path, x=np.array([{}] * 40), y=Y)
    refused(path, "x holds")
    np.savez_compressed(path, x=X, y=Y)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"Expected to unpack an array to .* Received: "):
        open_dataset(path, split_seed=0, cache=tmp_path / "file")
    content = bytearray(path.read_bytes())
    content[300:900] = bytes(600)
    path.write_bytes(content)
    refused(path, "damaged")
    assert not list((tmp_path / "home").rglob("*x.npy*"))


def test_npz_that_changes_later_is_one_line(tmp_path: Path) -> None:
    data = opened(tmp_path, x=X, y=Y)
    (tmp_path / "images.npz").write_bytes(b"other")
    with pytest.raises(DataError, match="Received: a changed file"):
        data.image("test", 0)


def test_digits(tmp_path: Path) -> None:
    data = open_dataset("sample:digits", split_seed=0, cache=tmp_path)
    assert data.spec.source == "sample:digits"
    assert data.spec.classes == tuple("0123456789")
    assert sum(data.spec.counts.values()) == 1797
    assert (data.spec.image_height, data.spec.image_width, data.spec.colour) == (8, 8, "grey")
    images = [data.image("test", index) for index in range(20)]
    assert max(image.max() for image in images) == 255
    again = open_dataset("sample:digits", split_seed=0, cache=tmp_path)
    assert again.spec == data.spec


def test_unknown_sample() -> None:
    with pytest.raises(UnknownNameError) as caught:
        open_dataset("sample:part", split_seed=0)
    assert str(caught.value) == (
        "Unknown sample 'part'. Did you mean 'parts'? Known: digits, parts."
    )


def test_arrays_are_made_once_and_mapped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    data = opened(tmp_path, x=X, y=Y)
    cache = tmp_path / "cache"
    images, labels = data.arrays(SMALL, "validation", cache)
    path = cache / data.spec.fingerprint / SMALL.key / "validation.npy"
    assert isinstance(images, np.memmap)
    assert images.dtype == np.uint8
    assert not images.flags.writeable
    assert np.array_equal(labels, data.labels("validation"))
    assert {entry.name for entry in path.parent.iterdir()} == {
        "validation.npy",
        ".validation.lock",
    }
    made = path.stat().st_mtime_ns
    monkeypatch.setattr(dataset, "resize_flat", None)
    assert np.array_equal(data.arrays(SMALL, "validation", cache)[0], images)
    assert path.stat().st_mtime_ns == made


def test_a_damaged_cache_is_made_again(tmp_path: Path) -> None:
    data = opened(tmp_path, x=X, y=Y)
    images = np.array(data.arrays(SMALL, "test", tmp_path)[0])
    path = next(tmp_path.rglob("test.npy"))
    for content in (b"", b"nonsense", path.read_bytes()[:-5]):
        path.write_bytes(content)
        assert np.array_equal(data.arrays(SMALL, "test", tmp_path)[0], images)


def test_a_cache_that_cannot_be_written(tmp_path: Path) -> None:
    data = opened(tmp_path, x=X, y=Y)
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match="Expected to write prepared images to"):
        data.arrays(SMALL, "test", tmp_path / "file")


def test_threads_and_processes_may_make_it_at_the_same_time(tmp_path: Path) -> None:
    root, cache = fill(tmp_path / "images", {"a": 30, "b": 30}), tmp_path / "cache"
    code = (
        "import sys; from pathlib import Path; from tuner.data import open_dataset\n"
        "from tuner.spec import Preprocessing\n"
        "data = open_dataset(sys.argv[1], split_seed=0)\n"
        "pixels = Preprocessing(height=4, width=4, colour='rgb')\n"
        "print(data.arrays(pixels, 'training', Path(sys.argv[2]))[0].sum())\n"
    )
    command = [sys.executable, "-c", code, str(root), str(cache)]
    running = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
    data = open_dataset(root, split_seed=0)
    with ThreadPoolExecutor(4) as pool:
        made = list(pool.map(lambda _: data.arrays(SMALL, "training", cache)[0].sum(), range(4)))
    printed = [int(process.communicate(timeout=60)[0]) for process in running]
    assert len({*map(int, made), *printed}) == 1
    left = {path.name for path in cache.rglob("*") if path.is_file()}
    assert left == {"training.npy", ".training.lock"}


def test_the_work_is_shared_and_no_image_is_made_twice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dataset, "PART_IMAGES", 5)
    readers = [SlowReader(0.005) for _ in range(3)]
    with ThreadPoolExecutor(3) as pool:
        made = list(
            pool.map(
                lambda reader: numbered(reader, 98).arrays(SMALL, "training", tmp_path)[0], readers
            )
        )
    assert all(np.array_equal(images[:, 0, 0, 0], np.arange(98)) for images in made)
    assert sorted(row for reader in readers for row in reader.asked) == list(range(98))
    assert all(reader.asked for reader in readers)


def test_what_a_killed_worker_left_is_made_again(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from tuner.data import dataset\n"
        "from tuner.spec import Preprocessing\n"
        "from numbers_support import SlowReader, numbered\n"
        "dataset.PART_IMAGES = 10\n"
        "small = Preprocessing(height=4, width=4, colour='rgb')\n"
        "numbered(SlowReader(0.01), 90).arrays(small, 'training', Path(sys.argv[1]))"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], cwd=Path(__file__).parents[1]
    )
    parts = tmp_path / "numbers" / "3x3-rgb-stretch" / ".training.parts"
    deadline = time.monotonic() + 60
    while not (parts / "20-30").exists():
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.005)
    process.kill()
    process.wait()
    reader = SlowReader(0.0)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(dataset, "PART_IMAGES", 10)
        images, _ = numbered(reader, 90).arrays(SMALL, "training", tmp_path)
    assert np.array_equal(images[:, 0, 0, 0], np.arange(90))
    assert reader.asked == list(range(20, 90)), "finished parts are kept"
    assert not parts.exists()


def test_small_originals_are_decoded_once(tmp_path: Path) -> None:
    reader = SlowReader(0.0)
    data = numbered(reader, 20)
    sizes = [Preprocessing(height=side, width=side, colour="rgb") for side in (2, 3, 4)]
    grey = Preprocessing(height=2, width=2, colour="grey")
    kept = [data.arrays(pixels, "training", tmp_path)[0] for pixels in (*sizes, grey)]
    assert reader.asked == list(range(20))
    again = numbered(reader, 20, one_size=False)
    for pixels, images in zip((*sizes, grey), kept, strict=True):
        assert np.array_equal(again.arrays(pixels, "training", tmp_path / "other")[0], images)
    assert len(reader.asked) == 5 * 20
    assert data.arrays(grey, "test", tmp_path)[0].shape == (0, 2, 2, 1)


def test_large_originals_are_not_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dataset, "ORIGINALS_BYTES", 20 * 27 - 1)
    numbered(SlowReader(0.0), 20).arrays(SMALL, "training", tmp_path)
    assert [path.name for path in (tmp_path / "numbers").iterdir()] == ["4x4-rgb-stretch"]


def test_the_fingerprint_is_of_the_content(make_folder: MakeFolder, tmp_path: Path) -> None:
    def now(root: Path) -> str:
        return open_dataset(root, split_seed=0).spec.fingerprint

    root = make_folder({"a": 6, "b": 6})
    first = now(root)
    assert len(first) == 16
    assert now(fill(tmp_path / "elsewhere", {"a": 6, "b": 6})) == first
    picture(70).save(root / "a" / "new.png")
    added = now(root)
    (root / "a" / "new.png").unlink()
    assert now(root) == first
    picture(71).save(root / "a" / "000.png")
    altered = now(root)
    picture(0).save(root / "a" / "000.png")
    (root / "b").rename(root / "c")
    renamed = now(root)
    assert len({first, added, altered, renamed}) == 4


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), min_size=0, max_size=60),
    st.integers(-5, 2**40),
)
@settings(deadline=None, max_examples=80)
def test_any_split_is_complete_stratified_and_repeatable(
    extra: list[tuple[int, int]], seed: int
) -> None:
    rows = [(label, 100 + label * 10 + i) for label in range(3) for i in range(4)] + extra
    labels = np.array([label for label, _ in rows], np.int64)
    digests = [f"{label}-{content}".encode() for label, content in rows]
    classes = ["a", "b", "c"]

    def split() -> dict[Any, Any]:
        return split_rows(labels, digests, ["training"] * len(rows), classes, seed, "here")

    parts = split()
    together = np.concatenate([parts[name] for name in SPLITS])
    assert sorted(together) == list(range(len(rows)))
    for name in SPLITS:
        assert set(labels[parts[name]]) == {0, 1, 2}
        assert list(parts[name]) == sorted(parts[name])
    contents = [{digests[row] for row in parts[name]} for name in SPLITS]
    assert sum(map(len, contents)) == len(set(digests))
    assert fingerprint(split(), labels, digests, classes) == fingerprint(
        parts, labels, digests, classes
    )


@given(st.lists(st.integers(4, 60), min_size=2, max_size=6))
@settings(deadline=None, max_examples=60)
def test_shares_are_a_fifth_by_class(sizes: list[int]) -> None:
    labels = np.repeat(np.arange(len(sizes)), sizes)
    digests = [str(row).encode() for row in range(len(labels))]
    names = [str(size) for size in range(len(sizes))]
    parts = split_rows(labels, digests, ["training"] * len(labels), names, 0, "here")
    for label, size in enumerate(sizes):
        assert abs((labels[parts["test"]] == label).sum() - 0.2 * size) <= 1
