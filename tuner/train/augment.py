"""Random changes to training images: drawn in numpy, made inside the graph."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.spec import Augmentation

if TYPE_CHECKING:
    from numpy.typing import NDArray


def draw_changes(
    augmentation: Augmentation,
    shape: tuple[int, ...],
    height: int,
    width: int,
    generator: np.random.Generator,
) -> dict[str, NDArray[Any]]:
    """Draw what `change` does to each image.

    Flip, shift, zoom and rotation are one map from output to input positions. Alone, a shift is
    by whole pixels: nothing is blurred, 1.6 points better on CIFAR-10 (docs/training.md).

    Args:
        augmentation: which changes, and how far.
        shape: of the images' arrangement, such as (steps, batch).
        height: of an image, pixels.
        width: of an image, pixels.
        generator: the same state gives the same changes.

    Returns:
        `rows` and `columns`, the input row of each output row, and so on. Where images are
        zoomed instead `boxes`, 4 numbers an image: y and x of the first and of the last output
        pixel in the widened image, as shares of its sides. Where they are rotated instead
        `transforms`, the 8 numbers of a projective transform. And `factors` of brightness, one an
        image. What the augmentation leaves alone is not in it.
    """

    def uniform(extent: float) -> NDArray[np.float64]:
        return generator.uniform(-extent, extent, shape)

    changes: dict[str, NDArray[Any]] = {}
    if _moves(augmentation):
        zoom = 1.0 + uniform(augmentation.zoom_fraction)
        angle = uniform(math.radians(augmentation.rotate_degrees))
        shift_x = uniform(augmentation.shift_fraction * width)
        shift_y = uniform(augmentation.shift_fraction * height)
        mirror = np.where(augmentation.flip_horizontal & (generator.random(shape) < 0.5), -1, 1)
        center_x, center_y = (width - 1) / 2.0, (height - 1) / 2.0
        a, b = zoom * np.cos(angle) * mirror, -zoom * np.sin(angle)
        c, d = zoom * np.sin(angle) * mirror, zoom * np.cos(angle)
        x = center_x - a * center_x - b * center_y + shift_x
        y = center_y - c * center_x - d * center_y + shift_y
        if augmentation.rotate_degrees > 0:
            zero = np.zeros(shape)
            changes["transforms"] = np.stack([a, b, x, c, d, y, zero, zero], axis=-1)
        elif not augmentation.zoom_fraction:
            changes["rows"] = _mirrored(np.rint(shift_y)[..., None] + np.arange(height))
            start = np.where(mirror < 0, width - 1, 0) + np.rint(shift_x)
            changes["columns"] = _mirrored(start[..., None] + mirror[..., None] * np.arange(width))
        else:
            above, left = _margins(augmentation, height, width)
            rows, columns = height + 2 * above - 1, width + 2 * left - 1
            last_x, last_y = x + a * (width - 1), y + d * (height - 1)
            changes["boxes"] = np.stack(
                [
                    (y + above) / rows,
                    (x + left) / columns,
                    (last_y + above) / rows,
                    (last_x + left) / columns,
                ],
                axis=-1,
            )
    if augmentation.brightness_fraction > 0:
        changes["factors"] = 1.0 + uniform(augmentation.brightness_fraction)
    return {
        name: values.astype(np.int32 if name in ("rows", "columns") else np.float32)
        for name, values in changes.items()
    }


def change(images: Any, changes: Mapping[str, Any], augmentation: Augmentation) -> Any:
    """Return changed copies of `images`, mirrored at the border; bilinear if zoomed or rotated.

    Args:
        images: uint8 tensor, batch x height x width x channels, its shape known.
        changes: from `draw_changes`, a row an image.
        augmentation: that they were drawn for.

    Returns:
        float32 tensor of the same shape, 0 to 255.
    """
    import tensorflow as tf

    count, height, width, channels = images.shape
    if "rows" in changes:
        rows = changes["rows"] + height * tf.range(count)[:, None]
        places = width * rows[:, :, None] + changes["columns"][:, None, :]
        images = tf.gather(tf.reshape(images, (-1, channels)), places)
    if "boxes" in changes:
        # On a CPU half the time of a projective transform, which finds each channel's place anew.
        pixels = tf.image.crop_and_resize(
            _widened(images, *_margins(augmentation, height, width)),
            changes["boxes"],
            tf.range(count),
            (height, width),
        )
    else:
        pixels = tf.cast(images, tf.float32)
    if "transforms" in changes:
        pixels = tf.raw_ops.ImageProjectiveTransformV3(
            images=pixels,
            transforms=changes["transforms"],
            output_shape=(height, width),
            fill_value=0.0,
            interpolation="BILINEAR",
            fill_mode="REFLECT",
        )
    if "factors" in changes:
        pixels = tf.minimum(pixels * changes["factors"][:, None, None, None], 255.0)
    return pixels


def _moves(augmentation: Augmentation) -> bool:
    return (
        augmentation.flip_horizontal
        or augmentation.shift_fraction > 0
        or augmentation.zoom_fraction > 0
        or augmentation.rotate_degrees > 0
    )


def _mirrored(places: NDArray[np.float64]) -> NDArray[np.float64]:
    """Places on one side of an image; beyond its ends the image goes on mirrored."""
    side = places.shape[-1]
    places = np.where(places < 0, -1 - places, places)
    return np.where(places >= side, 2 * side - 1 - places, places)


def _margins(augmentation: Augmentation, height: int, width: int) -> tuple[int, int]:
    """Mirrored rows above (and below) and columns left (and right) that a box can reach."""
    reach = augmentation.shift_fraction + augmentation.zoom_fraction / 2.0
    # One more, because what rounding puts outside the widened image would be black.
    above, left = (min(side, math.ceil(reach * side) + 1) for side in (height, width))
    return above, left


def _widened(images: Any, above: int, left: int) -> Any:
    """Images with mirrored borders, as `tf.pad` makes them for a tenth of its time."""
    import tensorflow as tf

    images = tf.concat(
        [tf.reverse(images[:, :above], [1]), images, tf.reverse(images[:, -above:], [1])], axis=1
    )
    return tf.concat(
        [tf.reverse(images[:, :, :left], [2]), images, tf.reverse(images[:, :, -left:], [2])],
        axis=2,
    )
