"""The images that candidates took for something else, as the report page carries them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from report_support import add_images, made_up_run, small_pictures
from tuner.dashboard import mistakes
from tuner.dashboard.mistakes import gather_mistakes
from tuner.dashboard.report_page import report_page
from tuner.engine import images
from tuner.engine.board import board
from tuner.engine.predictions import read_predictions
from tuner.store.runs import RunFolder

CLASSES = ("a", "b</script>", "c")


@pytest.fixture
def data(home: Path) -> Path:
    return small_pictures(home / "secret.npz", CLASSES)


@pytest.fixture
def folder(home: Path, data: Path) -> RunFolder:
    folder = made_up_run(home / "runs" / "pictured", 44, classes=CLASSES)
    add_images(folder, str(data))
    images._open_data.cache_clear()
    return folder


def best_of(folder: RunFolder) -> str:
    return next(row.result.candidate.id for row in board(folder).rows if row.result.status == "ok")


def test_the_most_confident_mistakes_come_first_with_their_pictures(folder: RunFolder, data: Path):
    found = gather_mistakes(folder, board(folder))
    assert len(found.candidates) == 4
    assert found.note == ""
    best = best_of(folder)
    truth = read_predictions(folder.candidate(best), "validation")
    listed = found.candidates[best]["splits"]["validation"]["int8"]
    wrong = truth.mistakes("int8")
    assert (listed["images"], listed["wrong"]) == (200, len(wrong))
    assert [place for place, _, _ in listed["places"]] == wrong[:24].tolist()
    shares = [confidence for _, _, confidence in listed["places"]]
    assert shares == sorted(shares, reverse=True)
    assert all(0 <= share <= 100 for share in shares)
    pixels = np.load(data)["x_validation"]
    for place, predicted, _ in listed["places"]:
        label, name, picture = found.images["validation"][place]
        assert label == place % 3
        assert predicted != label
        assert name == f"x_validation[{place}]"
        shown = np.asarray(Image.open(io.BytesIO(base64.b64decode(picture))), np.float64)
        # JPEG keeps the mean colour of noise.
        assert np.abs(shown.mean((0, 1)) - pixels[place].mean((0, 1))).max() < 4


def test_pictures_are_bounded_and_belong_to_the_best(
    folder: RunFolder, monkeypatch: pytest.MonkeyPatch
):
    everything = gather_mistakes(folder, board(folder))
    monkeypatch.setattr(mistakes, "PICTURED_CANDIDATES", 1)
    one = gather_mistakes(folder, board(folder))
    places = {
        (split, place)
        for split, by_precision in one.candidates[best_of(folder)]["splits"].items()
        for listed in by_precision.values()
        for place, *_ in listed["places"]
    }
    assert one.pictures == len(places) < everything.pictures
    monkeypatch.setattr(mistakes, "PICTURES_LETTERS", 10_000)
    few = gather_mistakes(folder, board(folder))
    assert 0 < few.pictures < one.pictures
    letters = sum(
        len(image[2]) for split in few.images.values() for image in split.values() if image[2]
    )
    assert letters <= 10_000
    assert "left out" in few.note
    monkeypatch.setattr(mistakes, "LISTED_CANDIDATES", 1)
    listed = gather_mistakes(folder, board(folder)).candidates
    assert [bool(found["splits"]) for found in listed.values()] == [True, False, False, False]
    assert all("best" in found["note"] for found in list(listed.values())[1:])


def test_data_that_is_gone_is_said(folder: RunFolder, data: Path):
    data.unlink()
    found = gather_mistakes(folder, board(folder))
    assert "has changed" in found.note
    assert found.pictures == 0
    (image, *_) = found.images["validation"].values()
    assert image[1:] == [None, None]
    text = report_page(folder, board(folder))
    assert str(data.parent) not in text


def test_files_that_vanish_are_counted(folder: RunFolder, monkeypatch: pytest.MonkeyPatch):
    from tuner.data import Dataset
    from tuner.errors import DataError

    def read(self: Dataset, split: str, index: int) -> np.ndarray:
        if split == "test":
            raise DataError("gone")
        return np.zeros((9, 9, 1), np.uint8)

    monkeypatch.setattr(Dataset, "image", read)
    found = gather_mistakes(folder, board(folder))
    assert {image[2] for image in found.images["test"].values()} == {None}
    assert found.note == (
        f"Without {len(found.images['test'])} pictures: their files are gone or have changed."
    )


def test_a_run_of_before_has_no_predictions(home: Path):
    folder = made_up_run(home / "runs" / "old", 12)
    found = gather_mistakes(folder, board(folder))
    assert {tuple(sorted(item)) for item in found.candidates.values()} == {("note", "splits")}
    assert {item["note"] for item in found.candidates.values()} == {mistakes.NOT_KEPT}
    assert found.pictures == 0


def test_builds_of_the_targets_own_kernels_count(folder: RunFolder):
    """A target that runs with other kernels than the run's first sees the builds scored so."""
    from dataclasses import replace

    from tuner import catalog
    from tuner.engine.predictions import SplitPredictions, write_predictions
    from tuner.spec import builds_key

    best = folder.candidate(best_of(folder))
    kept = read_predictions(best, "test")
    run_with = catalog.load_module("runtimes", board(folder).target.runtime).RUN_WITH
    right = replace(kept.builds["int8"], classes=kept.labels)
    both = {**kept.builds, builds_key("int8", *run_with): right}
    write_predictions(best, "test", SplitPredictions(labels=kept.labels, builds=both))
    listed = gather_mistakes(folder, board(folder)).candidates[best.name]["splits"]["test"]
    assert listed["int8"]["wrong"] == 0
    assert listed["float32"]["wrong"] > 0


def test_the_page_carries_them_packed(folder: RunFolder):
    import re
    import zlib

    text = report_page(folder, board(folder))
    packed = re.search(r'id="images">([^<]*)</script>', text)
    assert packed is not None
    images = json.loads(zlib.decompress(base64.b64decode(packed[1])))
    expected = gather_mistakes(folder, board(folder))
    assert images == json.loads(json.dumps(expected.images))
    data = json.loads(re.search(r'id="data-board">(.*?)</script>', text, re.S)[1])
    assert data["pictures"] == expected.pictures > 20
