from __future__ import annotations

import numpy as np
import pytest

from tuner.spec import Augmentation
from tuner.train.augment import change, draw_changes

COUNT, HEIGHT, WIDTH = 6, 8, 10


def batch() -> np.ndarray:
    generator = np.random.default_rng(0)
    return generator.integers(0, 256, (COUNT, HEIGHT, WIDTH, 3), dtype=np.uint8)


def changed(images: np.ndarray, augmentation: Augmentation, seed: int = 0) -> np.ndarray:
    import tensorflow as tf

    drawn = draw_changes(augmentation, (COUNT,), HEIGHT, WIDTH, np.random.default_rng(seed))
    return change(tf.constant(images), drawn, augmentation).numpy()


def test_no_augmentation_changes_nothing():
    assert np.array_equal(changed(batch(), Augmentation()), batch())


def test_mirroring_mirrors_some_images_and_leaves_the_others():
    images = batch()
    result = changed(images, Augmentation(flip_horizontal=True), seed=1)
    mirrored = [np.allclose(a, b[:, ::-1], atol=0) for a, b in zip(result, images, strict=True)]
    same = [np.allclose(a, b, atol=0) for a, b in zip(result, images, strict=True)]
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
    assert one.min() >= -0.01
    assert one.max() <= 255.01


TINY = 1e-9


@pytest.mark.parametrize("extent", [0.1, 0.5])
def test_boxes_and_transforms_are_the_same_map(extent: float):
    """A rotation by next to nothing takes the other way, mirrored borders included."""
    moved = {"flip_horizontal": True, "shift_fraction": extent, "zoom_fraction": extent}
    still, turned = Augmentation(**moved), Augmentation(**moved, rotate_degrees=TINY)
    for seed in range(8):
        # Where both read next to a pixel's edge, float32 positions differ in the last place.
        np.testing.assert_allclose(
            changed(batch(), still, seed), changed(batch(), turned, seed), atol=0.1
        )


def test_a_shift_alone_is_by_whole_pixels_and_mirrors_the_border():
    images = batch()
    shifted = changed(images, Augmentation(flip_horizontal=True, shift_fraction=0.3))
    for image, result in zip(images, shifted, strict=True):
        found = 0
        for flipped in (image, image[:, ::-1]):
            wide = np.pad(flipped, ((4, 4), (4, 4), (0, 0)), mode="symmetric")
            found += sum(
                np.array_equal(wide[y : y + HEIGHT, x : x + WIDTH], result)
                for y in range(9)
                for x in range(9)
            )
        assert found == 1
