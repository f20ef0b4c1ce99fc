from __future__ import annotations

import numpy as np

from tuner.data.stratify import stratified_rows


def test_each_set_has_as_many_of_every_class_as_there_are():
    labels = np.repeat([0, 1, 2], [500, 60, 4])
    first, second = stratified_rows(labels, (30, 90))
    assert (len(first), len(second)) == (30, 90)
    assert not set(first) & set(second)
    np.testing.assert_array_equal(np.bincount(labels[first]), [13, 13, 4])
    np.testing.assert_array_equal(np.bincount(labels[second], minlength=3), [45, 45, 0])
    assert (np.diff(first) > 0).all()


def test_the_draw_depends_on_the_seed_alone():
    labels = np.arange(100) % 10
    same = [stratified_rows(labels, (20, 30)) for _ in range(2)]
    for one, other in zip(*same, strict=True):
        np.testing.assert_array_equal(one, other)
    assert (stratified_rows(labels, (20, 30), seed=1)[0] != same[0][0]).any()


def test_too_few_rows_are_shared_out():
    first, second = stratified_rows(np.arange(9) % 2, (200, 400))
    assert (len(first), len(second)) == (3, 6)
    assert sorted([*first, *second]) == list(range(9))
    only, none = stratified_rows(np.zeros(1, np.int64), (200, 400))
    assert (len(only), len(none)) == (1, 0)
