"""The thumbnails that say how alike images look."""

from __future__ import annotations

import io
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from tuner.data.look import (
    NEAR_BITS,
    NEAR_CORRELATION,
    difference_hashes,
    look_of,
    near_groups,
)
from tuner.data.samples import parts

IMAGES = [Image.fromarray(parts.draw(index)) for index in range(12)]


def thumbnail(look: str) -> np.ndarray:
    return np.frombuffer(bytes.fromhex(look), np.uint8).reshape(9, 9)


def near(one: str, other: str) -> bool:
    """By the definition, with other means."""
    if not one or not other:
        return False
    thumbnails = np.array([thumbnail(one), thumbnail(other)])
    first, second = difference_hashes(thumbnails)
    correlation = np.corrcoef(thumbnails.reshape(2, -1))[0, 1]
    return bool((first != second).sum() <= NEAR_BITS and correlation >= NEAR_CORRELATION - 1e-6)


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=60)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda image: image.resize((64, 64), Image.Resampling.BILINEAR),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    ],
)
def test_changed_copies_are_near(change: Callable[[Image.Image], Image.Image]) -> None:
    found = near_groups([look_of(image) for image in [*IMAGES, *map(change, IMAGES)]])
    assert all(group[0] + 12 == group[1] and len(group) == 2 for group in found)
    assert len(found) >= 11


def test_different_images_are_not_near() -> None:
    assert near_groups([look_of(image) for image in IMAGES]) == []


def test_the_hash_by_hand() -> None:
    """Right and down it gets lighter in each step: all bits are set; turned around, none."""
    ramp = (np.add.outer(np.arange(9), np.arange(9)) * 12).astype(np.uint8)
    assert np.array_equal(thumbnail(look_of(Image.fromarray(ramp))), ramp)
    steps = np.array([ramp, 200 - ramp, np.arange(81).reshape(9, 9) % 9 * 3], np.uint8)
    assert difference_hashes(steps).tolist() == [[1] * 128, [0] * 128, [1] * 64 + [0] * 64]


def test_flat_images_have_no_thumbnail() -> None:
    assert look_of(Image.new("RGB", (50, 40), (200, 10, 10))) == ""
    assert look_of(Image.new("L", (1, 1), 7)) == ""
    look = look_of(IMAGES[0])
    assert near_groups(["", look, "", look]) == [[1, 3]]
    assert near_groups(["", ""]) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9), st.integers(0, 99)), max_size=25))
def test_groups_are_those_of_comparing_all(changes: list[tuple[int, int, int]]) -> None:
    looks = []
    for base, strength, seed in changes:
        levels = np.random.default_rng(base).normal(128, 40, (9, 9))
        noise = np.random.default_rng([base, seed]).normal(0, strength, (9, 9))
        looks.append(np.clip(levels + noise, 0, 255).astype(np.uint8).tobytes().hex())
    linked = {row: {row} for row in range(len(looks))}
    for i, one in enumerate(looks):
        for j, other in enumerate(looks[:i]):
            if near(one, other) and linked[i] is not linked[j]:
                linked[i] |= linked[j]
                for row in linked[i]:
                    linked[row] = linked[i]
    expected = sorted({tuple(sorted(group)) for group in linked.values() if len(group) > 1})
    assert [tuple(group) for group in near_groups(looks)] == expected
