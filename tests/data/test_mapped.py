from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from tuner.data import mapped
from tuner.data.preprocess import scale, scaled_chunks


def resident_kb(name: str) -> int:
    """Of this process' maps of a file."""
    lines = Path("/proc/self/smaps").read_text().split("\n")
    begins = next(number for number, line in enumerate(lines) if line.endswith(name))
    return next(int(line.split()[1]) for line in lines[begins:] if line.startswith("Rss:"))


@pytest.fixture
def images(tmp_path):
    np.save(tmp_path / "large.npy", np.ones((64, 32, 32, 3), np.uint8))
    return np.load(tmp_path / "large.npy", mmap_mode="r")


def test_pages_of_a_large_memory_map_do_not_stay(images, monkeypatch):
    assert images.sum() == images.size
    mapped.give_back(images)
    assert resident_kb("large.npy") >= images.nbytes // 1024, "a small one stays"
    monkeypatch.setattr(mapped, "KEPT_BYTES", 0)
    mapped.give_back(images[:10])  # a part is of the same map
    assert resident_kb("large.npy") == 0
    assert images.sum() == images.size
    mapped.give_back(np.ones(3))


def test_scaling_leaves_no_pages(images, monkeypatch):
    monkeypatch.setattr(mapped, "KEPT_BYTES", 0)
    for part in scaled_chunks(images, "unit"):
        assert resident_kb("large.npy") == 0
        assert np.array_equal(part, scale(images[: len(part)], "unit"))
