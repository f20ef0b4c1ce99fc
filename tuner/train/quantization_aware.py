"""A net that computes in training what its int8 file will: the only module that uses tfmot.

TensorFlow Model Optimization (tfmot) wraps layers of `tf_keras`, so the same architecture is
built there and the weights are carried over and back. What is rounded is what TFLite's int8 file
rounds: weights, with a scale for each output channel, and the output of each operator. It differs
from tfmot's default 8-bit scheme where that differs from the file (tfmot 0.8.1, read at source):
depthwise and dense weights have a scale for each channel and not one for all; the weights of a
convolution with a rectifier and without batch normalization are rounded too; ranges begin with
those of the first batch and are averaged over about a hundred steps, not a thousand from 6 on.
Scaled pixels are int8 numbers already.

Straight-through gradients: Jacob et al., arXiv 1712.05877, section 3; here also of outputs beyond
the averaged range, of which there are few in a batch. Weights are rounded before batch
normalization, which gives the same int8 numbers as after folding, because each channel has a scale
of its own.
"""

from __future__ import annotations

import functools
import math
import os
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from tuner.errors import DivergedError, causes
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    TrainingSettings,
)
from tuner.train.build import build_keras
from tuner.train.flat import assign, step_of_optimizer
from tuner.train.forward import Average, convolve_pixels
from tuner.train.quantize import NEGLIGIBLE
from tuner.train.quiet import import_tensorflow, quiet

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

RANGE_MOMENTUM = 0.99
"""Of the moving averages of ranges, a step."""

SMALLEST_RANGE = 1e-6
"""Of a channel of weights, so that a channel of zeros has a scale."""

MARGIN = 1.0 + 1e-6
"""On a channel's largest weight, which else has no gradient where its scale is rounded down."""

KERNELS = {
    "Conv2D": ("kernel", 3),
    "DepthwiseConv2D": ("depthwise_kernel", 2),
    "Dense": ("kernel", 1),
}
"""Of the layers of tf_keras: the attribute that holds the weights, and its axis of outputs."""

ROUNDED = (Conv2D, DepthwiseConv2D, Dense, Add, GlobalAveragePool2D)
"""Operators whose output has a range of its own; that of the others is their input's. Of these,
average pooling alone computes new values, which are rounded to its input's steps."""


def import_legacy_keras() -> None:
    """Import TensorFlow with `tf_keras` as its Keras, before anything else imports TensorFlow.

    tfmot refuses Keras 3 (its issues 1119, 1144 and 1270).
    """
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
    import_tensorflow(whole=False)
    with quiet():
        import tensorflow as tf
        import tensorflow_model_optimization  # noqa: F401
    # It merges normalization and rectifier in one operation, which is slow for channels that are no
    # multiple of 8: without it an epoch of nets of 12 channels takes .7 as long, others .86 to 1.0.
    tf.config.optimizer.set_experimental_options({"remapping": False})


def is_of_the_net(error: Exception) -> bool:
    """Whether it says that a net cannot be trained quantization-aware, here or anywhere.

    What may end when the same is tried again does not: a full disk, too little memory, a damaged
    file. It is looked for among the causes too: numpy's archives hide a full disk behind a
    ValueError.
    """
    if isinstance(error, DivergedError | ImportError):
        return True
    if any(isinstance(cause, OSError | MemoryError) for cause in causes(error)):
        return False
    import tensorflow as tf

    refusals = (
        ValueError,
        TypeError,
        LookupError,
        AttributeError,
        NotImplementedError,
        tf.errors.InvalidArgumentError,
        tf.errors.UnimplementedError,
    )
    return isinstance(error, refusals)


