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
    groups: Sequence[str] | None = None,
) -> dict[Split, NDArray[np.int64]]:
    """Rows of each split, ascending.

    A test set is carved out of the training images (20 %) unless one is given, then a validation
    set (20 % of the rest) unless one is given. Both are stratified, and depend on the images'
    content and the seed alone, not on file names. Images with the same content stay together
    wherever their class is not made of copies only. Images of one group stay together always;
    then the shares come as close to 20 % of each class as whole groups allow.

    Args:
        labels: of each row.
        digests: of each row's content.
        given: the split that the source puts each row in; `training` where it says nothing.
        classes: names in label order.
        seed: of the split.
        where: the source, for errors.
        groups: name of the group of each row, empty for a row on its own; None for no groups.

    Raises:
        DataError: a class without training images, or with too few, or of too few groups; or a
            group in two splits that the source gives.
    """
    where_given = np.array([SPLITS.index(split) for split in given], np.int64)
    rows: dict[Split, NDArray[np.int64]] = {
        split: np.flatnonzero(where_given == number) for number, split in enumerate(SPLITS)
    }
    carved = [split for split in ("test", "validation") if not len(rows[split])]
    _check_counts(labels, rows, classes, 2 + len(carved), where)
    if groups is not None:
        _check_groups(groups, given, where)
    for number, split in enumerate(SPLITS[:0:-1]):
        if split in carved:
            generator = np.random.default_rng([seed % 2**32, number])
            pool = rows["training"]
            if groups is None:
                taken = _carve(pool, labels, digests, generator)
            else:
                # As many groups of each class stay as splits are still to come, and training.
                keep = len(carved) - carved.index(split)
                units = _units(pool, digests, groups)
                try:
                    taken = _carve_units(pool, labels, units, generator, keep)
                except _TooFewUnitsError as error:
                    raise DataError(
                        f"Expected at least {1 + len(carved)} groups of images in each class of "
                        f"{where}, so that each split gets one. Received: too few in class "
                        f"'{classes[error.label]}'. Add images of others, or group by less."
                    ) from None
            rows[split], rows["training"] = taken, np.setdiff1d(pool, taken)
    return rows


def fingerprint(
    rows: Mapping[Split, NDArray[np.int64]],
    labels: NDArray[np.int64],
    digests: Sequence[bytes],
    classes: Sequence[str],
    group_by: str = "",
) -> str:
    """16 hexadecimal digits over classes, contents, labels, split, order and groups' pattern."""
    digest = hashlib.blake2b(digest_size=8)
    head = [PIXELS_VERSION, list(classes), *([group_by] if group_by else [])]
    digest.update(json.dumps(head).encode())
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
) -> NDArray[np.int64]:
    """Take a stratified fifth of the rows, ascending."""
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
    return np.array(sorted(taken), np.int64)


class _TooFewUnitsError(Exception):
    """A class has too few groups for its splits."""

    def __init__(self, label: int) -> None:
        super().__init__(label)
        self.label = label


def _check_groups(groups: Sequence[str], given: Sequence[Split], where: str) -> None:
    split_of: dict[str, Split] = {}
    for group, split in zip(groups, given, strict=True):
        if group and split_of.setdefault(group, split) != split:
            raise DataError(
                f"Expected each group of --group-by in one split of {where}. Received: group "
                f"'{group}' in {split_of[group]} and {split}. Move its images to one of them, or "
                "put all images of a class in one folder to have them split anew."
            )


def _units(
    pool: NDArray[np.int64], digests: Sequence[bytes], groups: Sequence[str]
) -> list[list[int]]:
    """Rows that stay together, of one group or of one content, in an order by content."""
    parent = {int(row): int(row) for row in pool}

    def root(row: int) -> int:
        while parent[row] != row:
            parent[row] = row = parent[parent[row]]
        return row

    first: dict[bytes | str, int] = {}
    for row in parent:
        for key in (digests[row], groups[row]):
            if key:
                parent[root(row)] = root(first.setdefault(key, row))
    units: dict[int, list[int]] = {}
    for row in parent:
        units.setdefault(root(row), []).append(row)
    return sorted(units.values(), key=lambda unit: min(digests[row] for row in unit))


def _carve_units(
    pool: NDArray[np.int64],
    labels: NDArray[np.int64],
    units: Sequence[Sequence[int]],
    generator: np.random.Generator,
    keep: int,
) -> NDArray[np.int64]:
    """Take about a fifth of each class in whole units, ascending.

    Units come in random order; one is taken if that brings the classes' shares closer to a
    fifth, by the sum of the differences. A class that got none then gets the unit that does
    least harm. At least `keep` units of each class are left.
    """
    present, counts = np.unique(labels[pool], return_counts=True)
    quotas = _share_out(counts, round(CARVED_SHARE * len(pool)))
    missing = dict(zip(map(int, present), quotas, strict=True))
    got = dict.fromkeys(missing, 0)
    sizes: list[dict[int, int]] = []
    left = dict.fromkeys(missing, 0)
    for rows in units:
        kinds, numbers = np.unique(labels[list(rows)], return_counts=True)
        sizes.append(dict(zip(map(int, kinds), map(int, numbers), strict=True)))
        for label in sizes[-1]:
            left[label] += 1

    def harm(unit: int) -> int:
        return sum(
            abs(missing[label] - size) - abs(missing[label]) for label, size in sizes[unit].items()
        )

    def may_go(unit: int) -> bool:
        return all(left[label] > keep for label in sizes[unit])

    chosen: set[int] = set()

    def take(unit: int) -> None:
        chosen.add(unit)
        for label, size in sizes[unit].items():
            missing[label] -= size
            got[label] += size
            left[label] -= 1

    order = [int(unit) for unit in generator.permutation(len(units))]
    for unit in order:
        if harm(unit) < 0 and may_go(unit):
            take(unit)
    for label in got:
        if not got[label]:
            options = [u for u in order if u not in chosen and label in sizes[u] and may_go(u)]
            if not options:
                raise _TooFewUnitsError(label)
            take(min(options, key=harm))
    return np.array(sorted(row for unit in chosen for row in units[unit]), np.int64)


def _share_out(counts: NDArray[np.int64], total: int) -> list[int]:
    """Share `total` out in proportion to the counts: at least 1 each, largest remainders first."""
    ideal = [total * int(count) / int(counts.sum()) for count in counts]
    quotas = [max(1, int(share)) for share in ideal]
    by_remainder = sorted(range(len(ideal)), key=lambda i: (int(ideal[i]) - ideal[i], i))
    for i in by_remainder:
        if sum(quotas) < total and quotas[i] <= ideal[i]:
            quotas[i] += 1
    return quotas
