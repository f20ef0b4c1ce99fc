"""Draw images so that each class has its part."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def stratified_rows(
    labels: NDArray[np.int64], counts: tuple[int, ...], seed: int = 0
) -> tuple[NDArray[np.int64], ...]:
    """Draw disjoint sets of rows, each with as many of every class as there are.

    Rows are drawn from the classes in turn, so that a small class is used up before a large one
    fills the rest. Of too few rows, each set gets its part.

    Args:
        labels: of all rows, in a fixed order.
        counts: how many rows each set gets.
        seed: of the draw; the same gives the same rows.

    Returns:
        For each count, rows in ascending order.
    """
    order = np.random.default_rng(seed).permutation(len(labels))
    turns = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        own = order[labels[order] == label]
        turns[own] = np.arange(len(own))
    drawn = order[np.argsort(turns[order], kind="stable")]
    share = min(1.0, len(labels) / sum(counts))
    ends = np.ceil(np.cumsum(counts) * share).astype(np.int64)
    return tuple(np.sort(rows) for rows in np.split(drawn, ends)[: len(counts)])
