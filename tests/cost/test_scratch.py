"""Worked examples of the libraries' own functions; sources in `tuner.cost.scratch`."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuner.cost.arena import plan_arena
from tuner.cost.lower import GraphOperator, lower
from tuner.cost.scratch import (
    TFLM_KERNELS,
    kernel_sums_bytes,
    preprocessing_bytes,
    rules_of,
    scratch_buffers,
)
from tuner.testing.architectures import random_architecture
from tuner.testing.mlperf_tiny import MLPERF_TINY


def window(kind: str, **fields: object) -> GraphOperator:
    """An operator over 16 x 16 x 16 with `same` padding and a window of 3 x 3."""
    base = GraphOperator(
        name="x", kind=kind, inputs=("a",), outputs=("b",), input_shape=(16, 16, 16),
        output_shape=(16, 16, 16), kernel=(3, 3), channels=16,
    )  # fmt: skip
    return replace(base, **fields)


def size(operator: GraphOperator, kernels: str, cpu: str = "") -> int:
    return sum(scratch_buffers(operator, kernels, cpu=cpu))


CONV, DEPTHWISE = window("CONV_2D"), window("DEPTHWISE_CONV_2D")
DEPTHWISE_5 = window("DEPTHWISE_CONV_2D", kernel=(5, 5))
POINTWISE = window("CONV_2D", kernel=(1, 1))
AVERAGE = window("AVERAGE_POOL_2D", kernel=(2, 2), padding="valid", output_shape=(8, 8, 16))
ODD = window("CONV_2D", input_shape=(16, 16, 3))


@pytest.mark.parametrize(
    ("operator", "plain", "dsp", "mve"),
    [
        (CONV, 4 * 144, 4 * 144, 4 * 144),
        (ODD, 4 * 28, 4 * 28, 4 * 32),  # 27 weights, up to a multiple of 4 or 16
        (POINTWISE, 0, 0, 0),
        (window("CONV_2D", kernel=(1, 1), stride=(2, 2), output_shape=(8, 8, 16)), 0, 0, 0),
        (DEPTHWISE, 0, 0, 4 * 124 * 9),
        (DEPTHWISE_5, 0, 2 * 25 * 16, 4 * 124 * 25),
        (replace(DEPTHWISE_5, dilation=(2, 2)), 0, 0, 0),
        (AVERAGE, 0, 4 * 16, 0),
        (window("MAX_POOL_2D", kernel=(2, 2)), 0, 0, 0),
    ],
    ids=[
        "conv", "27 weights", "pointwise", "pointwise of stride 2", "depthwise 3x3",
        "depthwise 5x5", "dilated depthwise", "average pool", "max pool",
    ],
)  # fmt: skip
def test_cmsis_nn_by_core(operator: GraphOperator, plain: int, dsp: int, mve: int) -> None:
    sizes = [size(operator, "cmsis-nn", cpu) for cpu in ("Cortex-M0+", "Cortex-M7", "Cortex-M55")]
    assert sizes == [plain, dsp, mve]


def test_cmsis_nn_single_rows_with_mve() -> None:
    """`arm_convolve_1_x_n_s8_get_buffer_size_mve` on a row of 16 x 8 with 5 columns."""
    row = window("CONV_2D", input_shape=(1, 16, 8), output_shape=(1, 16, 8), kernel=(1, 5))
    assert size(row, "cmsis-nn", "Cortex-M55") == 5 * 8 + 2 * 8
    assert size(row, "cmsis-nn", "Cortex-M4F") == 4 * 40
    uneven = replace(row, input_shape=(1, 16, 6))  # 6 channels are no multiple of 4
    assert size(uneven, "cmsis-nn", "Cortex-M55") == 4 * 32


def test_dense_layers_keep_sums_with_mve() -> None:
    dense = window("FULLY_CONNECTED", kernel=(1, 1), channels=10)
    assert kernel_sums_bytes(dense, "cmsis-nn", "Cortex-M55") == 40
    assert kernel_sums_bytes(dense, "cmsis-nn", "Cortex-M7") == 0
    assert kernel_sums_bytes(CONV, "cmsis-nn", "Cortex-M55") == 0
    graph = lower(MLPERF_TINY["autoencoder"]())
    with_mve = plan_arena(graph, kernels="cmsis-nn", cpu="Cortex-M55").tail_bytes
    without = plan_arena(graph, kernels="cmsis-nn", cpu="Cortex-M7").tail_bytes
    assert with_mve - without == 4 * (640 + 8 * 128) + 4 * 8


@pytest.mark.parametrize(
    ("operator", "expected"),
    [
        (CONV, 144 * 17 + 4 * 16 + 32),  # 3x3, 16 channels: a window, weights, corrections
        (ODD, 16 * 4 + 16 + 17 * 32 + 16 + 64),  # rows below 16 bytes: im2col
        (window("CONV_2D", kernel=(5, 5)), 20 * 20 * 16 + 25 * 16 * 16 + 64 + 4 * 16),
        (
            window("CONV_2D", kernel=(5, 5), padding="valid", output_shape=(12, 12, 16)),
            25 * 16 * 16 + 64 + 4 * 16,
        ),
        (POINTWISE, 24 * 16 + 8 * 16 + 64),
        (
            window(
                "CONV_2D",
                kernel=(1, 1),
                input_shape=(4, 4, 256),
                output_shape=(4, 4, 256),
                channels=256,
            ),
            24 * 256 + 16 * 1024 + 64,  # 64 KB of weights: panels
        ),
        (DEPTHWISE, 9 * 16 + 18 * 18 * 16 + 16),
        (replace(DEPTHWISE, padding="valid", output_shape=(14, 14, 16)), 9 * 16 + 16),
        (
            window("DEPTHWISE_CONV_2D", input_shape=(64, 64, 16), output_shape=(64, 64, 16)),
            144 + 38 * 66 * 16 + 32,  # a strip of (40960 - 144 - 32) // 1056 rows
        ),
        (DEPTHWISE_5, 2 * (400 + 4096) + 32),
        (
            window("DEPTHWISE_CONV_2D", input_shape=(8, 8, 8), output_shape=(8, 8, 8)),
            2 * (72 + 512) + 32,
        ),
        (
            window("DEPTHWISE_CONV_2D", input_shape=(8, 8, 12), output_shape=(8, 8, 12)),
            288 + 2048 + 1024 + 192 + 16,  # as 16: weights and input in int16, output, vectors
        ),
        (window("DEPTHWISE_CONV_2D", input_shape=(8, 8, 3), output_shape=(8, 8, 3)), 32),
        (window("MAX_POOL_2D"), 0),
    ],
)
def test_esp_nn_on_the_esp32s3(operator: GraphOperator, expected: int) -> None:
    assert size(operator, "esp-nn", "Xtensa LX7") == expected
    assert size(operator, "esp-nn", "Xtensa LX6") == 0


@pytest.mark.parametrize("cpu", ["Xtensa LX6", "Xtensa LX7", "RISC-V (ESP32-C3)"])
def test_softmax_with_esp_nn(cpu: str) -> None:
    """`esp_nn_get_softmax_scratch_size_opt`: an int32 for each entry of a row."""
    softmax = window("SOFTMAX", input_shape=(10,), output_shape=(10,), kernel=(1, 1), channels=0)
    assert size(softmax, "esp-nn", cpu) == 40
    assert size(softmax, "reference", cpu) == size(softmax, "cmsis-nn", cpu) == 0
    assert size(replace(softmax, input_shape=()), "esp-nn", cpu) == 0


def test_reductions_sum_in_int32() -> None:
    mean = window("MEAN", output_shape=(16,), kernel=(1, 1))
    for kernels in TFLM_KERNELS:
        assert scratch_buffers(mean, kernels) == (16, 8, 64)
    assert scratch_buffers(mean, "reference", precision="float32") == (16, 8)


def test_float32_windows_ask_for_none() -> None:
    for kernels in TFLM_KERNELS:
        assert scratch_buffers(CONV, kernels, precision="float32") == ()


@pytest.mark.parametrize(
    ("cpu", "core"),
    [
        ("Cortex-M0+", "plain"), ("Cortex-M3", "plain"), ("Cortex-M4F", "dsp"),
        ("Cortex-M33", "dsp"), ("Cortex-M7", "dsp"), ("Cortex-M55", "mve"), ("Cortex-M85", "mve"),
        ("ARM Cortex-M7 with FPU", "dsp"), ("cortex-m55 (Helium)", "mve"), ("", "dsp"),
        ("a core nobody knows", "mve"),
    ],
)  # fmt: skip
def test_cores_of_cmsis_nn(cpu: str, core: str) -> None:
    assert rules_of("cmsis-nn", cpu) == core


@pytest.mark.parametrize(
    ("cpu", "core"),
    [("Xtensa LX7", "esp32s3"), ("xtensa lx7", "esp32s3"), ("Xtensa LX6", "plain"),
     ("RISC-V (ESP32-C3)", "plain"), ("a core nobody knows", "esp32s3")],
)  # fmt: skip
def test_cores_of_esp_nn(cpu: str, core: str) -> None:
    assert rules_of("esp-nn", cpu) == core


def test_an_image_is_resized_row_by_row() -> None:
    graph = lower(random_architecture(3))  # 38 x 38 x 1
    assert preprocessing_bytes(graph) == 4 * 38
    assert preprocessing_bytes(lower(MLPERF_TINY["mobilenet_v1_025"]())) == 4 * 96 * 3
    assert preprocessing_bytes(lower(MLPERF_TINY["autoencoder"]())) == 0
