from __future__ import annotations

import time

import keras
import numpy as np
import pytest

from tuner.errors import TuneError
from tuner.runtimes import litert, tflm
from tuner.runtimes.interpreter import Kernels, quantize, run_tflite
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
    Operator,
    Precision,
)
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import INPUT_RANGES, convert_tflite

SIDE = 32


@pytest.fixture(scope="module")
def model() -> keras.Model:
    operators: list[Operator] = [
        Conv2D(filters=16, stride=2),
        DepthwiseConv2D(),
        Conv2D(filters=32, kernel=1, stride=2),
        GlobalAveragePool2D(),
        Dense(units=10),
    ]
    nodes = [Node(name="input", op=Input(height=SIDE, width=SIDE, channels=3))]
    for index, operator in enumerate(operators):
        nodes.append(Node(name=f"node{index}", op=operator, inputs=(nodes[-1].name,)))
    made = build_keras(Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,)))
    randomize_weights(made, 1)
    return made


@pytest.fixture(scope="module")
def images() -> np.ndarray:
    pixels = np.random.default_rng(0).integers(0, 256, (40, SIDE, SIDE, 3))
    return ((pixels - 128) / 128).astype(np.float32)


@pytest.fixture(scope="module")
def files(model: keras.Model, images: np.ndarray) -> dict[Precision, bytes]:
    return {
        "int8": convert_tflite(model, "int8", images, input_range=INPUT_RANGES["signed"]),
        "float32": convert_tflite(model, "float32"),
    }


@pytest.mark.parametrize("kernels", ["xnnpack", "builtin", "reference"])
def test_float32_equals_keras(
    model: keras.Model, files: dict[Precision, bytes], images: np.ndarray, kernels: Kernels
) -> None:
    logits = run_tflite(files["float32"], "float32", images, kernels)
    assert logits.shape == (40, 10)
    assert logits.dtype == np.float32
    np.testing.assert_allclose(logits, model.predict(images, verbose=0), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("runtime", [tflm, litert])
def test_int8_is_near_keras(
    runtime: object, model: keras.Model, files: dict[Precision, bytes], images: np.ndarray
) -> None:
    logits = runtime.predict(files["int8"], "int8", images)  # type: ignore[attr-defined]
    wanted = model.predict(images, verbose=0)
    assert np.abs(logits - wanted).max() < 0.1 * np.ptp(wanted)


def test_kernels_of_int8_are_a_step_apart(
    files: dict[Precision, bytes], images: np.ndarray
) -> None:
    one, other = (
        run_tflite(files["int8"], "int8", images, name) for name in ("builtin", "xnnpack")
    )
    step = np.min(np.diff(np.unique(one)))
    assert np.abs(one - other).max() <= 5 * step


def test_ten_thousand_images_take_seconds(
    files: dict[Precision, bytes], images: np.ndarray
) -> None:
    many = np.tile(images, (250, 1, 1, 1))
    start = time.perf_counter()
    logits = tflm.predict(files["int8"], "int8", many)
    assert logits.shape == (10_000, 10)
    assert time.perf_counter() - start < 30


def test_no_image_gives_no_logits(files: dict[Precision, bytes], images: np.ndarray) -> None:
    assert litert.predict(files["int8"], "int8", images[:0]).shape == (0, 10)


def test_nothing_is_written(
    files: dict[Precision, bytes], images: np.ndarray, capfd: pytest.CaptureFixture[str]
) -> None:
    litert.predict(files["int8"], "int8", images[:2])
    assert capfd.readouterr() == ("", "")


def test_quantize_rounds_and_cuts() -> None:
    values = np.array([-9.0, -0.5, 0.0, 0.26, 9.0], np.float32)
    assert quantize(values, 0.5, 3).tolist() == [-15, 2, 3, 4, 21]
    assert quantize(values, 0.01, 0).tolist() == [-128, -50, 0, 26, 127]
    with pytest.raises(TuneError, match=r"expected a quantized tensor\. Received: scale=0"):
        quantize(values, 0.0, 0)


def test_wrong_images_are_named(files: dict[Precision, bytes], images: np.ndarray) -> None:
    with pytest.raises(
        TuneError,
        match=r"reads int8 images of \(1, 31, 32, 3\)\. Received: one that reads int8 of "
        r"\(1, 32, 32, 3\)",
    ):
        run_tflite(files["int8"], "int8", images[:, 1:], "builtin")
    with pytest.raises(TuneError, match=r"reads int8 images of .* one that reads float32"):
        run_tflite(files["float32"], "int8", images, "builtin")


def test_a_file_that_is_no_model_is_refused(images: np.ndarray) -> None:
    with pytest.raises(TuneError, match="LiteRT cannot load the model"):
        run_tflite(b"not a model at all", "int8", images, "builtin")
