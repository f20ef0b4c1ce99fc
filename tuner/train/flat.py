"""The variables of a net as two vectors, and an optimizer's update of them.

The weights of small nets are dozens of small variables. Keras updates each by itself, with a
dozen operations that take longer to trace than the net and up to a tenth of a step.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.spec import TrainingSettings
from tuner.train.forward import Average, forward

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

BETA_1, BETA_2, EPSILON = 0.9, 0.999, 1e-7
"""Defaults of `keras.optimizers.AdamW`."""

MOMENTUM = 0.9
"""Nesterov's, of stochastic gradient descent."""


class FlatVariables:
    """Weights and moving averages of a model, copied from it; `store` gives them back.

    Args:
        model: float32, no layer frozen.
        settings: optimizer and weight decay are used.
    """

    def __init__(self, model: keras.Model, settings: TrainingSettings) -> None:
        import tensorflow as tf

        self._model, self._settings = model, settings
        self._trained = model.trainable_variables
        self._averaged = model.non_trainable_weights
        self._weights = tf.Variable(_flatten(self._trained))
        self._averages = tf.Variable(_flatten(self._averaged))
        self._first, self._second = (tf.Variable(tf.zeros_like(self._weights)) for _ in range(2))
        self._all = (self._weights, self._averages, self._first, self._second)

    @property
    def largest_activation(self) -> int:
        """Values of the largest output of a layer, of one image."""
        return largest_activation(self._model)

    @property
    def kept_activations(self) -> int:
        """Values of the outputs of all layers, of one image."""
        return sum(int(math.prod(layer.output.shape[1:])) for layer in self._model.layers)

    def weights(self) -> list[Any]:
        """The weights, a tensor for each trainable variable of the model."""
        return _unflatten(self._weights, self._trained)

    def restart(self) -> None:
        """Forget what the optimizer has gathered, as at the beginning of a training."""
        for variable in (self._first, self._second):
            variable.assign(np.zeros(variable.shape, np.float32))

    def learns(self, frozen: Collection[str]) -> list[bool]:
        """Of each of `weights`, whether it is trained while the layers of these names are not."""
        kept = {
            id(variable)
            for layer in self._model.layers
            if layer.name in frozen
            for variable in layer.trainable_variables
        }
        return [id(variable) not in kept for variable in self._trained]

    def averaged(self, frozen: Collection[str]) -> list[tuple[int, ...]]:
        """Shapes of what `logits` gives for moving averages in training: mean, then variance."""
        from keras import layers

        return [
            tuple(average.shape)
            for layer in self._model.layers
            if isinstance(layer, layers.BatchNormalization) and layer.name not in frozen
            for average in (layer.moving_mean, layer.moving_variance)
        ]

    def logits(
        self,
        images: Any,
        weights: list[Any],
        *,
        training: bool,
        frozen: Collection[str] = (),
    ) -> tuple[Any, list[Average]]:
        """What the model computes with `weights`; see `forward`."""
        return forward(self._model, images, self.reader(weights), training=training, frozen=frozen)

    def reader(self, weights: list[Any]) -> Callable[[keras.Variable], Any]:
        """What gives the tensor of a variable of the model; `weights` are those to use."""
        variables = [*self._trained, *self._averaged]
        values = [*weights, *_unflatten(self._averages, self._averaged)]
        tensors = {id(variable): value for variable, value in zip(variables, values, strict=True)}
        return lambda variable: tensors[id(variable)]

    def update(
        self, gradients: list[Any], averages: list[Average], learning_rate: Any, step: Any
    ) -> None:
        """Make one step of the optimizer, and add a batch to the moving averages.

        Args:
            gradients: one for each of `weights`; None for those that stay as they are, which
                have not been changed since `restart` or the beginning.
            averages: from `forward`.
            learning_rate: float32 scalar.
            step: float32 scalar, from 1.
        """
        import tensorflow as tf

        pairs = list(zip(self._trained, gradients, strict=True))
        stay = any(gradient is None for _, gradient in pairs)
        step_of_optimizer(
            self._settings,
            [(self._weights, self._first, self._second)],
            [_flatten([tf.zeros(own.shape) if value is None else value for own, value in pairs])],
            learning_rate,
            step,
            _flatten([tf.fill(own.shape, float(value is not None)) for own, value in pairs])
            if stay
            else None,
        )
        if averages:
            added = {id(average.variable): average for average in averages}
            ordered = [added[id(variable)] for variable in self._averaged]
            shares = np.repeat(
                [1.0 - average.momentum for average in ordered],
                [math.prod(variable.shape) for variable in self._averaged],
            )
            batch = _flatten([average.value for average in ordered])
            self._averages.assign_add((batch - self._averages) * shares.astype(np.float32))

    def everything(self) -> list[NDArray[np.float32]]:
        """Copies of weights, moving averages and the optimizer's own."""
        return [variable.numpy() for variable in self._all]

    def set_everything(self, arrays: list[NDArray[np.float32]]) -> None:
        """Set what `everything` gave for a model of the same architecture.

        Raises:
            ValueError: an array has another shape.
        """
        for variable, array in zip(self._all, arrays, strict=True):
            variable.assign(array)

    def snapshot(self) -> NDArray[np.float32]:
        """A copy of all values."""
        return np.concatenate([self._weights.numpy(), self._averages.numpy()])

    def store(self, snapshot: NDArray[np.float32]) -> None:
        """Put what `snapshot` gave into the model."""
        store(self._model, snapshot)


