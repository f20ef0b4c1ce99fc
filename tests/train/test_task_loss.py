"""The loss of a task: smoothed labels and weighted classes, held against arithmetic."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tuner.spec import TrainingSettings
from tuner.tasks.classification import class_weights, loss
from tuner.testing.specs import small_candidate
from tuner.train.build import build_keras
from tuner.train.loop import LabelledImages, train

LABELS = np.array([0] * 6 + [1] * 3 + [3] * 3)
"""Of four classes one has no images."""

LOGITS = np.random.default_rng(0).normal(size=(12, 4)).astype(np.float32)


def expected(smoothing: float, weights: np.ndarray) -> float:
    """Mean over the images of weight x cross-entropy with the smoothed label."""
    shifted = LOGITS.astype(np.float64)
    logarithms = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    wanted = np.eye(4)[LABELS] * (1 - smoothing) + smoothing / 4
    return float(np.mean(weights[LABELS] * -(wanted * logarithms).sum(axis=1)))


def test_balanced_classes_weigh_the_same_and_images_one_on_average() -> None:
    weights = class_weights(LABELS, 4)
    totals = weights * np.bincount(LABELS, minlength=4)
    assert totals.tolist() == pytest.approx([4, 4, 0, 4])
    assert weights[LABELS].mean() == pytest.approx(1)
    assert class_weights(np.arange(8) % 4, 4).tolist() == [1, 1, 1, 1]


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("classes", ["none", "balanced"])
def test_the_loss_is_the_weighted_mean_cross_entropy(smoothing: float, classes: str) -> None:
    settings = TrainingSettings(label_smoothing=smoothing, class_weights=classes)
    value = float(loss(settings, LABELS, 4)(LABELS.astype(np.int32), LOGITS))
    weights = class_weights(LABELS, 4) if classes == "balanced" else np.ones(4)
    assert value == pytest.approx(expected(smoothing, weights), rel=1e-5)


def test_the_usual_loss_is_keras_own() -> None:
    import keras

    usual = loss(TrainingSettings(), LABELS, 4)
    assert isinstance(usual, keras.losses.SparseCategoricalCrossentropy)


def uneven(count: int, seed: int) -> LabelledImages:
    """One image in nine is of class 1; bright and dark overlap."""
    generator = np.random.default_rng(seed)
    labels = (np.arange(count) % 9 == 0).astype(np.int64)
    pixels = generator.normal(110 + 30 * labels[:, None, None, None], 40, (count, 8, 8, 1))
    level = generator.normal(0, 30, (count, 1, 1, 1))
    return LabelledImages(images=np.clip(pixels + level, 0, 255).astype(np.uint8), labels=labels)


def rare_found(**settings: object) -> float:
    """Share of the rare class's images that a net finds after one epoch, which is the best one."""
    import keras

    keras.utils.set_random_seed(1)
    candidate = small_candidate()
    training = dataclasses.replace(candidate.training, learning_rate=0.02, **settings)
    candidate = dataclasses.replace(candidate, training=training)
    model = build_keras(candidate.architecture)
    data = uneven(3600, 0)
    train(
        model, candidate, data, uneven(90, 1), epochs=1, seed=2,
        loss=loss(candidate.training, data.labels, 2),
    )  # fmt: skip
    found = uneven(900, 2)
    pixels = (found.images.astype(np.float32) - 128.0) / 128.0
    predicted = model.predict_on_batch(pixels).argmax(axis=1)
    return float(predicted[found.labels == 1].mean())


def test_balanced_classes_find_more_of_a_rare_class() -> None:
    assert rare_found(class_weights="balanced", label_smoothing=0.05) > rare_found() + 0.1
