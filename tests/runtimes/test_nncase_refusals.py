"""What nncase gets wrong is refused, and only that: the real compiler and simulator beside LiteRT.

The nets end in a convolution over the whole map, so that a shuffle of positions shows.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numpy as np
import pytest

from tuner.catalog import load_target
from tuner.engine.costs import cost_on
from tuner.errors import TuneError
from tuner.runtimes import kmodel, litert, nncase
from tuner.runtimes.tflite_file import parse_graph

Layer = Callable[[Any, Any, Any], Any]
"""Of a tensor, Keras and TensorFlow."""

HEIGHT, WIDTH, IMAGES = 24, 20, 8
RIGHT = 0.98
"""Correlation of the logits, their means over images taken off. All that was right had .992 and
more, what was wrong .93 and less."""


def upsampled(x: Any, keras: Any, tf: Any) -> Any:
    return keras.layers.UpSampling2D(2, interpolation="nearest")(x)


def tile_of_five_axes(x: Any, keras: Any, tf: Any) -> Any:
    def doubled(x: Any) -> Any:
        columns = tf.reshape(x, [1, HEIGHT, WIDTH, 1, 8])
        return tf.reshape(tf.tile(columns, [1, 1, 1, 2, 1]), [1, HEIGHT, 2 * WIDTH, 8])

    return keras.layers.Lambda(doubled)(x)


def tile_of_four_axes(x: Any, keras: Any, tf: Any) -> Any:
    return keras.layers.Lambda(lambda x: tf.tile(x, [1, 2, 2, 1]))(x)


def resized(name: str, factor: float = 2, **options: bool) -> Layer:
    def resize(x: Any, keras: Any, tf: Any) -> Any:
        operation, size = getattr(tf.raw_ops, name), [int(factor * HEIGHT), int(factor * WIDTH)]
        return keras.layers.Lambda(lambda x: operation(images=x, size=size, **options))(x)

    return resize


def residual(activation: str) -> Layer:
    def add(x: Any, keras: Any, tf: Any) -> Any:
        beside = keras.layers.Conv2D(8, 3, padding="same", name="beside")(x)
        return keras.layers.Activation(activation)(keras.layers.Add()([x, beside]))

    return add


def l2_normalization(x: Any, keras: Any, tf: Any) -> Any:
    return keras.layers.Lambda(lambda x: tf.math.l2_normalize(x, axis=-1))(x)


def dilated(depthwise: bool) -> Layer:
    def convolve(x: Any, keras: Any, tf: Any) -> Any:
        options = {"padding": "same", "dilation_rate": 2, "name": "dilated"}
        if depthwise:
            return keras.layers.DepthwiseConv2D(3, **options)(x)
        return keras.layers.Conv2D(8, 3, **options)(x)

    return convolve


def transposed(x: Any, keras: Any, tf: Any) -> Any:
    return keras.layers.Conv2DTranspose(8, 2, 2, name="transposed")(x)


WRONG = {
    "UpSampling2D, nearest": (upsampled, "TILE of five axes"),
    "TILE of five axes": (tile_of_five_axes, "TILE of five axes"),
    "bilinear, half-pixel": (
        resized("ResizeBilinear", half_pixel_centers=True),
        "with half-pixel centers wrongly",
    ),
    "nearest, half-pixel, 1.5 times": (
        resized("ResizeNearestNeighbor", 1.5, half_pixel_centers=True),
        "RESIZE_NEAREST_NEIGHBOR with half-pixel centers wrongly but for whole factors",
    ),
    "dilated depthwise": (dilated(depthwise=True), "DEPTHWISE_CONV_2D with dilation wrongly"),
    "sum with relu6": (residual("relu6"), "of a sum with relu6; one with relu runs"),
    "L2_NORMALIZATION": (l2_normalization, "does not run of L2_NORMALIZATION"),
}
NEIGHBOURS = {
    "TILE of four axes": tile_of_four_axes,
    "nearest": resized("ResizeNearestNeighbor", half_pixel_centers=True),
    "nearest, 1.5 times": resized("ResizeNearestNeighbor", 1.5, half_pixel_centers=False),
    "dilated": dilated(depthwise=False),
    "bilinear": resized("ResizeBilinear"),
    "bilinear, aligned corners": resized("ResizeBilinear", align_corners=True),
    "sum with relu": residual("relu"),
    "TRANSPOSE_CONV": transposed,
}


@cache
def net(layer: Layer) -> bytes:
    import keras
    import tensorflow as tf

    from tuner.testing.weights import randomize_weights
    from tuner.train.convert import convert_tflite

    image = keras.Input((HEIGHT, WIDTH, 3))
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="first")(image)
    x = layer(x, keras, tf)
    x = keras.layers.Conv2D(8, 3, padding="same", activation="relu", name="second")(x)
    logits = keras.layers.Dense(6, name="logits")(keras.layers.Flatten()(x))
    model = keras.Model(image, logits)
    randomize_weights(model, 1)
    return convert_tflite(model, "float32")


def correlation(model: bytes) -> float:
    """Of the kmodel's logits with LiteRT's float32 ones, over images."""
    generator = np.random.default_rng(3)
    coarse = generator.integers(0, 256, (2 * IMAGES, HEIGHT // 2, WIDTH // 2, 3), dtype=np.uint8)
    images = coarse.repeat(2, axis=1).repeat(2, axis=2)
    images.flat[0], images.flat[-1] = 0, 255
    compiled = kmodel.compile_kmodel(model, images, (0.0, 1.0))
    own = kmodel.simulate_kmodel(compiled.kmodel, images[:IMAGES], 1)
    other = litert.predict(model, "float32", images[:IMAGES].astype(np.float32) / 255)
    own, other = own - own.mean(axis=0), other - other.mean(axis=0)
    return float((own * other).sum() / np.sqrt((own**2).sum() * (other**2).sum()))


@pytest.mark.parametrize("case", WRONG)
def test_refused_with_a_reason_before_anything_is_compiled(case: str) -> None:
    layer, reason = WRONG[case]
    model = net(layer)
    cost = cost_on(parse_graph(model), load_target("k230"))
    assert not cost.fits
    assert [reason in text for text in cost.refused] == [True]
    with pytest.raises(TuneError) as caught:
        nncase.measure({"float32": model}, load_target("k230"))
    assert str(caught.value).startswith("nncase cannot compile the model: nncase ")
    assert reason in str(caught.value)


@pytest.mark.parametrize("case", NEIGHBOURS)
def test_its_neighbours_are_not_refused(case: str) -> None:
    assert cost_on(parse_graph(net(NEIGHBOURS[case])), load_target("k230")).refused == ()


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("case", WRONG)
def test_what_is_refused_is_wrong_today(case: str) -> None:
    model = net(WRONG[case][0])
    if "does not run" in WRONG[case][1] or "relu6" in case:
        with pytest.raises(TuneError, match=r"simulate the model: .*Operation not supported"):
            correlation(model)
    else:
        assert correlation(model) < RIGHT


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("case", NEIGHBOURS)
def test_what_is_allowed_is_right(case: str) -> None:
    assert correlation(net(NEIGHBOURS[case])) > RIGHT