class QuantizationAwareNet:
    """An architecture that rounds as its int8 file does; a `Net` of `tuner.train.loop`.

    Args:
        architecture: the net.
        model: from `build_keras`; its weights are copied.
        settings: optimizer and weight decay are used.
        dropout_seed: seed of the dropout layers.
    """

    def __init__(
        self,
        architecture: Architecture,
        model: keras.Model,
        settings: TrainingSettings,
        dropout_seed: int = 0,
    ) -> None:
        import tensorflow as tf
        import tf_keras

        self._settings = settings
        self.largest_activation = max(math.prod(shape) for shape in architecture.shapes().values())
        ends = {
            layer.name: node
            for index, node in enumerate(architecture.nodes)
            if isinstance(node.op, (*ROUNDED, AveragePool2D))
            for layer in _layers_of(model, index)[-1:]
        }
        sources = _sources(architecture)
        self._wrapped: dict[str, _Wrapped] = {}
        outputs: dict[str, Any] = {}
        rectified: set[str] = set()

        def wrap(layer: Any) -> Any:
            node, output = ends.get(layer.name), None
            if node is not None and isinstance(node.op, ROUNDED):
                most = None
                if type(layer).__name__ == "ReLU":  # rounding from 0 on rectifies
                    most = math.inf if layer.max_value is None else float(layer.max_value)
                    layer = tf_keras.layers.Activation("linear", name=layer.name)
                    rectified.add(node.name)
                output = outputs[node.name] = _tfmot_classes().own_range(
                    most, node.name == architecture.outputs[0]
                )
            elif node is not None and sources[node.name] in outputs:
                output = _tfmot_classes().same_range(outputs[sources[node.name]])
            made = self._wrapped[layer.name] = _wrap(layer, output)
            return made.layer

        self._model = build_keras(
            architecture, dropout_seed=dropout_seed, library=tf_keras, wrap=wrap
        )
        # Rounding adds an output to those of the layers, or is in place of a rectifier's.
        added = (shape for node, shape in architecture.shapes().items() if node not in rectified)
        self.kept_activations = sum(
            math.prod(shape)
            for shape in (*(layer.output.shape[1:] for layer in self._model.layers), *added)
        )
        self._ranges = {node: output.variables for node, output in outputs.items()}
        pairs = list(self._pairs(model))
        for theirs, own in pairs:
            own.assign(theirs.numpy())
        self._trained = [own for theirs, own in pairs if theirs.trainable]
        self._averaged = [own for theirs, own in pairs if not theirs.trainable]
        self._averaged += [end for ends in self._ranges.values() for end in ends]
        self._first, self._second = (
            [tf.Variable(tf.zeros_like(weight)) for weight in self._trained] for _ in range(2)
        )
        self._values = [*self._trained, *self._averaged]
        self._all = [*self._values, *self._first, *self._second]

    def _pairs(self, model: keras.Model) -> Iterator[tuple[Any, Any]]:
        """The variables of a Keras model of the same architecture, each with that of this one."""
        for layer in model.layers:
            wrapped = self._wrapped.get(layer.name)
            for variable in layer.weights:
                name = variable.path.split("/")[-1]
                if wrapped is None or name.startswith("seed"):
                    continue
                yield (
                    variable,
                    wrapped.config.kernel if name == "kernel" else getattr(wrapped.inner, name),
                )

    def weights(self) -> list[Any]:
        """The variables that are trained."""
        return self._trained

    def learns(self, frozen: Collection[str]) -> list[bool]:
        """All of them: no layer is frozen."""
        return [True] * len(self._trained)

    def averaged(self, frozen: Collection[str]) -> list[tuple[int, ...]]:
        """None: moving averages are changed in the graph of `logits`."""
        return []

    def restart(self) -> None:
        """Forget what the optimizer has gathered."""
        for variable in (*self._first, *self._second):
            variable.assign(np.zeros(variable.shape, np.float32))

    def logits(
        self, images: Any, weights: list[Any], *, training: bool, frozen: Collection[str] = ()
    ) -> tuple[Any, list[Average]]:
        """What the net computes, rounded.

        Moving averages are changed on the way, in training: none are handed over. Gradients are
        for `tf.gradients`; a tape would take those of TensorFlow's rounding.
        """
        return self._model(images, training=training), []

    def update(
        self, gradients: list[Any], averages: list[Average], learning_rate: Any, step: Any
    ) -> None:
        """Make one step of the optimizer; see `step_of_optimizer`."""
        variables = zip(self._trained, self._first, self._second, strict=True)
        step_of_optimizer(self._settings, list(variables), gradients, learning_rate, step)

    def everything(self) -> list[NDArray[np.float32]]:
        """Copies of weights, moving averages, ranges and the optimizer's own."""
        return [variable.numpy() for variable in self._all]

    def set_everything(self, arrays: list[NDArray[np.float32]]) -> None:
        """Set what `everything` gave for a net of the same architecture.

        Raises:
            ValueError: an array has another shape.
        """
        for variable, array in zip(self._all, arrays, strict=True):
            variable.assign(array)

    def snapshot(self) -> NDArray[np.float32]:
        """A copy of all values but the optimizer's."""
        return np.concatenate([variable.numpy().reshape(-1) for variable in self._values])

    def store(self, snapshot: NDArray[np.float32]) -> None:
        """Set what `snapshot` gave."""
        assign(self._values, snapshot)

    def give_weights(self, model: keras.Model) -> None:
        """Put weights and moving averages into a Keras model of the same architecture."""
        for theirs, own in self._pairs(model):
            theirs.assign(own.numpy())

    def ranges(self) -> dict[str, tuple[float, float]]:
        """Lowest and highest output, by the names of the nodes that have a range of their own."""
        return {
            node: (float(low.numpy()), float(high.numpy()))
            for node, (low, high) in self._ranges.items()
        }


