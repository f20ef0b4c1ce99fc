"""Scratch buffers that TFLM's kernels ask for in the arena, beside the tensors.

Every rule is one function of the library, read at source; the tests hold worked examples of it:

* the kernels every build shares: `kernels/reduce_common.cc`, `transpose_conv.cc`
  (tensorflow/tflite-micro); the x86 referee confirms their sizes;
* CMSIS-NN (ARM-software/CMSIS-NN, `Source/*/*_get_buffer_sizes_s8.c`, version 2.3.0), asked by
  TFLM's `kernels/cmsis_nn/*.cc`. The sizes depend on the core: with the DSP extension
  (Cortex-M4, M7, M33), with MVE (M52, M55, M85), or with neither (M0+, M3, M23);
* ESP-NN for the ESP32-S3 (espressif/esp-nn, `src/convolution/*_esp32s3.c`, as of 2026), asked by
  esp-tflite-micro's `kernels/esp_nn/*.cc`. On the other ESP32s only softmax asks for some
  (`src/softmax/esp_nn_softmax_opt.c`).

Float32 kernels ask for none but a reduction's. Nothing was measured on a board.
"""

from __future__ import annotations

import math
from typing import Literal

from tuner.cost.cores import core_of
from tuner.cost.lower import Graph, GraphOperator

TFLM_KERNELS: frozenset[str] = frozenset({"reference", "cmsis-nn", "esp-nn"})
"""Kernel libraries whose scratch is known here."""

Core = Literal["plain", "dsp", "mve", "esp32s3"]
"""What of a CPU decides the sizes of its kernels' buffers."""

_MVE_DEPTHWISE_CHANNELS = 124
"""Channels that a depthwise convolution with MVE takes at once (`CH_IN_BLOCK_MVE`)."""

_ESP_INPUT_MAX_BYTES = 40 * 1024
"""ESP-NN pads a whole depthwise input up to this size and works in strips above it."""

_ESP_INT16_MAX_BYTES = 48 * 1024
"""Up to this size ESP-NN converts a whole depthwise input to int16."""

_ESP_PANEL_BYTES = 24 * 1024
"""Weights of a pointwise convolution above which ESP-NN works in panels of outputs."""

_ESP_MARGIN_BYTES = 64
"""Alignment and reads past the end, in every convolution."""


_CMSIS_NN_CORES: dict[str, Core] = {
    **dict.fromkeys(("cortex-m52", "cortex-m55", "cortex-m85"), "mve"),
    **dict.fromkeys(("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m35p"), "dsp"),
    **dict.fromkeys(("cortex-m0", "cortex-m0+", "cortex-m1", "cortex-m3", "cortex-m23"), "plain"),
    "": "dsp",
}
_ESP_NN_CORES: dict[str, Core] = {"xtensa-lx6": "plain", "rv32": "plain"}


def rules_of(kernels: str, cpu: str) -> Core:
    """Which of the library's rules hold for a core; those that ask for most where it is unknown.

    Args:
        kernels: the kernel library.
        cpu: as targets name it, such as `Cortex-M55`; one with DSP where it is empty.
    """
    if kernels == "esp-nn":
        return _ESP_NN_CORES.get(core_of(cpu), "esp32s3")
    return _CMSIS_NN_CORES.get(core_of(cpu), "mve")


