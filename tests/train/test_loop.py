from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from tests_support import small_candidate
from tuner.spec import Augmentation
from tuner.train.augment import augment
from tuner.train.build import build_keras
from tuner.train.loop import MIN_PATIENCE_EPOCHS, Epoch, LabelledImages, make_evaluator, train


def stripes(count: int, seed: int) -> LabelledImages:
    """Horizontal against vertical stripes, with noise."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    pattern = np.where(np.arange(8) % 2, 200, 40)
    images = np.where(labels[:, None, None] == 1, pattern[None, :, None], pattern[None, None, :])
    noisy = images + generator.normal(0, 30, images.shape)
    return LabelledImages(
        images=np.clip(noisy, 0, 255).astype(np.uint8)[..., None], labels=labels.astype(np.int64)
    )


def trained(epochs: int = 6, seed: int = 3, learning_rate: float | None = None, **options):
    import keras

    keras.utils.set_random_seed(seed)
    candidate = small_candidate()
    if learning_rate is not None:
        settings = dataclasses.replace(candidate.training, learning_rate=learning_rate)
        candidate = dataclasses.replace(candidate, training=settings)
    model = build_keras(candidate.architecture)
    outcome = train(
        model,
        candidate,
        stripes(256, 0),
        stripes(64, 1),
        epochs=epochs,
        seed=seed,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model, outcome


def test_it_learns_and_keeps_the_best_epoch():
    epochs: list[Epoch] = []
    model, outcome = trained(epochs=30, on_epoch=epochs.append)
    assert outcome.epochs == len(outcome.curve) == len(epochs) == 30
    assert max(outcome.curve) > 0.9
    assert outcome.curve[outcome.best_epoch - 1] == max(outcome.curve)
    kept = make_evaluator(model, stripes(64, 1), "signed")()
    assert kept == max(outcome.curve)
    assert epochs[-1].loss < epochs[0].loss


def test_the_same_seed_gives_the_same_weights():
    first, second, other = trained()[0], trained()[0], trained(seed=4)[0]
    for mine, same in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(mine, same)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_a_clock_cuts_the_planned_epochs():
    _, outcome = trained(epochs=100_000, seconds=1.5)
    assert outcome.epochs == outcome.planned < 100_000


def test_a_clock_lets_a_fast_training_have_all_its_epochs():
    _, outcome = trained(epochs=2, seconds=60.0)
    assert outcome.epochs == small_candidate().training.epochs


def test_patience_ends_a_training_that_gets_no_better():
    _, outcome = trained(epochs=400, patience_share=0.02)
    first_best = outcome.curve.index(max(outcome.curve)) + 1
    assert outcome.epochs == first_best + MIN_PATIENCE_EPOCHS < 400


def test_a_loss_that_explodes_is_refused():
    from tuner.errors import TuneError

    with pytest.raises(TuneError, match=r"infinite in the first epoch; the learning rate 1e\+30"):
        trained(learning_rate=1e30)


def batch() -> np.ndarray:
    return np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 3)).astype(np.float32)


def changed(images: np.ndarray, augmentation: Augmentation, seed: int = 0) -> np.ndarray:
    import tensorflow as tf

    return augment(tf.constant(images), augmentation, "signed", tf.constant([seed, 0])).numpy()


def test_no_augmentation_changes_nothing():
    assert np.array_equal(changed(batch(), Augmentation()), batch())


def test_mirroring_mirrors_some_images_and_leaves_the_others():
    images = batch()
    result = changed(images, Augmentation(flip_horizontal=True), seed=1)
    mirrored = [np.allclose(a, b[:, ::-1], atol=1e-5) for a, b in zip(result, images, strict=True)]
    same = [np.allclose(a, b, atol=1e-5) for a, b in zip(result, images, strict=True)]
    assert all(m or s for m, s in zip(mirrored, same, strict=True))
    assert any(mirrored)
    assert any(same)


@pytest.mark.parametrize(
    "augmentation",
    [
        Augmentation(shift_fraction=0.2),
        Augmentation(zoom_fraction=0.2),
        Augmentation(rotate_degrees=20.0),
        Augmentation(brightness_fraction=0.3),
    ],
)
def test_changes_depend_on_the_seed_and_stay_in_range(augmentation: Augmentation):
    images = batch()
    one, again, two = (changed(images, augmentation, seed) for seed in (1, 1, 2))
    assert np.array_equal(one, again)
    assert not np.array_equal(one, two)
    assert one.min() >= -1.0001
    assert one.max() <= 1.0001
