from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.engine.predictions import (
    STEPS,
    Predictions,
    SplitPredictions,
    predictions_of,
    read_predictions,
    write_predictions,
)


def test_confidence_is_the_softmax_of_the_predicted_class():
    found = predictions_of(np.array([[0, 0], [1, 3], [900, -900]], np.float32))
    assert found.classes.tolist() == [0, 1, 0], "the first of equal logits is predicted"
    assert found.confidences == pytest.approx([0.5, 1 / (1 + np.exp(-2)), 1.0])


@given(
    outputs=st.sampled_from([2, 10, 256, 257, 1000]),
    images=st.integers(1, 50),
    seed=st.integers(0, 99),
)
def test_what_is_written_is_read(tmp_path_factory, outputs: int, images: int, seed: int):
    folder = tmp_path_factory.mktemp("candidate")
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, outputs, images)
    builds = {
        key: predictions_of(generator.normal(0, 3, (images, outputs)).astype(np.float32))
        for key in ("int8", "float32", "int8 litert xnnpack")
    }
    write_predictions(folder, "test", SplitPredictions(labels=labels, builds=builds))
    read = read_predictions(folder, "test")
    assert read is not None
    assert read.labels.tolist() == labels.tolist()
    assert read.builds.keys() == builds.keys()
    for key, written in builds.items():
        assert read.builds[key].classes.tolist() == written.classes.tolist()
        assert np.abs(read.builds[key].confidences - written.confidences).max() <= 0.51 / STEPS
    assert read_predictions(folder, "validation") is None


def test_a_thousand_images_take_a_few_kilobytes(tmp_path: Path):
    generator = np.random.default_rng(0)
    labels = generator.integers(0, 10, 1000)
    logits = generator.normal(0, 3, (1000, 10)).astype(np.float32)
    builds = {key: predictions_of(logits[::step]) for key, step in (("int8", 1), ("float32", -1))}
    write_predictions(tmp_path, "validation", SplitPredictions(labels=labels, builds=builds))
    (file,) = tmp_path.iterdir()
    assert file.stat().st_size < 5000


def test_mistakes_are_sorted_by_confidence_and_then_by_place():
    found = SplitPredictions(
        labels=np.array([0, 1, 0, 1, 1]),
        builds={
            "int8": Predictions(
                classes=np.array([1, 0, 0, 0, 0]), confidences=np.array([0.6, 0.9, 1.0, 0.9, 0.8])
            )
        },
    )
    assert found.mistakes("int8").tolist() == [1, 3, 4, 0]


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 and no more", b"text"])
def test_a_damaged_file_counts_as_none(tmp_path: Path, content: bytes):
    (tmp_path / "predictions-test.npz").write_bytes(content)
    assert read_predictions(tmp_path, "test") is None


def test_a_damaged_array_counts_as_none(tmp_path: Path):
    path = tmp_path / "predictions-test.npz"
    np.savez_compressed(path, labels=np.random.default_rng(0).integers(0, 9, 5000))
    content = bytearray(path.read_bytes())
    content[300:900] = bytes(600)
    path.write_bytes(content)
    assert read_predictions(tmp_path, "test") is None