def store(model: keras.Model, snapshot: NDArray[np.float32]) -> None:
    """Put what `FlatVariables.snapshot` gave into a model of the same architecture."""
    assign([*model.trainable_variables, *model.non_trainable_weights], snapshot)


def assign(variables: Sequence[Any], values: NDArray[np.float32]) -> None:
    """Give variables the parts of a vector, in order."""
    start = 0
    for variable in variables:
        end = start + math.prod(variable.shape)
        variable.assign(values[start:end].reshape(variable.shape))
        start = end


def largest_activation(model: Any) -> int:
    """Values of the largest output of a layer of a Keras model, of one image."""
    return max(int(math.prod(layer.output.shape[1:])) for layer in model.layers)


def step_of_optimizer(
    settings: TrainingSettings,
    variables: Sequence[tuple[Any, Any, Any]],
    gradients: Sequence[Any],
    learning_rate: Any,
    step: Any,
    decayed: Any = None,
) -> None:
    """Change weights by a step, inside a `tf.function`.

    The same numbers as Keras' optimizer of that name gives, up to the order of float32
    operations. AdamW: Loshchilov and Hutter, arXiv 1711.05101; Kingma and Ba, arXiv 1412.6980.
    SGD with Nesterov's momentum: Sutskever et al., ICML 2013.

    Args:
        settings: optimizer and weight decay are used.
        variables: weights, and the optimizer's two of the same shape, zeros at first.
        gradients: of the weights, of their shapes.
        learning_rate: float32 scalar.
        step: float32 scalar, from 1.
        decayed: 1 for each weight that decays and 0 for the others; None for all.
    """
    import tensorflow as tf

    powers = [tf.pow(beta, step) for beta in (BETA_1, BETA_2)]
    decay = learning_rate * settings.weight_decay
    kept = 1.0 - (decay if decayed is None else decay * decayed)
    for (weights, first, second), gradient in zip(variables, gradients, strict=True):
        if settings.weight_decay:
            weights.assign(weights * kept)
        if settings.optimizer == "sgd":
            tf.raw_ops.ResourceApplyKerasMomentum(
                var=weights.handle,
                accum=first.handle,
                lr=learning_rate,
                grad=gradient,
                momentum=MOMENTUM,
                use_nesterov=True,
            )
        else:
            tf.raw_ops.ResourceApplyAdam(
                var=weights.handle,
                m=first.handle,
                v=second.handle,
                beta1_power=powers[0],
                beta2_power=powers[1],
                lr=learning_rate,
                beta1=BETA_1,
                beta2=BETA_2,
                epsilon=EPSILON,
                grad=gradient,
            )


def _flatten(tensors: list[Any]) -> Any:
    import tensorflow as tf

    flat = [tf.reshape(tf.convert_to_tensor(tensor), (-1,)) for tensor in tensors]
    return tf.concat(flat, axis=0) if flat else tf.zeros((0,))


def _unflatten(vector: Any, like: list[Any]) -> list[Any]:
    import tensorflow as tf

    if not like:
        return []
    parts = tf.split(vector, [math.prod(tensor.shape) for tensor in like])
    return [tf.reshape(part, tensor.shape) for part, tensor in zip(parts, like, strict=True)]