def scratch_buffers(
    operator: GraphOperator, kernels: str, *, cpu: str = "", precision: str = "int8"
) -> tuple[int, ...]:
    """Bytes of each scratch buffer that `operator` asks for; empty for none.

    Args:
        operator: of the graph.
        kernels: one of `TFLM_KERNELS`; an unknown library counts as `reference`.
        cpu: as targets name it; see `rules_of`.
        precision: of the graph.
    """
    kind, quantized = operator.kind, precision == "int8"
    if kind in ("MEAN", "SUM", "REDUCE_MAX"):  # an index and the axes, int32 each
        sums = (4 * operator.output_elements,) if quantized and kind != "REDUCE_MAX" else ()
        return (4 * 4, 4 * 2, *sums)
    if not quantized:
        return ()
    if kind == "TRANSPOSE_CONV":
        return (4 * operator.output_elements,)
    size = 0
    core = rules_of(kernels, cpu)
    if kernels == "cmsis-nn":
        size = _cmsis_nn(operator, core)
    elif kernels == "esp-nn" and kind == "SOFTMAX":
        # One int32 for each entry of the first axis after the batch; a map has several axes.
        size = 4 * max(operator.input_shape, default=0)
    elif kernels == "esp-nn" and core == "esp32s3" and operator.dilation == (1, 1):
        if kind == "CONV_2D":
            size = _esp_nn_conv(operator)
        elif kind == "DEPTHWISE_CONV_2D":
            size = _esp_nn_depthwise(operator)
    return (size,) if size else ()


def kernel_sums_bytes(operator: GraphOperator, kernels: str, cpu: str) -> int:
    """Persistent sums of a dense layer's weights: int32 each, with MVE (`fully_connected.cc`)."""
    mve = kernels == "cmsis-nn" and rules_of(kernels, cpu) == "mve"
    return 4 * operator.channels if mve and operator.kind == "FULLY_CONNECTED" else 0


def preprocessing_bytes(graph: Graph) -> int:
    """Buffer that resizes a camera's image as its rows arrive: a row of int32 sums of each channel.

    The finished row goes into the net's input tensor, which the arena holds already. An input
    that is no image (a row of features) needs none.
    """
    image = next((item for item in graph.operators if item.inputs[:1] == graph.inputs[:1]), None)
    if image is None or len(image.input_shape) != 3 or image.input_shape[0] == 1:
        return 0
    return 4 * image.input_shape[1] * image.input_shape[2]


def _padding(operator: GraphOperator) -> tuple[int, int, int, int]:
    """Leading rows and columns of padding, then trailing rows and columns."""
    if operator.padding == "valid":
        return 0, 0, 0, 0
    rows, columns = (
        max(
            (operator.output_shape[axis] - 1) * operator.stride[axis]
            + (operator.kernel[axis] - 1) * operator.dilation[axis]
            + 1
            - operator.input_shape[axis],
            0,
        )
        for axis in (0, 1)
    )
    return rows // 2, columns // 2, rows - rows // 2, columns - columns // 2


def _cmsis_nn(operator: GraphOperator, core: Core) -> int:
    if operator.kind == "CONV_2D":
        return _cmsis_nn_conv(operator, core)
    if operator.kind == "DEPTHWISE_CONV_2D":  # arm_depthwise_conv_wrapper_s8_get_buffer_size
        if operator.dilation != (1, 1) or operator.input_shape[2] != operator.output_shape[2]:
            return 0
        if core == "mve":
            return 4 * _MVE_DEPTHWISE_CHANNELS * math.prod(operator.kernel)
        top, left, _, _ = _padding(operator)
        if core == "plain" or (operator.kernel == (3, 3) and top <= 1 and left <= 1):
            return 0
        return 2 * math.prod(operator.kernel) * operator.input_shape[2]
    if operator.kind == "AVERAGE_POOL_2D" and core == "dsp":  # arm_avgpool_s8_get_buffer_size
        return 4 * operator.input_shape[2]
    return 0


