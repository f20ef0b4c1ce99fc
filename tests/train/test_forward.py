from __future__ import annotations

import numpy as np
import pytest

from tuner.spec import (
    Add,
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    Input,
    MaxPool2D,
    Node,
)
from tuner.train.build import build_keras
from tuner.train.forward import forward


def net(channels: int, activation: str) -> Architecture:
    """Every layer that has a way of its own, and a join."""
    nodes = [Node(name="image", op=Input(height=24, width=14, channels=3))]

    def add(name, operator, *others):
        nodes.append(Node(name=name, op=operator, inputs=(nodes[-1].name, *others)))

    add("stem", Conv2D(filters=channels, kernel=3, stride=2, activation=activation))
    add("depthwise", DepthwiseConv2D(kernel=5, activation=activation))
    add("biased", DepthwiseConv2D(stride=2, batch_norm=False))
    add("first", Conv2D(filters=channels, kernel=1, activation=activation))
    add("second", Conv2D(filters=channels, batch_norm=False, activation=activation))
    add("join", Add(activation=activation), "first")
    add("pool", MaxPool2D(size=2))
    add("strided", Conv2D(filters=channels, kernel=1, stride=2, activation=activation))
    add("flat", Flatten())
    add("hidden", Dense(units=7, activation="relu"))
    add("logits", Dense(units=3))
    return Architecture(nodes=tuple(nodes), outputs=("logits",))


@pytest.mark.parametrize("channels", [4, 8, 12, 16, 24])
@pytest.mark.parametrize("activation", ["relu", "relu6"])
def test_it_computes_what_keras_computes(channels: int, activation: str):
    """Logits, gradients and moving averages, for each kind of normalization."""
    import keras
    import tensorflow as tf

    keras.utils.set_random_seed(0)
    model = build_keras(net(channels, activation))
    generator = np.random.default_rng(1)
    for variable in model.trainable_variables:
        variable.assign(variable + generator.normal(0, 0.1, variable.shape))
    images = generator.normal(0, 1, (32, 24, 14, 3)).astype(np.float32)
    upstream = generator.normal(0, 1, (32, 3)).astype(np.float32)
    weights = [variable.value for variable in model.trainable_variables]

    @tf.function
    def ours(images):
        weights = [tf.identity(variable.value) for variable in model.trainable_variables]
        read = dict(zip(map(id, model.trainable_variables), weights, strict=True))
        logits, averages = forward(model, images, lambda it: read[id(it)], training=True)
        gradients = tf.gradients(logits, weights, grad_ys=tf.constant(upstream))
        new = [it.momentum * it.variable.value + (1 - it.momentum) * it.value for it in averages]
        return logits, gradients, new

    @tf.function
    def theirs(images):
        with tf.GradientTape() as tape:
            logits = model(images, training=True)
        return logits, tape.gradient(logits, weights, output_gradients=upstream)

    logits, gradients, averages = ours(images)
    expected, expected_gradients = theirs(images)  # changes the moving averages
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    largest = max(np.abs(gradient).max() for gradient in expected_gradients)
    for mine, same in zip(gradients, expected_gradients, strict=True):
        np.testing.assert_allclose(mine, same, atol=1e-5 * largest)
    for mine, same in zip(averages, model.non_trainable_weights, strict=True):
        np.testing.assert_allclose(mine, same.numpy(), rtol=1e-4, atol=1e-6)
    inference, none = forward(model, images, lambda it: it.value, training=False)
    np.testing.assert_allclose(inference, model(images, training=False), atol=1e-4)
    assert not none


def test_an_unknown_layer_with_weights_is_refused():
    import keras
    from keras import layers

    image = keras.Input((4, 4, 3))
    model = keras.Model(image, layers.Conv2DTranspose(2, 3, name="up")(image))
    with pytest.raises(TypeError, match="Conv2DTranspose 'up'"):
        forward(model, np.zeros((1, 4, 4, 3), np.float32), lambda it: it.value, training=False)
