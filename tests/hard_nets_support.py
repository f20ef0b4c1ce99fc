"""Nets that are hard to quantize, and answer as before."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import keras


def enlarge(model: keras.Model, layer: str, reader: str, channels: slice, factor: float) -> None:
    """Make channels of a layer larger and the weights that read them smaller by a factor."""
    for variable in (model.get_layer(f"{layer}b").gamma, model.get_layer(f"{layer}b").beta):
        values = variable.numpy()
        values[channels] *= factor
        variable.assign(values)
    kernel = model.get_layer(reader).kernel
    values = kernel.numpy()
    values[:, :, channels] /= factor
    kernel.assign(values)
