"""Bytes of the model file, from the architecture alone, and of the runtime's code.

The int8 file holds each weight (1 byte) and, for each channel of a convolution or dense layer,
28 bytes: bias int32, and scale float32 and zero point int64 for both weights and bias. The rest
is FlatBuffer tables, alignment and tensor names, a near constant amount by kind of operator. The
amounts were fitted on 320 random nets with random trained-like weights (TensorFlow 2.21, Keras
3.15); the largest errors were -56 and +134 bytes. Equal buffers are stored once, so an untrained
net, whose biases are all zero, makes a smaller file.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from tuner.cost.lower import Graph, GraphOperator
from tuner.spec import Precision, Quantity


@dataclass(frozen=True, slots=True, kw_only=True)
class _Layout:
    """Bytes that a file takes by what it holds; `first_*` once, for the first of a kind."""

    weight: int
    channel: int
    base: int
    mean: int
    conv: int
    conv_normalized: int
    depthwise: int
    depthwise_normalized: int
    dense: int
    pool: int
    activation: int
    first_depthwise: int
    first_pool: int
    first_mean: int

    def operator(self, operator: GraphOperator) -> int:
        kind = {
            "CONV_2D": self.conv_normalized if operator.batch_norm else self.conv,
            "DEPTHWISE_CONV_2D": (
                self.depthwise_normalized if operator.batch_norm else self.depthwise
            ),
            "FULLY_CONNECTED": self.dense,
            "MAX_POOL_2D": self.pool,
            "MEAN": self.mean,
        }[operator.kind]
        return (
            kind
            + self.weight * operator.weight_bytes
            + self.channel * operator.channels
            + (self.activation if operator.activation != "linear" else 0)
        )


_LAYOUTS: dict[Precision, _Layout] = {
    "int8": _Layout(
        weight=1, channel=28, base=613, mean=117, conv=480, conv_normalized=512, depthwise=488,
        depthwise_normalized=672, dense=400, pool=185, activation=31, first_depthwise=73,
        first_pool=45, first_mean=191,
    ),
    "float32": _Layout(
        weight=4, channel=4, base=555, mean=82, conv=401, conv_normalized=433, depthwise=407,
        depthwise_normalized=593, dense=323, pool=154, activation=31, first_depthwise=17,
        first_pool=40, first_mean=210,
    ),
}  # fmt: skip


def model_file_bytes(graph: Graph, precision: Precision = "int8") -> Quantity:
    """Size of the converted file.

    Args:
        graph: from `tuner.cost.lower`.
        precision: of the file.

    Returns:
        Bytes; `high` holds for any weights, `low` for trained nets with a mean and a dense layer.
    """
    layout = _LAYOUTS[precision]
    kinds = [operator.kind for operator in graph.operators]
    value = (
        layout.base
        + sum(layout.operator(operator) for operator in graph.operators)
        + (layout.first_depthwise if "DEPTHWISE_CONV_2D" in kinds else 0)
        + (layout.first_pool if "MAX_POOL_2D" in kinds else 0)
        + (layout.first_mean if "MEAN" in kinds else 0)
    )
    # A depthwise convolution of a single weight keeps longer names (134 and 163 bytes seen).
    single = sum(
        operator.kind == "DEPTHWISE_CONV_2D" and operator.channels == operator.kernel == 1
        for operator in graph.operators
    )
    return Quantity(
        value=value,
        low=value - 30 - 5 * len(kinds),
        high=value + 40 + 8 * len(kinds) + 130 * single,
        kind="estimated",
        basis=f"{precision} file layout, fitted on 320 converted nets",
    )


_CORE_BYTES = 16 * 1024
_KERNEL_BYTES: dict[str, dict[str, int]] = {
    "reference": {
        "CONV_2D": 6, "DEPTHWISE_CONV_2D": 6, "FULLY_CONNECTED": 4, "MAX_POOL_2D": 4, "MEAN": 6,
    },
    "cmsis-nn": {
        "CONV_2D": 14, "DEPTHWISE_CONV_2D": 14, "FULLY_CONNECTED": 7, "MAX_POOL_2D": 5, "MEAN": 6,
    },
    "esp-nn": {
        "CONV_2D": 18, "DEPTHWISE_CONV_2D": 22, "FULLY_CONNECTED": 6, "MAX_POOL_2D": 5, "MEAN": 6,
    },
}  # fmt: skip


def runtime_code_bytes(graph: Graph, kernels: str) -> Quantity:
    """Flash that TFLM's interpreter and the kernels of the graph take.

    The core of 16 KB, and 22 KB with the operators of a keyword model, on a Cortex-M3 are
    TensorFlow's own figures (tensorflow.org/lite/microcontrollers). The kernels' sizes, in KB
    here, are assumed, and so is the wide band.

    Args:
        graph: from `tuner.cost.lower`.
        kernels: the kernel library; an unknown one counts as `reference`.
    """
    table = _KERNEL_BYTES.get(kernels, _KERNEL_BYTES["reference"])
    kinds = {operator.kind for operator in graph.operators}
    value = _CORE_BYTES + 1024 * sum(table[kind] for kind in kinds)
    return Quantity(
        value=value,
        low=round(0.7 * value),
        high=round(1.6 * value),
        kind="estimated",
        basis=f"TFLM core 16 KB (tensorflow.org); {kernels} kernels assumed",
    )


def add(quantities: Iterable[Quantity]) -> Quantity:
    """Sum figures and their bands; bases are joined."""
    items = list(quantities)
    return Quantity(
        value=sum(item.value for item in items),
        low=sum(item.low for item in items),
        high=sum(item.high for item in items),
        kind="estimated" if any(item.kind == "estimated" for item in items) else "measured",
        basis="; ".join(dict.fromkeys(item.basis for item in items)),
    )
