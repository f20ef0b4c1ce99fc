"""What a Keras model computes, in the operations that a CPU runs fastest.

Keras' own call is made for any layer on any backend. For the few layers of `build_keras` there
are shorter ways to the same numbers, measured on one x86-64 thread (see docs/training.md): batch
normalization as one fused operation, and less to trace.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import keras

WIDE = 128
"""Columns that make an elementwise operation with a value a channel quick."""


@dataclass(frozen=True, slots=True)
class Average:
    """What a batch adds to a moving average: average = momentum x average + the rest x value."""

    variable: keras.Variable
    value: Any
    momentum: float


def mean_averages(parts: Sequence[Sequence[Average]]) -> list[Average]:
    """What a batch adds, from what its equal parts add."""
    return [
        replace(same[0], value=sum(average.value for average in same) / len(same))
        for same in zip(*parts, strict=True)
    ]


def forward(
    model: keras.Model,
    images: Any,
    read: Callable[[keras.Variable], Any],
    *,
    training: bool,
    frozen: Collection[str] = (),
) -> tuple[Any, list[Average]]:
    """Compute `model(images, training=training)`, moving averages untouched, in a `tf.function`.

    Gradients in training are for `tf.gradients`; a tape does not know those of all operations.

    Args:
        model: from `build_keras`; each layer is used once.
        images: float32 tensor, batch x height x width x channels, scaled.
        read: gives the tensor to use for a variable of the model.
        training: normalize by the batch, and drop what dropout drops.
        frozen: names of layers that compute as outside of training.

    Returns:
        Logits, batch x outputs; and what the batch adds to the moving averages, in training.

    Raises:
        TypeError: a layer with weights that `build_keras` does not make.
    """
    from keras import layers

    averages: list[Average] = []
    tensors = {id(model.input): images}
    for layer in model.layers:
        if isinstance(layer, layers.InputLayer):
            continue
        learns = training and layer.name not in frozen
        if isinstance(layer.input, list):
            result = layer([tensors[id(item)] for item in layer.input], training=learns)
        elif isinstance(layer, layers.BatchNormalization):
            result = _normalize(layer, tensors[id(layer.input)], read, learns, averages)
        else:
            result = _apply(layer, tensors[id(layer.input)], read, learns)
        tensors[id(layer.output)] = result
    return tensors[id(model.output)], averages


def every(tensor: Any, strides: tuple[int, int]) -> Any:
    """The pixels of batch x height x width x channels that a 1 x 1 convolution reads.

    oneDNN crashes in the gradient of the kernel of one with strides where the input has few
    channels: seen for 4 and 8 channels, strides of 2, 48 to 160 pixels a side (TensorFlow 2.21 on
    AVX-512); none of 16 channels and more crashed, and no 3 x 3 one.
    """
    rows, columns = strides
    return tensor if strides == (1, 1) else tensor[:, ::rows, ::columns]


def convolve_pixels(tensor: Any, kernel: Any, strides: tuple[int, int]) -> Any:
    """A 1 x 1 convolution as a product of matrices, whose gradients are quicker."""
    import tensorflow as tf

    pixels = every(tensor, strides)
    columns = tf.reshape(pixels, (-1, pixels.shape[-1]))
    product = columns @ tf.reshape(kernel, (-1, kernel.shape[-1]))
    return tf.reshape(product, (-1, *pixels.shape[1:-1], kernel.shape[-1]))


def _apply(
    layer: keras.Layer, tensor: Any, read: Callable[[keras.Variable], Any], training: bool
) -> Any:
    import tensorflow as tf
    from keras import layers

    if isinstance(layer, layers.DepthwiseConv2D):
        rows, columns = layer.strides
        result = tf.nn.depthwise_conv2d(
            tensor, read(layer.kernel), (1, rows, columns, 1), layer.padding.upper()
        )
    elif isinstance(layer, layers.Conv2D) and layer.kernel_size == (1, 1):
        result = convolve_pixels(tensor, read(layer.kernel), layer.strides)
    elif isinstance(layer, layers.Conv2D):
        result = tf.nn.conv2d(tensor, read(layer.kernel), layer.strides, layer.padding.upper())
    elif isinstance(layer, layers.Dense):
        result = tf.linalg.matmul(tensor, read(layer.kernel))
    elif isinstance(layer, layers.ReLU) and layer.max_value in (None, 6.0):
        return tf.nn.relu(tensor) if layer.max_value is None else tf.nn.relu6(tensor)
    elif not layer.trainable_variables:
        return layer(tensor, training=training)
    else:
        raise TypeError(f"no forward pass for {type(layer).__name__} '{layer.name}'")
    if layer.use_bias:
        result = tf.nn.bias_add(result, read(layer.bias))
    return layer.activation(result)


def _normalize(
    layer: keras.layers.BatchNormalization,
    tensor: Any,
    read: Callable[[keras.Variable], Any],
    training: bool,
    averages: list[Average],
) -> Any:
    import tensorflow as tf

    gamma, beta = read(layer.gamma), read(layer.beta)
    if not training:
        return tf.raw_ops.FusedBatchNormV3(
            x=tensor,
            scale=gamma,
            offset=beta,
            mean=read(layer.moving_mean),
            variance=read(layer.moving_variance),
            epsilon=layer.epsilon,
            is_training=False,
        ).y
    channels = tensor.shape[-1]
    # oneDNN's normalization, and the rectifier that TensorFlow merges with it, are quick for full
    # vectors of 8 or 16 channels and fall back to a slow loop otherwise.
    normalize = _fused if channels == 8 or channels % 16 == 0 else _by_columns
    result, mean, variance = normalize(tensor, gamma, beta, layer.epsilon)
    averages.append(Average(layer.moving_mean, mean, layer.momentum))
    averages.append(Average(layer.moving_variance, variance, layer.momentum))
    return result


def _fused(tensor: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """Normalized tensor, mean and variance of the batch, by one operation."""
    import tensorflow as tf

    nothing = tf.constant([], tf.float32)
    result = tf.raw_ops.FusedBatchNormV3(
        x=tensor, scale=gamma, offset=beta, mean=nothing, variance=nothing, epsilon=epsilon
    )
    count = math.prod(tensor.shape[:-1])
    # The operation gives the variance of the population that the batch is drawn from.
    return result.y, result.batch_mean, result.batch_variance * ((count - 1) / count)


def _by_columns(tensor: Any, gamma: Any, beta: Any, epsilon: float) -> tuple[Any, Any, Any]:
    """The same, elementwise on a matrix of wide rows, its columns summed by a product."""
    import tensorflow as tf

    columns = _Columns(tensor.shape)
    values = columns.matrix(tensor)
    mean = columns.mean(values)
    variance = columns.mean(tf.math.squared_difference(values, columns.wide(mean)))
    factor = gamma * tf.math.rsqrt(variance + epsilon)
    result = values * columns.wide(factor) + columns.wide(beta - mean * factor)
    result = tf.reshape(result, tensor.shape)
    with tf.compat.v1.get_default_graph().gradient_override_map(
        {"IdentityN": _by_columns_gradient()}
    ):
        result, *_ = tf.identity_n([result, tensor, gamma, beta, mean, variance + epsilon])
    return result, mean, variance


@functools.cache
def _by_columns_gradient() -> str:
    """Name of the gradient of `_by_columns`.

    Registered once: `tf.custom_gradient` registers one each time, and it keeps the whole graph.
    """
    import tensorflow as tf

    name = "NormalizeByColumns"

    @tf.RegisterGradient(name)  # type: ignore[untyped-decorator]
    def gradient(operation: Any, upstream: Any, *_: Any) -> list[Any]:
        # Ioffe and Szegedy, arXiv 1502.03167, section 3.
        _, tensor, gamma, _, mean, shifted = operation.inputs
        if tensor.shape[-1] % 8 == 0:  # oneDNN's gradient is quick here
            inner = tf.raw_ops.FusedBatchNormGradV3(
                y_backprop=upstream,
                x=tensor,
                scale=gamma,
                reserve_space_1=mean,
                reserve_space_2=shifted,
                reserve_space_3=tf.constant([], tf.float32),
                epsilon=0.0,
            )
            return [None, inner.x_backprop, inner.scale_backprop, inner.offset_backprop, None, None]
        columns = _Columns(tensor.shape)
        slopes, values = columns.matrix(upstream), columns.matrix(tensor)
        inverse = tf.math.rsqrt(shifted)
        slope = columns.mean(slopes)
        product = columns.mean(slopes * values) - mean * slope
        factor = gamma * inverse
        share = factor * inverse * inverse * product
        change = (
            slopes * columns.wide(factor)
            - values * columns.wide(share)
            + columns.wide(share * mean - factor * slope)
        )
        of_gamma, of_beta = product * inverse * columns.count, slope * columns.count
        return [None, tf.reshape(change, tensor.shape), of_gamma, of_beta, None, None]

    return name


class _Columns:
    """A tensor as a matrix whose columns are the channels of some neighbouring pixels."""

    def __init__(self, shape: Any) -> None:
        self.channels, self.count = shape[-1], math.prod(shape[:-1])
        self.pixels = 1
        while self.channels * self.pixels < WIDE and self.count % (2 * self.pixels) == 0:
            self.pixels *= 2

    def matrix(self, tensor: Any) -> Any:
        import tensorflow as tf

        return tf.reshape(tensor, (self.count // self.pixels, self.pixels * self.channels))

    def mean(self, matrix: Any) -> Any:
        """Of each channel."""
        import tensorflow as tf

        sums = tf.ones((1, matrix.shape[0])) @ matrix
        return tf.reduce_sum(tf.reshape(sums, (self.pixels, self.channels)), axis=0) / self.count

    def wide(self, values: Any) -> Any:
        """A value a channel -> a value a column."""
        import tensorflow as tf

        return tf.tile(values, (self.pixels,))
