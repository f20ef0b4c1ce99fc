"""Scratch buffers that TFLM's kernel libraries ask for, beside the tensors, in the arena.

Sources: TFLM `kernels/reduce_common.cc` (MEAN; its sizes are confirmed by the referee); CMSIS-NN
`arm_convolve_s8_get_buffer_size` for cores with the DSP extension (Cortex-M4, M7, M33; a core
without it needs no more), and its depthwise rule from memory, unchecked; ESP-NN
`esp_nn_get_*_scratch_size_esp32s3` (the kernels of the plain ESP32 ask for none). Of these two
libraries nothing was measured on a board.
"""

from __future__ import annotations

from tuner.cost.lower import GraphOperator

TFLM_KERNELS: frozenset[str] = frozenset({"reference", "cmsis-nn", "esp-nn"})
"""Kernel libraries whose scratch is known here."""

_ESP_WHOLE_INPUT_MAX_BYTES = 40 * 1024
"""ESP-NN pads a whole depthwise input up to this size and works in strips above it."""


def scratch_buffers(operator: GraphOperator, kernels: str) -> tuple[int, ...]:
    """Bytes of each scratch buffer that `operator` asks for; empty for none.

    Args:
        operator: of the int8 graph.
        kernels: one of `TFLM_KERNELS`; an unknown library counts as `reference`.
    """
    if operator.kind == "MEAN":
        # An index and the axes, int32 each, and an int32 sum for each output.
        return (4 * 4, 4 * 2, 4 * operator.output_elements)
    size = {"cmsis-nn": _cmsis_nn, "esp-nn": _esp_nn}.get(kernels, _none)(operator)
    return (size,) if size else ()


def _none(operator: GraphOperator) -> int:
    return 0


def _padding(operator: GraphOperator) -> tuple[int, int, int, int]:
    """Leading rows and columns of `same` padding, then all rows and columns."""
    totals = [
        max((operator.output_shape[axis] - 1) * operator.stride + operator.kernel
            - operator.input_shape[axis], 0)
        for axis in (0, 1)
    ]  # fmt: skip
    return totals[0] // 2, totals[1] // 2, totals[0], totals[1]


def _cmsis_nn(operator: GraphOperator) -> int:
    if operator.kind == "CONV_2D":
        if operator.kernel == 1:
            return 0
        columns = operator.kernel**2 * operator.input_shape[2]
        return 2 * 2 * _up(columns, 4)  # two im2col columns of int16
    if operator.kind == "DEPTHWISE_CONV_2D":
        if operator.kernel == 3 and max(_padding(operator)[:2]) <= 1:
            return 0
        return 2 * operator.kernel**2 * operator.input_shape[2]
    return 0


def _esp_nn(operator: GraphOperator) -> int:
    if operator.kind == "CONV_2D":
        return _esp_nn_conv(operator)
    if operator.kind == "DEPTHWISE_CONV_2D":
        return _esp_nn_depthwise(operator)
    return 0


def _esp_nn_conv(operator: GraphOperator) -> int:
    height, width, channels = operator.input_shape
    filters, kernel, alignment = operator.channels, operator.kernel, 32
    if kernel == 1 and operator.stride == 1:
        padded = _up(channels, 8)
        transposed = 16 * padded if height * width >= 8 else 0
        copied = height * width * padded if channels % 8 else 0
        return copied + padded * filters + transposed + alignment
    row, window = kernel * channels, kernel**2 * channels
    if row < 16 <= window:
        aligned = _up(window, 16)
        return filters * 4 + 16 + filters * aligned + 16 + aligned + alignment
    top, left, _, _ = _padding(operator)
    padded_input = (height + 2 * top) * (width + 2 * left) * channels if top or left else 0
    below = max(0, operator.output_shape[0] * operator.stride + kernel - 1 - height)
    right = max(0, operator.output_shape[1] * operator.stride + kernel - 1 - width)
    boundary = (height + below) * (width + right) * channels if below or right else 0
    weights = kernel**2 * _up(channels, 16) * filters + _up(row, 16) * kernel * filters
    return padded_input + weights + boundary + alignment + filters * 4


def _esp_nn_depthwise(operator: GraphOperator) -> int:
    height, width, channels = operator.input_shape
    top, left, rows, columns = _padding(operator)
    if channels % 16 == 0 and operator.kernel == 3:
        rows, columns = max(rows, 2 * top), max(columns, 2 * left)
        whole = (height + rows) * (width + columns) * channels
        if whole > _ESP_WHOLE_INPUT_MAX_BYTES:
            whole = 3 * (width + columns) * channels
        return operator.weight_bytes + whole + 16
    # The other paths work in int16 and round the channels up; all of them stay below this.
    padded = _up(channels, 16)
    weights = operator.kernel**2 * padded
    read = (height + rows) * (width + columns) * padded
    written = operator.output_shape[0] * operator.output_shape[1] * padded
    return 2 * (weights + read) + (written if channels % 8 else 0) + 12 * padded + 64


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
