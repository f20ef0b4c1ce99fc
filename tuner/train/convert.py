"""Keras model -> TFLite bytes. The only module that calls the TFLite converter."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.cost.lower import lower
from tuner.errors import TuneError
from tuner.spec import Architecture, FilePrecision
from tuner.train.quiet import quiet

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray


INPUT_RANGES: Mapping[str, tuple[float, float]] = {
    "unit": (0.0, 1.0),
    "signed": (-1.0, 127.0 / 128.0),
}
"""What pixels 0 and 255 become, by `Preprocessing.scaling`. As the range of an int8 input they
give scale 1/255 and zero point -128, or scale 1/128 and zero point 0: in both the int8 value is
exactly the pixel minus 128."""


def convert_tflite(
    model: keras.Model,
    precision: FilePrecision,
    calibration: NDArray[np.float32] | None = None,
    *,
    input_range: tuple[float, float] | None = None,
) -> bytes:
    """Convert with a batch of 1 and frozen weights; equal weights give equal bytes.

    Args:
        model: one image input, logits out.
        precision: `int8` quantizes weights, activations, input and output (per-channel weights,
            absolute minimum and maximum of the calibration images); `int16x8` gives activations,
            input and output 16 bits; `float32` quantizes nothing.
        calibration: images x height x width x channels, scaled as the net reads them, from
            training data; needed for both.
        input_range: lowest and highest value that the input can have, one of `INPUT_RANGES`;
            it becomes the quantized input's range whatever the images hold. Without it the range is
            that of the images.

    Raises:
        ValueError: no calibration images, or an image outside `input_range`.
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
    # The function holds its weights as constants, so there is nothing to track; an empty module
    # says so, and keeps the converter from its detour through a saved model.
    converter = tf.lite.TFLiteConverter.from_concrete_functions([frozen], tf.Module())
    converter.experimental_lower_to_saved_model = False
    if precision != "float32":
        if calibration is None or not len(calibration):
            raise ValueError(f"{precision} needs calibration images")
        images = calibration if input_range is None else _span(calibration, input_range)
        converter.optimizations = [tf.lite.Optimize.DEFAULT]
        converter.representative_dataset = lambda: ([image[None]] for image in images)
        sets, wide = tf.lite.OpsSet, precision == "int16x8"
        converter.target_spec.supported_ops = [
            sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8
            if wide
            else sets.TFLITE_BUILTINS_INT8
        ]
        converter.inference_input_type = tf.int16 if wide else tf.int8
        converter.inference_output_type = tf.int16 if wide else tf.int8
    try:
        with quiet(), warnings.catch_warnings():
            # Input statistics are meant for another kind of conversion; calibration gives them.
            warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
            return bytes(converter.convert())
    except Exception as error:  # the converter raises many types, all of them final
        raise TuneError(f"The TFLite converter refused the {precision} model: {error}") from error


def convert_with_ranges(
    model: keras.Model,
    architecture: Architecture,
    ranges: Mapping[str, tuple[float, float]],
    input_range: tuple[float, float],
) -> bytes:
    """Convert to int8 with known ranges in place of those of calibration images.

    TFLite's quantizer reads a float32 file that has a range for each tensor. Its calibrator writes
    them there, and so does this; the rest of the way is that of `convert_tflite`, so the file has
    the same operators and the same size.

    Args:
        model: of `build_keras`, one image input, logits out.
        architecture: that it was built from.
        ranges: lowest and highest output, by the names of the nodes that have a range of their
            own; that of the others is their input's.
        input_range: lowest and highest value that the input can have, one of `INPUT_RANGES`.

    Raises:
        TuneError: the file's operators are not those of `lower`, or `ranges` has others.
    """
    from tuner.train.float_net import FloatNet
    from tuner.train.quantize import to_int8

    net = FloatNet(convert_tflite(model, "float32"))
    held = {net.input: input_range}
    # A RESHAPE has its input's range, and its place in the file may differ.
    waiting = [item for item in lower(architecture).operators if item.kind != "RESHAPE"]
    if missing := ranges.keys() - {operator.name for operator in waiting}:
        raise TuneError(f"Expected ranges of the net's operators. Received: {sorted(missing)}.")
    for operator in net.operators:
        own = waiting.pop(0) if waiting and waiting[0].kind == operator.kind else None
        if own is not None and own.name in ranges:
            held[operator.output] = ranges[own.name]
        elif own is not None or operator.kind == "RESHAPE":
            held[operator.output] = held[operator.inputs[0]]
        else:
            wanted = waiting[0].kind if waiting else "its end"
            raise TuneError(f"Expected {wanted} in the float32 file. Received: {operator.kind}.")
    net.set_ranges(held)
    return to_int8(net.content())


def _span(images: NDArray[np.float32], input_range: tuple[float, float]) -> NDArray[np.float32]:
    """Return the images with their darkest and brightest value moved to the range's ends.

    The calibrator takes the input's range from the images. Two values change, and no image
    holds anything that a real one could not.
    """
    low, high = (np.float32(end) for end in input_range)
    lowest, highest = float(images.min()), float(images.max())
    if lowest < low or highest > high:
        raise ValueError(
            f"expected calibration images from {low} to {high}. "
            f"Received: values from {lowest} to {highest}."
        )
    spanned = images.copy()
    flat = spanned.reshape(-1)
    darkest = int(flat.argmin())
    # In images of one value all through, the darkest is also the first brightest.
    brightest = int(flat.argmax()) if highest > lowest else (darkest + 1) % flat.size
    flat[brightest] = high
    flat[darkest] = low
    return spanned
