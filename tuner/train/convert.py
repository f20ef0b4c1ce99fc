"""Keras model -> TFLite bytes. The only module that calls the TFLite converter."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import TuneError
from tuner.spec import Precision

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


def convert_tflite(
    model: keras.Model,
    precision: Precision,
    calibration: NDArray[np.float32] | None = None,
) -> bytes:
    """Convert with a batch of 1 and frozen weights.

    Args:
        model: one image input, logits out.
        precision: `int8` quantizes weights, activations, input and output (per-channel weights,
            absolute minimum and maximum of the calibration images); `float32` quantizes nothing.
        calibration: images x height x width x channels, scaled as the net reads them, from
            training data; needed for int8.

    Raises:
        TuneError: the converter refused the model.
    """
    import tensorflow as tf
    from tensorflow.python.framework.convert_to_constants import (
        convert_variables_to_constants_v2,
    )

    shape = (1, *model.input_shape[1:])
    signature = tf.TensorSpec(shape, tf.float32, name="image")

    def logits(image: Any) -> Any:
        return model(image, training=False)

    function = tf.function(logits).get_concrete_function(signature)
    frozen = convert_variables_to_constants_v2(function)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen])
    if precision == "int8":
        if calibration is None or not len(calibration):
            raise ValueError("int8 needs calibration images")
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in calibration)
        converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
        converter.inference_input_type = tf.int8
        converter.inference_output_type = tf.int8
    try:
        with _quiet():
            return bytes(converter.convert())
    except Exception as error:  # the converter raises many types, all of them final
        raise TuneError(f"The TFLite converter refused the {precision} model: {error}") from error


@contextmanager
def _quiet() -> Iterator[None]:
    """Keep what the converter's C++ writes to stderr out of the user's terminal."""
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)
