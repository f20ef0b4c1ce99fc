"""Ranges of tensors from what they held."""

from __future__ import annotations

import numpy as np
import pytest

from tuner.train.activations import (
    Activations,
    absolute,
    averaged,
    gather,
    least_error,
    percentile,
)


def seen(*images: np.ndarray) -> Activations:
    return gather([{7: image.astype(np.float32)[None]} for image in images])[7]


def rounding_error(values: np.ndarray, low: float, high: float) -> float:
    step = (high - low) / 255
    zero = np.rint(-low / step)
    whole = np.clip(np.rint(values / step) + zero, 0, 255)
    return float(np.mean(((whole - zero) * step - values) ** 2))


def test_sums_of_a_tensor():
    found = seen(np.array([[1.0, -3.0], [0.5, 2.0]]), np.array([[-2.0, 0.0], [7.0, 0.0]]))
    assert (absolute(found), averaged(found)) == ((-3.0, 7.0), (-2.5, 4.5))
    np.testing.assert_array_equal(found.largest, [7.0, 3.0])
    np.testing.assert_array_equal(found.mean[0], [[-0.5, -1.5], [3.75, 1.0]])
    assert found.counts.sum() == 8


def test_a_percentile_leaves_out_its_share_and_no_more_than_there_is():
    values = np.arange(10_001) / 10_000.0
    low, high = percentile(0.01)(seen(values[:, None]))
    assert (low, high) == (pytest.approx(0.01, rel=2e-3), pytest.approx(0.99, rel=2e-3))
    assert percentile(0.01)(seen(np.array([[0.1], [0.3]]))) == (
        pytest.approx(0.1), pytest.approx(0.3),
    )  # fmt: skip


@pytest.mark.parametrize("kind", ["normal", "rectified", "outlier", "tails"])
def test_the_range_of_least_error_is_as_good_as_any(kind: str):
    generator = np.random.default_rng(0)
    values = {
        "normal": generator.normal(0, 1, 20_000),
        "rectified": np.maximum(generator.normal(0, 1, 20_000), 0),
        "outlier": np.append(generator.uniform(0, 1, 20_000), 1.5),
        "tails": generator.standard_t(2, 20_000),
    }[kind]
    low, high = least_error(seen(values[:, None]))
    ours = rounding_error(values, low, high)
    lowest, highest = values.min(), values.max()
    shares = np.geomspace(0.02, 1.0, 60)
    best = min(
        rounding_error(values, min(0.0, down * lowest), up * highest)
        for down in shares
        for up in shares
    )
    assert ours <= 1.1 * best


def test_values_that_float16_does_not_hold_are_counted_at_its_end():
    assert absolute(seen(np.array([[1e9], [-1e9]]))) == (-1e9, 1e9)
    assert least_error(seen(np.zeros((4, 1)))) == (0.0, 0.0)