def _cmsis_nn_conv(operator: GraphOperator, core: Core) -> int:
    """`arm_convolve_wrapper_s8_get_buffer_size`."""
    height, width, channels = operator.input_shape
    rows, columns = operator.kernel
    top, left, _, _ = _padding(operator)
    if (rows, columns) == (1, 1) and top == left == 0:
        return 0  # with armclang a core with DSP takes 4 bytes a channel; GCC takes none
    window = rows * columns * channels
    if core != "mve":
        return 2 * 2 * _up(window, 4)  # two columns of int16
    step = operator.stride[1]
    row = height == rows == 1 and operator.dilation[1] == 1 and step * channels % 4 == 0
    if row:  # arm_convolve_1_x_n_s8_get_buffer_size_mve
        odd = ((operator.output_shape[1] - 1) * step + columns - width) % 2
        right = max(1, (left + odd + step - 1) // step) if left + odd else 0
        before = max(1, (left + step - 1) // step) if left else 0
        if right + before <= operator.output_shape[1]:
            left_bytes = left * channels
            right_bytes = right * channels if odd else left_bytes
            return max(columns * channels + left_bytes, (columns - 1) * channels + right_bytes)
    return 4 * _up(window, 16)


def _esp_nn_conv(operator: GraphOperator) -> int:
    """`esp_nn_get_conv_scratch_size_esp32s3`."""
    height, width, channels = operator.input_shape
    rows, columns = operator.kernel
    filters = operator.channels
    window = rows * columns * channels
    top, left, below, right = _padding(operator)
    if (rows, columns) == (3, 3) and channels % 16 == 0 and filters >= 16:
        return window * (filters + 1) + 4 * filters + 32
    if (rows, columns) == (1, 1) and top == left == 0 and operator.stride == (1, 1):
        transposed = 16 * _up(channels, 8) if height * width >= 8 else 0
        tail = 24 * channels + 8 * filters
        panel = 24 * channels + 16 * 1024 if channels * filters > _ESP_PANEL_BYTES else 0
        return max(transposed, tail, panel) + _ESP_MARGIN_BYTES
    if columns * channels < 16 <= window:
        return filters * 4 + 16 + (filters + 1) * _up(window, 16) + 16 + _ESP_MARGIN_BYTES
    padded = 0
    if top or left or below or right:
        padded = (height + top + below) * (width + left + right) * channels
    return padded + _up(columns * channels, 16) * rows * filters + _ESP_MARGIN_BYTES + 4 * filters


def _esp_nn_depthwise(operator: GraphOperator) -> int:
    """`esp_nn_get_depthwise_conv_scratch_size_esp32s3`, one filter a channel."""
    height, width, channels = operator.input_shape
    out_height, out_width, filters = operator.output_shape
    rows, columns = operator.kernel
    weights = rows * columns * channels
    top, left, below, right = _padding(operator)
    if filters != channels:
        if filters // channels % 4:
            return 32
        return 2 * (rows * columns * filters + height * width * channels) + 32
    if width == columns == out_width == operator.stride[1] == 1 and channels % 16 == 0:
        return channels * 4 + 2 * rows * channels + 64
    if channels % 8 and channels > 3:
        padded = _up(channels, 8)
        start = _up(2 * rows * columns * padded, 16)
        start = _up(start + 2 * height * width * padded, 16)
        return _up(start + out_height * out_width * padded, 16) + 3 * 4 * padded + 16
    if channels % 8:
        return 32
    if (rows, columns) != (3, 3):
        whole = 2 * (weights + height * width * channels)
        if whole > _ESP_INT16_MAX_BYTES:
            whole = 2 * weights + 2 * width * rows * channels
        return whole + 32
    if channels % 16 == 0:
        if not (top or left or below or right):
            return weights + 16
        row, padded_rows = (width + left + right) * channels, height + top + below
        if padded_rows * row <= _ESP_INPUT_MAX_BYTES:
            return weights + padded_rows * row + 16
        strip = max((_ESP_INPUT_MAX_BYTES - weights - 32) // row, rows)
        return weights + min(strip, padded_rows) * row + 32
    if channels < 12:
        return 2 * (weights + height * width * channels) + 32
    padded = _up(channels, 16)
    wide = width + 2 * left + max(0, out_width * operator.stride[1] + 2 - width)
    high = height + 2 * top + max(0, out_height * operator.stride[0] + 2 - height)
    return padded * (9 + wide * high + out_height * out_width + 3 * 4) + 64


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple
