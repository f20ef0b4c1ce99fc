"""For benchmarks of int8: data sets with many test images, and what pairs of answers say."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from cifar10_search import DATA, TRAINING_IMAGES_PER_CLASS, unpack
from numpy.typing import NDArray
from PIL import Image

from tuner.data.samples import parts

PARTS_TEST_IMAGES = 4800
"""Drawn beyond those that sample:parts has: 480 test images tell a point from none hardly."""


def data_set(name: str, home: Path) -> str:
    """What `--data` takes: `cifar10` and `parts` are written below `home`, if they are not there.

    CIFAR-10 has its first 1,000 training images a class and all 10,000 test images, `parts` the
    images of sample:parts for training.
    """
    images = home / name
    if name not in ("cifar10", "parts") or images.exists():
        return str(images) if images.exists() else name
    if name == "cifar10":
        unpack(DATA / "cifar10-train.zip", images / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", images / "test", None)
        return str(images)
    for index in range(parts.IMAGES + PARTS_TEST_IMAGES):
        split = "train" if index < parts.IMAGES else "test"
        folder = images / split / parts.CLASSES[index % len(parts.CLASSES)]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(parts.draw(index)).save(folder / f"{index:05}.png")
    return str(images)


def summary(pairs: Sequence[tuple[int, int, int]]) -> dict[str, Any]:
    """Points of accuracy lost by nets, and how much of that chance alone would make.

    Args:
        pairs: by net the images that float32 alone has right, that int8 alone has right, and all.
    """
    drops = [100 * (lost - gained) / count for lost, gained, count in pairs]
    errors = [100 * math.sqrt(lost + gained) / count for lost, gained, count in pairs]
    return {
        "mean_drop": round(statistics.mean(drops), 3),
        "standard_error_of_mean": round(math.hypot(*errors) / len(errors), 3),
        "mean_of_drops_above_0": round(statistics.mean(max(drop, 0.0) for drop in drops), 3),
        # The mean of a normal deviate's positive part is its deviation / sqrt(2 pi).
        "same_by_chance_alone": round(
            statistics.mean(error / math.sqrt(2 * math.pi) for error in errors), 3
        ),
        "worst_drop": round(max(drops), 2),
        "beyond_two_errors": sum(
            drop > 2 * error for drop, error in zip(drops, errors, strict=True)
        ),
    }


def expected_loss(float32: NDArray[Any], int8: NDArray[Any]) -> tuple[float, float]:
    """Points that int8 loses if float32's probabilities are true, and their standard error.

    An image costs what float32's likeliest class has more than the class that int8 takes; so the
    labels' chance, most of the error where few answers change, is not in it. It is never below 0.

    Args:
        float32: logits, images by classes.
        int8: logits of the same images.
    """
    odds = np.exp(float32 - float32.max(axis=-1, keepdims=True))
    taken = np.take_along_axis(odds, int8.argmax(axis=-1)[:, None], axis=-1)[:, 0]
    losses = 100 * (1 - taken) / odds.sum(axis=-1)
    return float(losses.mean()), float(losses.std() / math.sqrt(len(losses)))


def mean_expected(losses: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """The mean of what `expected_loss` gave for nets, and its standard error over images.

    Two such means of the same nets differ with less error than both have.
    """
    errors = [error for _, error in losses]
    mean = statistics.mean(loss for loss, _ in losses)
    return round(mean, 3), round(math.hypot(*errors) / len(errors), 3)
