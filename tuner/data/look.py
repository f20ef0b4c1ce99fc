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

    Two images are linked if their difference hashes differ in at most `NEAR_BITS` bits and their
    thumbnails correlate by `NEAR_CORRELATION` or more; a group is what links connect. Two hashes
    that differ in so few bits agree in at least one of `NEAR_BITS` + 1 bands, so only images with
    an equal band are compared: no pair is missed, and few are looked at.

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
    bits = difference_hashes(unique.reshape(-1, SIDE + 1, SIDE + 1))
    words = np.packbits(bits, axis=1).view(np.uint64)
    centred = unique - unique.mean(axis=1, keepdims=True, dtype=np.float32)
    centred /= np.linalg.norm(centred, axis=1, keepdims=True)
    component = np.arange(len(unique))
    for band in np.array_split(np.arange(BITS), NEAR_BITS + 1):
        packed = np.packbits(bits[:, band], axis=1)
        _, of_band = np.unique(packed, axis=0, return_inverse=True)
        order = np.argsort(of_band.ravel(), kind="stable")
        starts = np.flatnonzero(np.diff(of_band.ravel()[order], prepend=-1))
        for members in np.split(order, starts[1:]):
            _link(words, centred, members, component)
    groups: dict[int, list[int]] = {}
    for row, number in zip(rows, component[place.ravel()], strict=True):
        groups.setdefault(int(number), []).append(row)
    return sorted(group for group in groups.values() if len(group) > 1)


def _link(
    words: NDArray[np.uint64],
    centred: NDArray[np.float32],
    members: NDArray[np.int64],
    component: NDArray[np.int64],
) -> None:
    """Give members that are near each other one number in `component`."""
    for position, member in enumerate(members[:-1]):
        others = members[position + 1 :]
        others = others[component[others] != component[member]]
        distance = np.bitwise_count(words[others] ^ words[member]).sum(axis=1, dtype=np.int64)
        close = others[distance <= NEAR_BITS]
        if len(close):
            alike = close[centred[close] @ centred[member] >= NEAR_CORRELATION]
            for number in np.unique(component[alike]):
                component[component == number] = component[member]
