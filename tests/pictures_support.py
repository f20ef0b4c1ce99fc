"""Small real images, and folders of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
from PIL import Image

MakeFolder = Callable[[Mapping[str, int]], Path]


def picture(seed: int, width: int = 12, height: int = 10) -> Image.Image:
    """A colour image of its own for each seed."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)


def fill(root: Path, images: Mapping[str, int], first_seed: int = 0) -> Path:
    """So many images in each folder below root."""
    seed = first_seed
    for name, count in images.items():
        folder = root / name
        folder.mkdir(parents=True, exist_ok=True)
        for number in range(count):
            picture(seed).save(folder / f"{number:03}.png")
            seed += 1
    return root
