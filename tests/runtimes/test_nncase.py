"""K230: the roofline beside what nncase-kpu 2.11 itself estimates, and the size of its kmodels."""

from __future__ import annotations

import pytest

from tuner.catalog import load_target
from tuner.cost.lower import lower
from tuner.runtimes import nncase
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
    Operator,
)
from tuner.testing.architectures import random_architecture


def chain(side: int, *operators: Operator) -> Architecture:
    nodes = [Node(name="image", op=Input(height=side, width=side, channels=3))]
    for index, operator in enumerate(operators):
        nodes.append(Node(name=f"n{index}", op=operator, inputs=(nodes[-1].name,)))
    return Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,))


def mobilenet_v1_part(alpha: float, side: int) -> Architecture:
    """MobileNetV1 up to its first block of 512: the nets that were compiled."""
    operators: list[Operator] = [Conv2D(filters=int(32 * alpha), stride=2)]
    for filters, stride in ((64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2)):
        operators.append(DepthwiseConv2D(stride=stride))
        operators.append(Conv2D(filters=int(filters * alpha), kernel=1))
    return chain(side, *operators, GlobalAveragePool2D(), Dense(units=4))


def convolutions() -> Architecture:
    """Seven 3x3 convolutions of 64 filters at 32x32."""
    return chain(
        64, Conv2D(filters=64, stride=2), *[Conv2D(filters=64)] * 6, GlobalAveragePool2D(),
        Dense(units=4),
    )  # fmt: skip


# Milliseconds by the estimator that nncase-kpu 2.11 writes with `dump_ir`, and the share by which
# the traffic model here may miss them.
COMPILED = [
    (mobilenet_v1_part(0.25, 96), 0.048, 0.10),
    (mobilenet_v1_part(0.5, 128), 0.126, 0.15),
    (mobilenet_v1_part(0.5, 224), 0.359, 0.23),
    (convolutions(), 0.384, 0.02),
]


@pytest.mark.parametrize(("net", "milliseconds", "share"), COMPILED)
def test_roofline_beside_the_compilers_own(
    net: Architecture, milliseconds: float, share: float
) -> None:
    latency = nncase.estimate_kpu_latency(lower(net))
    assert latency.value == pytest.approx(milliseconds, rel=share)
    assert latency.low <= milliseconds <= latency.high


def test_what_bounds_a_net_is_told() -> None:
    assert "bound by MACs" in nncase.estimate_kpu_latency(lower(convolutions())).basis
    basis = nncase.estimate_kpu_latency(lower(mobilenet_v1_part(0.5, 224))).basis
    assert "bound by traffic on the chip" in basis
    assert "lower bound for small nets" in basis


def test_kmodel_size_of_a_compiled_net() -> None:
    cost = nncase.cost(lower(mobilenet_v1_part(0.25, 96)), load_target("k230"))
    # nncase 2.11 compiles it to 40.8 KB.
    assert cost.flash_bytes.value == pytest.approx(40.8 * 1024, rel=0.05)
    assert cost.macs == pytest.approx(3.42e6, rel=0.01)


def test_the_user_is_told_whose_accuracies_are_shown() -> None:
    assert nncase.RUN_WITH == ("litert", "xnnpack")
    assert "LiteRT int8 with XNNPACK" in nncase.NOTICE
    assert "kpu" in nncase.KERNELS


@pytest.mark.parametrize("seed", range(20))
def test_costs_of_random_nets_are_positive_and_add_up(seed: int) -> None:
    cost = nncase.cost(lower(random_architecture(seed)), load_target("k230"))
    assert cost.ram_bytes.value == sum(cost.ram_parts.values())
    assert cost.flash_bytes.value == sum(cost.flash_parts.values()) > nncase.KMODEL_FIXED_BYTES
    assert 0 < cost.latency_ms.low <= cost.latency_ms.value <= cost.latency_ms.high
    assert cost.macs > 0
