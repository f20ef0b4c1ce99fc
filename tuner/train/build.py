"""Architecture -> Keras model. One builder serves every space."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
)

if TYPE_CHECKING:
    import keras
    import numpy as np
    from numpy.typing import NDArray


def build_keras(
    architecture: Architecture,
    *,
    dropout_seed: int = 0,
    library: Any = None,
    wrap: Callable[[Any], Any] = lambda layer: layer,
) -> keras.Model:
    """Build the Keras model, float32, its outputs logits.

    Layers get short fixed names, because automatic names change the size of converted files.
    Those of node i are `n{i}`, of its normalization `n{i}b` and of its rectifier `n{i}a`.

    Args:
        architecture: the net.
        dropout_seed: seed of the dropout layers.
        library: the module whose layers are used: Keras 3, or `tf_keras` for what needs it.
        wrap: takes each layer before it is called, and gives the one to call.
    """
    import keras

    library = library or keras
    layers = _Layers(library.layers, wrap)
    tensors: dict[str, Any] = {}
    for index, node in enumerate(architecture.nodes):
        if isinstance(node.op, Input):
            shape = (node.op.height, node.op.width, node.op.channels)
            tensors[node.name] = library.Input(shape, name="input")
        else:
            inputs = [tensors[name] for name in node.inputs]
            tensors[node.name] = _apply(node, inputs, f"n{index}", dropout_seed + index, layers)
    outputs = [tensors[name] for name in architecture.outputs]
    return library.Model(
        tensors[architecture.nodes[0].name], outputs[0] if len(outputs) == 1 else outputs, name="m"
    )


@dataclass(frozen=True, slots=True)
class _Layers:
    """The layers of a library, each wrapped as it is made."""

    library: Any
    wrap: Callable[[Any], Any]

    def __getattr__(self, name: str) -> Callable[..., Any]:
        return lambda *settings, **options: self.wrap(
            getattr(self.library, name)(*settings, **options)
        )


def _apply(node: Node, inputs: list[Any], name: str, seed: int, layers: _Layers) -> Any:
    operator, tensor = node.op, inputs[0]
    if isinstance(operator, Conv2D):
        tensor = layers.Conv2D(
            operator.filters,
            operator.window,
            strides=operator.stride,
            padding="same",
            use_bias=not operator.batch_norm,
            kernel_initializer="he_normal",
            name=name,
        )(tensor)
        return _normalize_and_activate(operator, tensor, name, layers)
    if isinstance(operator, DepthwiseConv2D):
        tensor = layers.DepthwiseConv2D(
            operator.kernel,
            strides=operator.stride,
            padding="same",
            use_bias=not operator.batch_norm,
            depthwise_initializer="he_normal",
            name=name,
        )(tensor)
        return _normalize_and_activate(operator, tensor, name, layers)
    if isinstance(operator, MaxPool2D):
        return layers.MaxPooling2D(operator.size, name=name)(tensor)
    if isinstance(operator, AveragePool2D):
        return layers.AveragePooling2D(operator.window, name=name)(tensor)
    if isinstance(operator, Add):
        return _activate(operator.activation, layers.Add(name=name)(inputs), name, layers)
    if isinstance(operator, Flatten):
        return layers.Flatten(name=name)(tensor)
    if isinstance(operator, GlobalAveragePool2D):
        return layers.GlobalAveragePooling2D(name=name)(tensor)
    if isinstance(operator, Dropout):
        return layers.Dropout(operator.rate, seed=seed, name=name)(tensor)
    if isinstance(operator, Dense):
        activation = None if operator.activation == "linear" else operator.activation
        return layers.Dense(operator.units, activation=activation, name=name)(tensor)
    raise TypeError(f"no builder for {operator.kind}")


def _normalize_and_activate(
    operator: Conv2D | DepthwiseConv2D, tensor: Any, name: str, layers: _Layers
) -> Any:
    if operator.batch_norm:
        tensor = layers.BatchNormalization(momentum=0.9, name=f"{name}b")(tensor)
    return _activate(operator.activation, tensor, name, layers)


def _activate(activation: str, tensor: Any, name: str, layers: _Layers) -> Any:
    if activation == "relu6":
        return layers.ReLU(6.0, name=f"{name}a")(tensor)
    if activation == "relu":
        return layers.ReLU(name=f"{name}a")(tensor)
    return tensor


def start_anew(seed: int) -> None:
    """Forget the nets built before in this process and seed all generators."""
    import keras

    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)


def load_keras(path: Path) -> keras.Model:
    """Load a `.keras` file that `retrain` wrote, for inference."""
    import keras

    return keras.saving.load_model(path, compile=False)


def run_keras(model: keras.Model, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Logits of scaled images, images x outputs."""
    import numpy as np

    return np.asarray(model.predict_on_batch(images), np.float32)
