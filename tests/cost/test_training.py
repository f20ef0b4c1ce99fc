from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.training import (
    macs,
    macs_by_operator,
    train_seconds_per_image,
    training_load,
)
from tuner.spec import Architecture, Conv2D, DepthwiseConv2D, Input, Node, Throughput
from tuner.testing.architectures import random_architecture

NET = Architecture(
    nodes=(
        Node(name="input", op=Input(height=8, width=8, channels=3)),
        Node(name="conv", op=Conv2D(filters=4, kernel=1), inputs=("input",)),
        Node(name="depthwise", op=DepthwiseConv2D(kernel=3), inputs=("conv",)),
    ),
    outputs=("depthwise",),
)


def test_depthwise_macs_are_counted_once() -> None:
    assert training_load(NET) == (64 * 3 * 4, 64 * 9 * 4, 2 * 64 * 4)
    assert macs_by_operator(NET) == {"conv": 768, "depthwise": 2304}


def test_seconds_of_an_image() -> None:
    throughput = Throughput(
        image_seconds=1.0,
        macs_per_second=768.0,
        depthwise_macs_per_second=1152.0,
        element_seconds=0.25,
    )
    assert train_seconds_per_image(NET, throughput) == pytest.approx(1 + 1 + 2 + 128)


@given(st.integers(0, 10**6))
def test_loads_add_up(seed: int) -> None:
    architecture = random_architecture(seed)
    other, depthwise, elements = training_load(architecture)
    assert other + depthwise == macs(architecture) == sum(macs_by_operator(architecture).values())
    assert other > 0
    assert depthwise >= 0
    assert elements > 0
