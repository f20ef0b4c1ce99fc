"""How alike images look: a thumbnail of each, and groups of those that differ little."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from numpy.typing import NDArray

SIDE = 8
BITS = 2 * SIDE * SIDE
# Levels of 255: what JPEG and resizing change in a thumbnail of flat ground is less.
STEP_LEVELS = 2
FLAT_LEVELS = 16
AXES = 8
NEAR_BITS = 8
NEAR_CORRELATION = 0.992
"""Both bounds were chosen on measurements, which docs/data.md gives."""


def look_of(flat: Image.Image) -> str:
    """A thumbnail, grey, 9 x 9 bytes row by row as hexadecimal digits.

    Args:
        flat: mode `L` or `RGB`, upright.

    Returns:
        The digits; none for an image whose brightest and darkest part differ by less than
        `FLAT_LEVELS` of 255, of which a thumbnail says little more than noise.
    """
    small = flat.convert("L").resize(
        (SIDE + 1, SIDE + 1), Image.Resampling.BILINEAR, reducing_gap=3.0
    )
    levels = np.asarray(small)
    if int(levels.max()) - int(levels.min()) < FLAT_LEVELS:
        return ""
    return levels.tobytes().hex()


def difference_hashes(thumbnails: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A difference hash of each thumbnail.

    64 bits say whether each of 8 x 8 pixels is darker than its right neighbour by more than
    `STEP_LEVELS`, 64 more whether it is darker than the one below. After N. Krawetz, "Kind of
    Like That" (2013), the hash dHash, which compares to the right only.

    Args:
        thumbnails: uint8, n x 9 x 9.

    Returns:
        Bits, 0 or 1, uint8, n x 128.
    """
    levels = thumbnails.astype(np.int16)
    here = levels[:, :-1, :-1]
    right = levels[:, :-1, 1:] - here > STEP_LEVELS
    below = levels[:, 1:, :-1] - here > STEP_LEVELS
    shape = (len(levels), SIDE * SIDE)
    return np.concatenate([right.reshape(shape), below.reshape(shape)], axis=1).astype(np.uint8)


def near_groups(looks: Sequence[str]) -> list[list[int]]:
    """Groups of images that look much alike.

    Two images are linked if their thumbnails correlate by `NEAR_CORRELATION` or more and their
    difference hashes differ in at most `NEAR_BITS` bits; a group is what links connect. No pair
    is missed, and few are compared: thumbnails without mean and of length 1 lie within
    sqrt(2 - 2 x correlation) of each other, so also along each of the axes on which all
    thumbnails differ most.

    Args:
        looks: of `look_of`; empty ones are in no group.

    Returns:
        Positions, ascending, of each group of two or more, by first position.
    """
    rows = [row for row, look in enumerate(looks) if look]
    if not rows:
        return []
    pixels = np.frombuffer(bytes.fromhex("".join(looks[row] for row in rows)), np.uint8)
    unique, place = np.unique(pixels.reshape(len(rows), -1), axis=0, return_inverse=True)
    component = _linked(unique)[place.ravel()]
    groups: dict[int, list[int]] = {}
    for row, number in zip(rows, component, strict=True):
        groups.setdefault(int(number), []).append(row)
    return sorted(group for group in groups.values() if len(group) > 1)


def _linked(pixels: NDArray[np.uint8]) -> NDArray[np.int64]:
    """A number for each thumbnail, n x 81, that it shares with those it is linked to."""
    count = len(pixels)
    bits = difference_hashes(pixels.reshape(-1, SIDE + 1, SIDE + 1))
    words = np.packbits(bits, axis=1).view(np.uint64)
    vectors = pixels - pixels.mean(axis=1, keepdims=True, dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    apart = vectors - vectors.mean(axis=0)
    axes = np.linalg.eigh(apart.T @ apart)[1][:, : -AXES - 1 : -1]
    order = np.argsort(vectors @ axes[:, 0], kind="stable")
    words, vectors = words[order], vectors[order]
    along = np.ascontiguousarray((vectors @ axes).T)
    reach = np.float32(np.sqrt(2 - 2 * NEAR_CORRELATION) + 1e-4)
    ends = np.searchsorted(along[0], along[0] + reach, side="right")
    component = np.arange(count)
    for row in range(count - 1):
        window = slice(row + 1, ends[row])
        near = np.abs(along[1, window] - along[1, row]) <= reach
        near &= component[window] != component[row]
        others = row + 1 + np.flatnonzero(near)
        for axis in range(2, AXES):
            others = others[np.abs(along[axis, others] - along[axis, row]) <= reach]
        if not len(others):
            continue
        others = others[vectors[others] @ vectors[row] >= NEAR_CORRELATION]
        differing = np.bitwise_count(words[others] ^ words[row]).sum(axis=1, dtype=np.int64)
        joined = np.zeros(count, bool)
        joined[component[others[differing <= NEAR_BITS]]] = True
        component[joined[component]] = component[row]
    found = np.empty(count, np.int64)
    found[order] = component
    return found
