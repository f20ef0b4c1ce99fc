"""Weights as if trained, so that converted files have the size that a trained net's has."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import keras


def randomize_weights(model: keras.Model, seed: int) -> None:
    """Give every weight, bias and normalization statistic a random value of usual size.

    The biases of an untrained net are all equal, and a TFLite file stores equal buffers once.

    Args:
        model: changed in place.
        seed: any whole number.
    """
    generator = np.random.default_rng(seed)
    for variable in model.weights:
        name, shape = variable.path.split("/")[-1], tuple(variable.shape)
        if name.startswith("seed"):
            continue
        if name == "gamma":
            values = generator.uniform(0.3, 2.0, shape) * generator.choice([1, 1, 1, -1], shape)
        elif name == "moving_variance":
            values = generator.uniform(0.1, 3.0, shape)
        elif name == "kernel":
            values = generator.normal(0, np.sqrt(2 / max(1, np.prod(shape[:-1]))), shape)
        else:
            values = generator.normal(0, 0.3, shape)
        variable.assign(values.astype(np.float32))