@dataclass(frozen=True, slots=True)
class _Wrapped:
    """A layer of tf_keras as it was made, what is called in its place, and what is rounded."""

    inner: Any
    layer: Any
    config: Any


def _layers_of(model: keras.Model, index: int) -> list[Any]:
    """The layers of a node, in the order of computation; see `build_keras`."""
    names = {f"n{index}", f"n{index}b", f"n{index}a"}
    return [layer for layer in model.layers if layer.name in names]


def _sources(architecture: Architecture) -> dict[str, str]:
    """By node, the one whose range its output has: itself, or the source of its input."""
    found: dict[str, str] = {}
    for node in architecture.nodes:
        own = isinstance(node.op, ROUNDED) or not node.inputs
        found[node.name] = node.name if own else found[node.inputs[0]]
    return found


def _wrap(layer: Any, output: Any) -> _Wrapped:
    import tensorflow_model_optimization as tfmot

    kernel = KERNELS.get(type(layer).__name__)
    if kernel is not None and getattr(layer, "kernel_size", None) == (1, 1):
        layer.convolution_op = functools.partial(convolve_pixels, strides=layer.strides)
    config = _tfmot_classes().layer(kernel, output)
    if kernel is None and output is None:
        return _Wrapped(layer, layer, config)
    return _Wrapped(layer, tfmot.quantization.keras.QuantizeWrapperV2(layer, config), config)


class _Classes(NamedTuple):
    """What tells tfmot how to round an output, or all of a layer."""

    own_range: Any
    same_range: Any
    layer: Any


def _assigned(variable: Any, value: Any) -> Any:
    variable.assign(value)
    return value


def _rounded(values: Any, low: Any, high: Any, gradient: str) -> Any:
    """Values as 256 numbers from low to high."""
    import tensorflow as tf

    with _gradient(gradient):
        return tf.quantization.fake_quant_with_min_max_vars(values, low, high, num_bits=8)


def _gradient(name: str) -> Any:
    """Gives what is rounded within it a gradient of `_register_gradients`."""
    import tensorflow as tf

    _register_gradients()
    kinds = ("FakeQuantWithMinMaxVars", "FakeQuantWithMinMaxVarsPerChannel")
    graph = tf.compat.v1.get_default_graph()
    return graph.gradient_override_map({kind: f"Rounded {name}" for kind in kinds})


@functools.cache
def _register_gradients() -> None:
    """A rounded value's gradient is handed on, beyond the range too; a rectifier's is its own.

    TensorFlow's looks for values beyond the range, and sums them for its ends: it took twice as
    long as the rounding, and five times as long as a rectifier's gradient.
    """
    import tensorflow as tf

    rules = {
        "identity": lambda upstream, values: upstream,
        "relu": lambda upstream, values: tf.raw_ops.ReluGrad(gradients=upstream, features=values),
        "relu6": lambda upstream, values: tf.raw_ops.Relu6Grad(gradients=upstream, features=values),
    }
    for name, rule in rules.items():

        def gradient(operation: Any, upstream: Any, rule: Any = rule) -> list[Any]:
            return [rule(upstream, operation.inputs[0]), None, None]

        tf.RegisterGradient(f"Rounded {name}")(gradient)


