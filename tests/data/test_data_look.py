"""The hash that says how alike images look."""

from __future__ import annotations

import io

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageEnhance

from tuner.data.look import BITS, NEAR_BITS, look_of, near_groups
from tuner.data.samples import parts

IMAGES = [Image.fromarray(parts.draw(index)) for index in range(12)]


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


def as_jpeg(image: Image.Image) -> Image.Image:
    file = io.BytesIO()
    image.save(file, "JPEG", quality=85)
    return Image.open(file).convert("RGB")


@pytest.mark.parametrize(
    "change",
    [
        as_jpeg,
        lambda image: image.resize((64, 64), Image.Resampling.BILINEAR),
        lambda image: ImageEnhance.Brightness(image).enhance(1.1),
    ],
)
def test_changed_copies_are_near(change) -> None:  # type: ignore[no-untyped-def]
    distances = [distance(look_of(image), look_of(change(image))) for image in IMAGES]
    assert np.median(distances) <= 3
    assert sum(d <= NEAR_BITS for d in distances) >= 10


def test_different_images_are_not_near() -> None:
    looks = [look_of(image) for image in IMAGES]
    assert min(distance(a, b) for i, a in enumerate(looks) for b in looks[:i]) > NEAR_BITS
    assert near_groups(looks) == []


def test_by_hand() -> None:
    """Right and down it gets lighter in each step: all bits are set; turned around, none."""
    ramp = np.add.outer(np.arange(9), np.arange(9)) * 12
    assert look_of(Image.fromarray(ramp.astype(np.uint8))) == "f" * 32
    assert look_of(Image.fromarray((200 - ramp).astype(np.uint8))) == "0" * 32


def test_flat_images_have_no_hash() -> None:
    assert look_of(Image.new("RGB", (50, 40), (200, 10, 10))) == ""
    assert look_of(Image.new("L", (1, 1), 7)) == ""
    assert near_groups(["", "", "0" * 32]) == []
    assert near_groups(["", ""]) == []


@given(st.lists(st.tuples(st.integers(0, 3), st.sets(st.integers(0, 40), max_size=6)), max_size=25))
def test_groups_are_those_of_comparing_all(changes: list[tuple[int, set[int]]]) -> None:
    random = np.random.default_rng(1)
    bases = [int.from_bytes(random.bytes(BITS // 8)) for _ in range(4)]
    looks = [f"{bases[base] ^ sum(1 << bit for bit in bits):032x}" for base, bits in changes]
    linked = {row: {row} for row in range(len(looks))}
    for i, one in enumerate(looks):
        for j, other in enumerate(looks[:i]):
            if distance(one, other) <= NEAR_BITS and linked[i] is not linked[j]:
                linked[i] |= linked[j]
                for row in linked[i]:
                    linked[row] = linked[i]
    expected = sorted({tuple(sorted(group)) for group in linked.values() if len(group) > 1})
    assert [tuple(group) for group in near_groups(looks)] == expected
