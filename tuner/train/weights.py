"""Keep the weights of a net between the rungs of a search."""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from tuner.store.files import write_atomic
from tuner.train.build import load_keras

if TYPE_CHECKING:
    import keras


def write_weights(path: Path, model: keras.Model) -> None:
    """Write a model's weights, moving averages included, to an `.npz` file."""
    content = io.BytesIO()
    np.savez(content, *model.get_weights())
    write_atomic(path, content.getvalue())


def read_weights(path: Path, model: keras.Model) -> None:
    """Set the weights of a model of the same architecture.

    Args:
        path: what `write_weights` wrote, or a `.keras` file.
        model: gets them.
    """
    if path.suffix == ".keras":
        model.set_weights(load_keras(path).get_weights())
        return
    with np.load(path) as arrays:
        model.set_weights([arrays[f"arr_{index}"] for index in range(len(arrays.files))])
