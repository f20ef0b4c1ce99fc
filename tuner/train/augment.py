"""Random changes to a batch of training images, inside the graph."""

from __future__ import annotations

import math
from typing import Any

from tuner.spec import Augmentation


def augment(images: Any, augmentation: Augmentation, scaling: str, seed: Any) -> Any:
    """Return changed copies of `images`.

    Flip, shift, zoom and rotation are one projective transform an image, bilinear, mirrored at
    the border.

    Args:
        images: float32 tensor, batch x height x width x channels, scaled.
        augmentation: which changes, and how far.
        scaling: `unit` or `signed`; decides what darkness is.
        seed: int32 tensor of shape [2]; the same seed gives the same changes.
    """
    import tensorflow as tf

    changes = augmentation
    geometric = (
        changes.flip_horizontal
        or changes.shift_fraction > 0
        or changes.zoom_fraction > 0
        or changes.rotate_degrees > 0
    )
    if geometric:
        images = tf.raw_ops.ImageProjectiveTransformV3(
            images=images,
            transforms=_transforms(images, changes, seed),
            output_shape=tf.shape(images)[1:3],
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
    if changes.brightness_fraction > 0:
        black = 0.0 if scaling == "unit" else -1.0
        factor = 1.0 + tf.random.stateless_uniform(
            (tf.shape(images)[0], 1, 1, 1),
            seed + [4, 0],
            -changes.brightness_fraction,
            changes.brightness_fraction,
        )
        images = tf.clip_by_value((images - black) * factor + black, black, 1.0)
    return images


def _transforms(images: Any, changes: Augmentation, seed: Any) -> Any:
    """The 8 numbers of each image's transform from output to input positions."""
    import tensorflow as tf

    count = tf.shape(images)[0]
    height, width = images.shape[1], images.shape[2]

    def uniform(offset: int, extent: float) -> Any:
        return tf.random.stateless_uniform((count,), seed + [offset, 0], -extent, extent)

    zoom = 1.0 + uniform(0, changes.zoom_fraction)
    angle = uniform(1, changes.rotate_degrees * math.pi / 180.0)
    shift_x = uniform(2, changes.shift_fraction * width)
    shift_y = uniform(3, changes.shift_fraction * height)
    mirror = tf.ones((count,))
    if changes.flip_horizontal:
        mirror = tf.sign(tf.random.stateless_uniform((count,), seed + [5, 0], -1.0, 1.0))
        mirror = tf.where(mirror == 0.0, 1.0, mirror)
    center_x, center_y = (width - 1) / 2.0, (height - 1) / 2.0
    a, b = zoom * tf.cos(angle) * mirror, -zoom * tf.sin(angle)
    c, d = zoom * tf.sin(angle) * mirror, zoom * tf.cos(angle)
    offset_x = center_x - a * center_x - b * center_y + shift_x
    offset_y = center_y - c * center_x - d * center_y + shift_y
    zero = tf.zeros((count,))
    return tf.stack([a, b, offset_x, c, d, offset_y, zero, zero], axis=1)
