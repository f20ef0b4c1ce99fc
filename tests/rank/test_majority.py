from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from pictures_support import fill
from runs_support import make_spec
from tuner.data import open_dataset
from tuner.rank.majority import majority_of
from tuner.spec import DatasetSpec, from_plain, to_plain


def counted(**class_counts: tuple[int, ...]) -> DatasetSpec:
    return dataclasses.replace(make_spec("r").dataset, class_counts=class_counts)


def test_the_largest_class_of_training_is_taken_for_all():
    found = majority_of(counted(training=(3, 5), validation=(6, 2), test=(0, 0)))
    assert (found.class_name, found.accuracy) == ("b", {"validation": 0.25})
    equal = majority_of(counted(training=(4, 4), validation=(1, 3), test=(2, 2)))
    assert (equal.class_name, equal.accuracy) == ("a", {"validation": 0.25, "test": 0.5})


def test_runs_of_before_have_no_counts():
    dataset = make_spec("r").dataset
    plain = to_plain(dataset)
    del plain["class_counts"]
    assert majority_of(from_plain(DatasetSpec, plain, "run.json")) is None


def test_an_opened_dataset_counts_its_classes(tmp_path: Path):
    dataset = open_dataset(fill(tmp_path, {"cat": 50, "dog": 30, "ant": 20}), split_seed=0)
    counts = dataset.spec.class_counts
    assert counts == {"training": (13, 32, 19), "validation": (3, 8, 5), "test": (4, 10, 6)}
    assert from_plain(DatasetSpec, to_plain(dataset.spec), "run.json") == dataset.spec
    found = majority_of(dataset.spec)
    assert found.class_name == "cat"
    assert found.accuracy == {"validation": pytest.approx(0.5), "test": pytest.approx(0.5)}
