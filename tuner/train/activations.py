"""What the tensors of a net hold over some images, and the ranges to quantize them by."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STEPS = 255
"""Of int8 between its lowest and its highest value."""

_SHRINKS = np.concatenate([np.linspace(0.02, 0.3, 15), np.linspace(0.32, 1.0, 35)])
"""Shares of the widest range that are tried."""

_HALVES = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
_ORDER = np.flatnonzero(np.isfinite(_HALVES))
_ORDER = _ORDER[np.argsort(_HALVES[_ORDER], kind="stable")]
_VALUES = _HALVES[_ORDER].astype(np.float64)
"""All finite float16 values in ascending order: the bins of a histogram that needs no range."""


@dataclass(frozen=True, slots=True)
class Activations:
    """What one tensor held over some images.

    Args:
        lows: by image, the lowest value.
        highs: by image, the highest.
        counts: how often each of the finite float16 values in ascending order was nearest.
        largest: by channel, the largest absolute value.
        mean: over the images, with the batch of 1.
    """

    lows: NDArray[np.float32]
    highs: NDArray[np.float32]
    counts: NDArray[np.int64]
    largest: NDArray[np.float32]
    mean: NDArray[np.float32]


def gather(runs: Iterable[Mapping[int, NDArray[np.float32]]]) -> dict[int, Activations]:
    """Sum up tensors over images.

    Args:
        runs: for each image, the tensors by their number, with the batch of 1.
    """
    limit = np.finfo(np.float16).max
    lows: dict[int, list[float]] = {}
    highs: dict[int, list[float]] = {}
    counts: dict[int, NDArray[np.int64]] = {}
    largest: dict[int, NDArray[np.float32]] = {}
    sums: dict[int, NDArray[np.float64]] = {}
    for run in runs:
        for number, tensor in run.items():
            channels = tensor.reshape(-1, tensor.shape[-1])
            peak = np.maximum(channels.max(axis=0), -channels.min(axis=0))
            halves = np.clip(tensor, -limit, limit).astype(np.float16).view(np.uint16)
            count = np.bincount(halves.reshape(-1), minlength=1 << 16)
            if number not in sums:
                lows[number], highs[number] = [], []
                counts[number], largest[number] = count, peak
                sums[number] = tensor.astype(np.float64)
            else:
                counts[number] += count
                largest[number] = np.maximum(largest[number], peak)
                sums[number] += tensor
            lows[number].append(float(channels.min()))
            highs[number].append(float(channels.max()))
    return {
        number: Activations(
            np.asarray(lows[number], np.float32),
            np.asarray(highs[number], np.float32),
            counts[number][_ORDER],
            largest[number],
            (sums[number] / len(lows[number])).astype(np.float32),
        )
        for number in sums
    }


def absolute(found: Activations) -> tuple[float, float]:
    """Lowest and highest value of all images: TFLite's own calibration."""
    return float(found.lows.min()), float(found.highs.max())


def averaged(found: Activations) -> tuple[float, float]:
    """Mean over the images of their lowest and of their highest value."""
    return float(found.lows.mean()), float(found.highs.mean())


def percentile(share: float) -> Callable[[Activations], tuple[float, float]]:
    """The range that leaves out a share of all values at each end."""

    def range_of(found: Activations) -> tuple[float, float]:
        below = np.cumsum(found.counts)
        total = int(below[-1])
        low = _VALUES[np.searchsorted(below, share * total, side="right")]
        high = _VALUES[np.searchsorted(below, (1.0 - share) * total, side="left")]
        return _within(found, low, high)

    return range_of


def least_error(found: Activations) -> tuple[float, float]:
    """The range whose rounding and cutting off make the smallest mean squared error.

    Rounding to steps of s adds s * s / 12 to each value in the range but 0, which int8 holds
    exactly; what lies outside moves to its end.
    """
    lowest, highest = absolute(found)
    low, high = min(0.0, lowest), max(0.0, highest)
    if not high > low:
        return lowest, highest
    used = found.counts > 0
    values, counts = _VALUES[used], found.counts[used].astype(np.float64)
    lows = low * _SHRINKS if low < 0 else np.zeros(1)
    highs = high * _SHRINKS if high > 0 else np.zeros(1)
    cut_low, in_low = _cut(-values[::-1], counts[::-1], -lows)
    cut_high, in_high = _cut(values, counts, highs)
    zeros = float(counts[values == 0].sum())
    inside = in_low[:, None] + in_high[None, :] - counts.sum() - zeros
    steps = (highs[None, :] - lows[:, None]) / _STEPS
    error = cut_low[:, None] + cut_high[None, :] + steps**2 / 12.0 * inside
    row, column = np.unravel_index(int(error.argmin()), error.shape)
    return float(lows[row]), float(highs[column])


def _cut(
    values: NDArray[np.float64], counts: NDArray[np.float64], ends: NDArray[np.float64]
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """By upper end, the squared error of moving what lies above to it, and how many lie below."""
    sums = [
        np.concatenate([np.cumsum((counts * values**power)[::-1])[::-1], [0.0]])
        for power in range(3)
    ]
    above = np.searchsorted(values, ends, side="right")
    zero, one, two = (total[above] for total in sums)
    return two - 2.0 * ends * one + ends**2 * zero, counts.sum() - zero


def _within(found: Activations, low: float, high: float) -> tuple[float, float]:
    lowest, highest = absolute(found)
    return max(float(low), lowest), min(float(high), highest)
