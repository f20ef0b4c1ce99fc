"""sample:parts."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pytest

from tuner.data import open_dataset
from tuner.data.samples import parts

# Of the first six images, and of all; raise VERSION when they change.
HASHES = [
    "c2c8e1ca7b14",
    "5c022af1cd5e",
    "218e873b0490",
    "42ea446e0bd0",
    "23123f416ac5",
    "83c1339de6e1",
]
FINGERPRINT = "90a13bde137c131d"


def test_the_same_images_everywhere() -> None:
    drawn = [parts.draw(index) for index in range(6)]
    assert all(np.array_equal(image, parts.draw(i)) for i, image in enumerate(drawn))
    hashes = [hashlib.blake2b(image.tobytes(), digest_size=6).hexdigest() for image in drawn]
    assert hashes == HASHES


def test_the_kinds_differ_in_each_image() -> None:
    drawn = [parts.draw(index) for index in range(12)]
    assert {(image.shape, image.dtype) for image in drawn} == {((96, 96, 3), np.dtype(np.uint8))}
    assert len({image.tobytes() for image in drawn}) == 12
    assert all(image.std() > 10 for image in drawn)


def test_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    blank = np.arange(96 * 96 * 3, dtype=np.int64).astype(np.uint8).reshape(96, 96, 3)
    monkeypatch.setattr(parts, "draw", lambda index: blank + np.uint8(index % 251) * (blank % 7))
    data = open_dataset("sample:parts", split_seed=0, cache=tmp_path)
    assert data.spec.classes == tuple(sorted(parts.CLASSES))
    assert sum(data.spec.counts.values()) == 2400
    assert (data.spec.image_height, data.spec.image_width, data.spec.colour) == (96, 96, "rgb")
    monkeypatch.setattr(parts, "make", None)  # taken from the cache from now on
    assert open_dataset("sample:parts", split_seed=0, cache=tmp_path).spec == data.spec


@pytest.mark.slow
def test_all_images(tmp_path: Path) -> None:
    data = open_dataset("sample:parts", split_seed=0, cache=tmp_path)
    assert dict(data.spec.counts) == {"training": 1536, "validation": 384, "test": 480}
    assert set(np.bincount(data.labels("test"))) == {80}
    assert data.spec.fingerprint == FINGERPRINT
