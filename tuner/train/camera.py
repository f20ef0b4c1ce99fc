"""The net as a camera's scripts want it: colour images in, one logit for two classes out."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

LUMA = (19595 / 65536, 38470 / 65536, 7471 / 65536)
"""Shares of red, green and blue in grey, ITU-R 601-2, as Pillow converts (see
`tuner.data.preprocess`). They sum to 1, so scaled pixels give scaled grey."""


def camera_model(model: keras.Model) -> keras.Model:
    """Put the conversion from RGB before a net of grey images, and fold two logits into one.

    The logit of two classes is the second minus the first: its sigmoid is the probability of the
    second.

    Args:
        model: from `build_keras` or `load_keras`.

    Returns:
        A model of the same weights, images x height x width x 3, scaled -> logits.
    """
    import keras
    from keras import layers

    height, width, channels = model.input_shape[1:]
    image = tensor = keras.Input((height, width, 3), name="input")
    if channels == 1:
        grey = layers.Conv2D(1, 1, use_bias=False, name="grey")
        tensor = grey(tensor)
        grey.set_weights([np.array(LUMA, np.float32).reshape(1, 1, 3, 1)])
    if model.output_shape[-1] != 2:
        return keras.Model(image, model(tensor), name="m")
    last = model.layers[-1]
    if isinstance(last, layers.Dense) and last.activation is keras.activations.linear:
        features = keras.Model(model.input, last.input)(tensor)
        kernel, bias = (weights[..., 1:] - weights[..., :1] for weights in last.get_weights())
    else:
        features = model(tensor)
        kernel, bias = np.array([[-1.0], [1.0]], np.float32), np.zeros(1, np.float32)
    head = layers.Dense(1, name="logits")
    logits = head(features)
    head.set_weights([kernel, bias])
    return keras.Model(image, logits, name="m")


def in_colour(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """A copy with three channels; the net's own conversion gives grey images back as they were."""
    return np.broadcast_to(images, (*images.shape[:3], 3)).copy()


def both_logits(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of a camera model, images x outputs, one for each class again."""
    return np.hstack([np.zeros_like(logits), logits]) if logits.shape[1] == 1 else logits
