from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.flash import add, model_file_bytes, runtime_code_bytes
from tuner.cost.lower import lower
from tuner.spec import Architecture, Conv2D, Dense, GlobalAveragePool2D, Input, Node, Quantity
from tuner.testing.architectures import random_architecture


def net(filters: int) -> Architecture:
    return Architecture(
        nodes=(
            Node(name="input", op=Input(height=16, width=16, channels=3)),
            Node(name="conv", op=Conv2D(filters=filters), inputs=("input",)),
            Node(name="mean", op=GlobalAveragePool2D(), inputs=("conv",)),
            Node(name="logits", op=Dense(units=2), inputs=("mean",)),
        ),
        outputs=("logits",),
    )


@given(st.integers(1, 300), st.integers(1, 50))
def test_a_wider_net_has_a_larger_file(filters: int, more: int) -> None:
    narrow, wide = lower(net(filters)), lower(net(filters + more))
    assert model_file_bytes(narrow).high < model_file_bytes(wide).high
    narrow, wide = (replace(graph, precision="float32") for graph in (narrow, wide))
    assert model_file_bytes(narrow).high < model_file_bytes(wide).high


@given(st.integers(0, 10**6))
def test_the_band_is_narrow(seed: int) -> None:
    graph = lower(random_architecture(seed))
    size = model_file_bytes(graph)
    assert sum(item.weights for item in graph.operators) < size.low
    assert size.value == size.high == size.low + 64


@pytest.mark.parametrize("seed", range(2000, 2010))
def test_converted_files_have_the_size(seed: int) -> None:
    _check(seed)


@pytest.mark.slow
def test_100_converted_files_have_the_size() -> None:
    for seed in range(3000, 3100):
        _check(seed)


def _check(seed: int) -> None:
    import keras

    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras
    from tuner.train.convert import convert_tflite

    architecture = random_architecture(seed)
    model = build_keras(architecture)
    randomize_weights(model, seed)
    shape = (2, *model.input_shape[1:])
    images = np.random.default_rng(seed).uniform(-1, 0.99, shape).astype(np.float32)
    for precision in ("int8", "float32"):
        size = len(convert_tflite(model, precision, images))
        expected = model_file_bytes(replace(lower(architecture), precision=precision))
        assert size == expected.value, (seed, precision)
    keras.backend.clear_session()


def test_a_file_says_its_size_itself() -> None:
    graph = replace(lower(net(8)), file_bytes=1234)
    size = model_file_bytes(graph)
    assert (size.value, size.low, size.high, size.kind) == (1234, 1234, 1234, "measured")


def test_an_untrained_net_makes_a_smaller_file() -> None:
    """Biases of zeros are equal, and equal constants are stored once."""
    from tuner.train.build import build_keras
    from tuner.train.convert import convert_tflite

    architecture = random_architecture(1)
    model = build_keras(architecture)
    images = np.random.default_rng(1).uniform(-1, 0.99, (2, *model.input_shape[1:]))
    size = len(convert_tflite(model, "int8", images.astype(np.float32)))
    assert size < model_file_bytes(lower(architecture)).value


def test_an_operator_of_a_file_counts_in_the_code() -> None:
    graph = lower(net(8))
    softmax = replace(graph.operators[-1], kind="SOFTMAX")
    more = replace(graph, operators=(*graph.operators, softmax))
    known, unknown = (runtime_code_bytes(item, "cmsis-nn").value for item in (graph, more))
    assert unknown - known == 4 * 1024


def test_runtime_code_counts_each_kind_of_kernel_once() -> None:
    code = runtime_code_bytes(lower(net(8)), "cmsis-nn")
    assert code.value == (16 + 14 + 6 + 7) * 1024
    assert "assumed" in code.basis


def test_add_sums_bands_and_joins_bases() -> None:
    one = Quantity(value=2, low=1, high=3, kind="measured", basis="a")
    two = Quantity(value=20, low=10, high=30, kind="estimated", basis="b")
    assert add([one, two]) == Quantity(value=22, low=11, high=33, kind="estimated", basis="a; b")
