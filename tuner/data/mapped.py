"""Images that are read from a memory map of a file."""

from __future__ import annotations

import mmap
from typing import Any

from numpy.typing import NDArray

KEPT_BYTES = 32 * 2**20
"""A smaller memory map may stay in memory."""


def give_back(images: NDArray[Any]) -> None:
    """Let go of the pages of a large memory map, which count as this process' memory.

    The file holds them, and the kernel's cache as long as there is room.

    Args:
        images: an array, or a part of one; nothing is done if it is not of a memory map.
    """
    mapped = getattr(images, "_mmap", None)
    if mapped is not None and len(mapped) > KEPT_BYTES:
        mapped.madvise(mmap.MADV_DONTNEED)
