"""Training, validation and test: which image goes where, and the fingerprint of the outcome."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING

import numpy as np

from tuner.errors import DataError
from tuner.spec import SPLITS, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

CARVED_SHARE = 0.2
# Raised when the same files would give other pixels, so that no cache outlives the change.
PIXELS_VERSION = 1


def split_rows(
    labels: NDArray[np.int64],
    digests: Sequence[bytes],
    given: Sequence[Split],
    classes: Sequence[str],
    seed: int,
    where: str,
) -> dict[Split, NDArray[np.int64]]:
    """Rows of each split, ascending.

    A test set is carved out of the training images (20 %) unless one is given, then a validation
    set (20 % of the rest) unless one is given. Both are stratified, and depend on the images'
    content and the seed alone, not on file names. Images with the same content stay together
    wherever their class is not made of copies only.

    Args:
        labels: of each row.
        digests: of each row's content.
        given: the split that the source puts each row in; `training` where it says nothing.
        classes: names in label order.
        seed: of the split.
        where: the source, for errors.

    Raises:
        DataError: a class without training images, or with too few.
    """
    where_given = np.array([SPLITS.index(split) for split in given], np.int64)
    rows: dict[Split, NDArray[np.int64]] = {
        split: np.flatnonzero(where_given == number) for number, split in enumerate(SPLITS)
    }
    carved = [split for split in ("test", "validation") if not len(rows[split])]
    _check_counts(labels, rows, classes, 2 + len(carved), where)
    for number, split in enumerate(SPLITS[:0:-1]):
        if split in carved:
            generator = np.random.default_rng([seed % 2**32, number])
            taken, rest = _carve(rows["training"], labels, digests, generator)
            rows[split], rows["training"] = taken, rest
    return rows


def fingerprint(
    rows: Mapping[Split, NDArray[np.int64]],
    labels: NDArray[np.int64],
    digests: Sequence[bytes],
    classes: Sequence[str],
) -> str:
    """16 hexadecimal digits over classes, contents, labels, split and order."""
    digest = hashlib.blake2b(digest_size=8)
    digest.update(json.dumps([PIXELS_VERSION, list(classes)]).encode())
    for split in SPLITS:
        digest.update(f"{split} {len(rows[split])} ".encode())
        digest.update(labels[rows[split]].astype("<i8").tobytes())
        for row in rows[split]:
            digest.update(digests[row])
    return digest.hexdigest()


def _check_counts(
    labels: NDArray[np.int64],
    rows: Mapping[Split, NDArray[np.int64]],
    classes: Sequence[str],
    needed: int,
    where: str,
) -> None:
    counts = np.bincount(labels[rows["training"]], minlength=len(classes))
    for label, name in enumerate(classes):
        if counts[label] >= needed:
            continue
        elsewhere = [
            split for split in ("validation", "test") if np.any(labels[rows[split]] == label)
        ]
        if elsewhere and not counts[label]:
            raise DataError(
                f"Expected each class of {where} in training. Received: class '{name}' is in "
                f"{' and '.join(elsewhere)} only. Add training images of it or remove it there."
            )
        has = "1 readable image" if counts[label] == 1 else f"{counts[label]} readable images"
        raise DataError(
            f"Expected at least {needed} readable images in each class of {where}, so that each "
            f"split gets one. Received: class '{name}' has {has}. Add images or remove the class."
        )


def _carve(
    pool: NDArray[np.int64],
    labels: NDArray[np.int64],
    digests: Sequence[bytes],
    generator: np.random.Generator,
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Take a stratified fifth of the rows; what is taken and what is left, both ascending."""
    present, counts = np.unique(labels[pool], return_counts=True)
    quotas = _share_out(counts, round(CARVED_SHARE * len(pool)))
    taken: list[int] = []
    for label, quota in zip(present, quotas, strict=True):
        groups: dict[bytes, list[int]] = {}
        for row in pool[labels[pool] == label]:
            groups.setdefault(digests[row], []).append(int(row))
        contents = sorted(groups)
        order = [groups[contents[i]] for i in generator.permutation(len(contents))]
        mine: list[int] = []
        for group in order:
            if len(group) <= quota - len(mine):
                mine += group
        if not mine:  # copies only: they cannot stay together if each split is to get one
            mine = [row for group in order for row in group][:quota]
        taken += mine
    chosen = np.array(sorted(taken), np.int64)
    return chosen, np.setdiff1d(pool, chosen)


def _share_out(counts: NDArray[np.int64], total: int) -> list[int]:
    """Share `total` out in proportion to the counts: at least 1 each, largest remainders first."""
    ideal = [total * int(count) / int(counts.sum()) for count in counts]
    quotas = [max(1, int(share)) for share in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda i: (int(ideal[i]) - ideal[i], i))
    for i in by_remainder:
        if sum(quotas) < total and quotas[i] <= ideal[i]:
            quotas[i] += 1
    return quotas