@functools.cache
def _tfmot_classes() -> _Classes:
    import tensorflow as tf
    import tensorflow_model_optimization as tfmot

    class Weights(tfmot.quantization.keras.quantizers.Quantizer):  # type: ignore[misc]
        """Rounds weights to -127 to 127 times their output channel's largest / 127."""

        def __init__(self, axis: int) -> None:
            self.axis = axis

        def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
            return {}

        def __call__(self, inputs: Any, training: bool, weights: Any, **options: Any) -> Any:
            # Axes after that of the outputs have a length of 1.
            columns = tf.reshape(inputs, (-1, inputs.shape[self.axis]))
            largest = tf.reduce_max(tf.abs(columns), axis=0)
            largest = tf.maximum(largest, SMALLEST_RANGE) * MARGIN
            # No weight is beyond its range, so the gradient goes on as it is. The operator's own,
            # channel by channel, took a fifth of a step of a net of 20 million MACs.
            with _gradient("identity"):
                rounded = tf.quantization.fake_quant_with_min_max_vars_per_channel(
                    columns, -largest, largest, num_bits=8, narrow_range=True
                )
            return tf.reshape(rounded, inputs.shape)

        def get_config(self) -> dict[str, Any]:
            return {"axis": self.axis}

    class Outputs(tfmot.quantization.keras.quantizers.Quantizer):  # type: ignore[misc]
        """Rounds to 256 steps from the averaged lowest to the averaged highest value, and 0.

        Args:
            most: what lies below 0 or above this is cut off, as by a rectifier; None for neither.
            logits: it is the net's output; what is too small to matter has no part in the range,
                so that the net learns with steps that are fine where classes are decided.
        """

        def __init__(self, most: float | None, logits: bool) -> None:
            self._most, self._logits = most, logits
            self._gradient = "identity" if most is None else "relu6" if most == 6.0 else "relu"

        def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
            self.variables = [
                layer.add_weight(f"{name}_{end}", shape=(), initializer="zeros", trainable=False)
                for end in ("low", "high")
            ]
            return {}

        def __call__(self, inputs: Any, training: bool, weights: Any, **options: Any) -> Any:
            low, high = self.variables
            if training:
                share = tf.where(high > low, 1.0 - RANGE_MOMENTUM, 1.0)
                highest = tf.reduce_max(inputs)
                if self._logits:  # as `logits_range` of the batch
                    first, second = tf.unstack(tf.math.top_k(inputs, 2).values, axis=-1)
                    most_second = tf.reduce_max(second)
                    highest = tf.minimum(highest, most_second + NEGLIGIBLE)
                highest = tf.maximum(highest, 0.0)
                if self._most is None:
                    lowest = tf.reduce_min(inputs)
                    if self._logits:
                        least = tf.minimum(tf.reduce_min(first) - NEGLIGIBLE, most_second)
                        lowest = tf.maximum(lowest, least)
                    lowest = tf.minimum(lowest, 0.0)
                    low = _assigned(low, low + share * (lowest - low))
                else:
                    highest = tf.minimum(highest, self._most)
                high = _assigned(high, high + share * (highest - high))
            return _rounded(inputs, low, high, self._gradient)

        def get_config(self) -> dict[str, Any]:
            return {}

    class SameOutputs(tfmot.quantization.keras.quantizers.Quantizer):  # type: ignore[misc]
        """Rounds to the steps of another output."""

        def __init__(self, source: Outputs) -> None:
            self._source = source

        def build(self, tensor_shape: Any, name: str, layer: Any) -> dict[str, Any]:
            return {}

        def __call__(self, inputs: Any, training: bool, weights: Any, **options: Any) -> Any:
            low, high = self._source.variables
            return _rounded(inputs, low, high, "identity")

        def get_config(self) -> dict[str, Any]:
            return {}

    class Rounding(tfmot.quantization.keras.QuantizeConfig):  # type: ignore[misc]
        """Rounds the kernel, if there is one, and the output where an operator ends."""

        def __init__(self, kernel: tuple[str, int] | None, output: Any) -> None:
            self._name, axis = kernel or ("", 0)
            self._weights = Weights(axis)
            self._output = output
            self.kernel: Any = None

        def get_weights_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
            if not self._name:
                return []
            self.kernel = getattr(layer, self._name)
            return [(self.kernel, self._weights)]

        def set_quantize_weights(self, layer: Any, quantize_weights: list[Any]) -> None:
            for weights in quantize_weights:
                setattr(layer, self._name, weights)

        def get_activations_and_quantizers(self, layer: Any) -> list[tuple[Any, Any]]:
            return []

        def set_quantize_activations(self, layer: Any, quantize_activations: list[Any]) -> None:
            pass

        def get_output_quantizers(self, layer: Any) -> list[Any]:
            return [self._output] if self._output else []

        def get_config(self) -> dict[str, Any]:
            return {}

    return _Classes(own_range=Outputs, same_range=SameOutputs, layer=Rounding)
