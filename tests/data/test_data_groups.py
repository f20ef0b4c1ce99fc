"""Images that stay in one split together."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pictures_support import fill, picture
from tuner.data import open_dataset
from tuner.data.split import fingerprint, split_rows
from tuner.engine.images import open_data
from tuner.errors import DataError
from tuner.spec import SPLITS, DatasetSpec, from_plain, to_plain

VIDEO = r"^(.+)_[0-9]+\."
CLASSES = ["a", "b", "c"]


def videos(root: Path, classes: str = "ab", count: int = 8, frames: int = 5) -> Path:
    seed = 0
    for name in classes:
        (root / name).mkdir(parents=True)
        for video in range(count):
            for frame in range(frames):
                picture(seed).save(root / name / f"{name}-video{video}_{frame:03}.png")
                seed += 1
    return root


def test_frames_of_a_video_stay_together(tmp_path: Path) -> None:
    root = videos(tmp_path / "images")
    dataset = open_dataset(root, split_seed=0, group_by=VIDEO)
    assert dataset.spec.group_by == VIDEO
    found = [{name.rsplit("_", 1)[0] for name in dataset.names(split)} for split in SPLITS]
    assert sum(map(len, found)) == len(set.union(*found)) == 16
    assert dict(dataset.spec.counts) == {"training": 50, "validation": 10, "test": 20}
    for split in SPLITS:
        assert set(dataset.labels(split)) == {0, 1}
    again = open_dataset(root, split_seed=0, group_by=VIDEO)
    assert again.spec == dataset.spec
    other = open_dataset(root, split_seed=1, group_by=VIDEO)
    assert other.spec.fingerprint != dataset.spec.fingerprint


def test_the_pattern_is_part_of_the_fingerprint(tmp_path: Path) -> None:
    root = videos(tmp_path / "images", frames=1)
    prints = {
        open_dataset(root, split_seed=0, group_by=pattern).spec.fingerprint
        for pattern in ("", VIDEO, r"(.+)\.png")
    }
    assert len(prints) == 3


def test_without_a_pattern_splits_and_fingerprints_are_as_before() -> None:
    """Both were computed before there were groups."""
    labels = np.arange(90) % 3
    digests = [f"content {row // 2 if row < 20 else row}".encode() for row in range(90)]
    halves = ["test" if row >= 75 else "training" for row in range(90)]
    for where, expected in ((["training"] * 90, "5106c736a561a2df"), (halves, "68f916ccb617303b")):
        rows = split_rows(labels, digests, where, CLASSES, 7, "here")
        assert fingerprint(rows, labels, digests, CLASSES) == expected


def test_a_run_from_before_has_no_groups() -> None:
    spec = DatasetSpec(
        source="x", fingerprint="0", classes=("a", "b"), counts={}, image_height=1,
        image_width=1, colour="rgb", split_seed=0,
    )  # fmt: skip
    plain = to_plain(spec)
    del plain["group_by"]
    assert from_plain(DatasetSpec, plain, "run.json") == spec


def test_workers_and_templates_split_alike(tmp_path: Path) -> None:
    spec = open_dataset(videos(tmp_path / "images"), split_seed=3, group_by=VIDEO).spec
    again = from_plain(DatasetSpec, json.loads(json.dumps(to_plain(spec))), "run.json")
    assert again == spec
    assert open_data(again).spec == spec
    with pytest.raises(DataError, match="changed since this run began"):
        open_data(replace(spec, group_by="^(.+)_"))


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 14), st.integers(0, 60)), max_size=80),
    st.integers(0, 9),
)
def test_groups_and_copies_are_never_torn(extra: list[tuple[int, int, int]], seed: int) -> None:
    rows = [(label, 100 * label + n, 1000 * label + n) for label in range(3) for n in range(6)]
    rows += extra
    labels = np.array([label for label, _, _ in rows], np.int64)
    groups = ["" if group == 0 else f"group {group}" for _, group, _ in rows]
    digests = [f"content {content}".encode() for _, _, content in rows]
    parts = split_rows(labels, digests, ["training"] * len(rows), CLASSES, seed, "here", groups)
    together = np.concatenate([parts[name] for name in SPLITS])
    assert sorted(together) == list(range(len(rows)))
    for name in SPLITS:
        assert set(labels[parts[name]]) == {0, 1, 2}
        assert list(parts[name]) == sorted(parts[name])
    for keys in (groups, digests):
        found = [{keys[row] for row in parts[name] if keys[row]} for name in SPLITS]
        assert sum(map(len, found)) == len(set.union(*found))


def test_shares_stay_close_to_a_fifth() -> None:
    random = np.random.default_rng(0)
    sizes = random.integers(1, 12, 120)
    groups = [f"g{group}" for group, size in enumerate(sizes) for _ in range(size)]
    labels = np.array([int(group[1:]) % 3 for group in groups])
    digests = [str(row).encode() for row in range(len(groups))]
    parts = split_rows(labels, digests, ["training"] * len(groups), CLASSES, 0, "here", groups)
    for label in range(3):
        share = (labels[parts["test"]] == label).sum() / (labels == label).sum()
        assert 0.17 < share < 0.23


@pytest.mark.parametrize(
    ("pattern", "words"),
    [
        ("(", "which is none"),
        ("video", "without a group. Add brackets."),
        ("(frame)", "names no group in any of 80 names of"),
    ],
)
def test_patterns_that_cannot_be_used(tmp_path: Path, pattern: str, words: str) -> None:
    root = videos(tmp_path / "images")
    with pytest.raises(DataError) as caught:
        open_dataset(root, split_seed=0, group_by=pattern)
    assert words in str(caught.value)
    assert "--group-by" in str(caught.value)


def test_too_few_groups(tmp_path: Path) -> None:
    root = videos(tmp_path / "images", count=2)
    with pytest.raises(DataError, match=r"at least 3 groups of images in each class .* class 'a'"):
        open_dataset(root, split_seed=0, group_by=VIDEO)


def test_a_group_in_two_given_splits(tmp_path: Path) -> None:
    root = fill(tmp_path / "i", {f"{top}/{c}": 5 for top in ("train", "test") for c in "ab"})
    with pytest.raises(DataError, match="group '00' in test and training"):
        open_dataset(root, split_seed=0, group_by=r"^(\d\d)")


def test_arrays_and_samples_have_no_names(tmp_path: Path) -> None:
    np.savez(tmp_path / "i.npz", x=np.zeros((8, 4, 4), np.uint8), y=np.arange(8) % 2)
    for source in (tmp_path / "i.npz", "sample:digits"):
        with pytest.raises(DataError, match="whose images have no file names"):
            open_dataset(source, split_seed=0, group_by="(x)")
