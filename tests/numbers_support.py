"""A dataset whose images are made when they are asked for, and counted."""

from __future__ import annotations

import time

import numpy as np
from PIL import Image

from tuner.data import Dataset
from tuner.spec import DatasetSpec


class SlowReader:
    """Makes images of numbers, slowly, and counts them."""

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self.asked: list[int] = []

    def read(self, row: int) -> Image.Image:
        """The image of a row."""
        self.asked.append(row)
        time.sleep(self.seconds)
        return Image.new("RGB", (3, 3), (row, row, row))


def numbered(reader: SlowReader, count: int, one_size: bool = True) -> Dataset:
    """A dataset of `count` training images, 3 x 3, whose pixels are their numbers."""
    rows = np.arange(count)
    spec = DatasetSpec(
        source="numbers",
        fingerprint="numbers",
        classes=("a", "b"),
        counts={"training": count, "validation": 0, "test": 0},
        image_height=3,
        image_width=3,
        colour="rgb",
        split_seed=0,
    )
    none = rows[:0]
    return Dataset(
        spec=spec,
        rows={"training": rows, "validation": none, "test": none},
        labels=rows % 2,
        names=list(map(str, rows)),
        reader=reader,
        one_size=one_size,
    )
