from __future__ import annotations

import logging

import keras
import numpy as np
import pytest

from tuner.runtimes.interpreter import quantize
from tuner.testing.architectures import random_architecture
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import INPUT_RANGES, _span, convert_tflite

PIXELS = np.arange(256)
SCALED = {"unit": PIXELS / 255, "signed": (PIXELS - 128) / 128}


@pytest.fixture(scope="module")
def model() -> keras.Model:
    made = build_keras(random_architecture(3))
    randomize_weights(made, 3)
    return made


def dull_images(model: keras.Model, scaling: str) -> np.ndarray:
    """Images that use a small part of the range."""
    pixels = np.random.default_rng(0).integers(90, 150, (4, *model.input_shape[1:]))
    return SCALED[scaling][pixels].astype(np.float32)


def input_quantization(content: bytes) -> tuple[float, int]:
    from ai_edge_litert.interpreter import Interpreter

    return Interpreter(model_content=content).get_input_details()[0]["quantization"]


@pytest.mark.parametrize(
    ("scaling", "expected"), [("unit", (1 / 255, -128)), ("signed", (1 / 128, 0))]
)
def test_the_int8_input_is_pixel_minus_128(
    model: keras.Model, scaling: str, expected: tuple[float, int]
) -> None:
    images = dull_images(model, scaling)
    content = convert_tflite(model, "int8", images, input_range=INPUT_RANGES[scaling])
    scale, zero_point = input_quantization(content)
    assert scale == np.float32(expected[0])
    assert zero_point == expected[1]
    quantized = quantize(SCALED[scaling].astype(np.float32), scale, zero_point)
    np.testing.assert_array_equal(quantized, PIXELS - 128)


def test_without_a_range_the_images_give_it(model: keras.Model) -> None:
    images = dull_images(model, "signed")
    scale, _ = input_quantization(convert_tflite(model, "int8", images))
    assert scale < 1 / 256


@pytest.mark.parametrize("precision", ["int8", "float32"])
def test_equal_weights_give_equal_bytes(model: keras.Model, precision: str) -> None:
    images = dull_images(model, "unit")
    again = build_keras(random_architecture(3))
    again.set_weights(model.get_weights())
    first, second, third = (
        convert_tflite(net, precision, images, input_range=INPUT_RANGES["unit"])
        for net in (model, model, again)
    )
    assert first == second == third


def test_nothing_is_written_or_logged(
    model: keras.Model, capfd: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        convert_tflite(model, "int8", dull_images(model, "unit"))
    assert capfd.readouterr() == ("", "")
    assert not caplog.records


def test_span_changes_two_values_and_not_its_argument() -> None:
    images = np.full((2, 3, 3, 1), 0.5, np.float32)
    images[1, 2, 0, 0], images[0, 1, 1, 0] = 0.7, 0.25
    spanned = _span(images, (0.0, 1.0))
    assert (spanned != images).sum() == 2
    assert spanned[1, 2, 0, 0] == 1.0
    assert spanned[0, 1, 1, 0] == 0.0
    assert images.max() == np.float32(0.7)


def test_span_of_images_of_one_value() -> None:
    spanned = _span(np.full((1, 2, 2, 1), 0.5, np.float32), (0.0, 1.0))
    assert (spanned.min(), spanned.max()) == (0.0, 1.0)


def test_images_outside_the_range_are_refused(model: keras.Model) -> None:
    images = dull_images(model, "unit") - 0.5
    with pytest.raises(ValueError, match=r"expected calibration images from 0\.0 to 1\.0\. Rec"):
        convert_tflite(model, "int8", images, input_range=INPUT_RANGES["unit"])


def test_int8_needs_images(model: keras.Model) -> None:
    with pytest.raises(ValueError, match="int8 needs calibration images"):
        convert_tflite(model, "int8")
