from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.lower import lower
from tuner.errors import SpecError
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
)
from tuner.testing.architectures import random_architecture

NET = Architecture(
    nodes=(
        Node(name="input", op=Input(height=9, width=7, channels=3)),
        Node(name="conv", op=Conv2D(filters=4, kernel=3, stride=2), inputs=("input",)),
        Node(name="unused", op=Conv2D(filters=99), inputs=("input",)),
        Node(name="pool", op=MaxPool2D(), inputs=("conv",)),
        Node(name="mean", op=GlobalAveragePool2D(), inputs=("pool",)),
        Node(name="drop", op=Dropout(rate=0.5), inputs=("mean",)),
        Node(name="logits", op=Dense(units=2), inputs=("drop",)),
    ),
    outputs=("logits",),
)


def test_operators_of_a_small_net() -> None:
    graph = lower(NET)
    rows = [(item.name, item.kind, item.output_shape, item.macs) for item in graph.operators]
    assert rows == [
        ("conv", "CONV_2D", (5, 4, 4), 5 * 4 * 4 * 27),
        ("pool", "MAX_POOL_2D", (2, 2, 4), 0),
        ("mean", "MEAN", (4,), 0),
        ("logits", "FULLY_CONNECTED", (2,), 8),
    ]
    assert graph.operators[3].inputs == ("mean",)  # the dropout is gone
    assert graph.constants == 5


def test_lifetimes_of_a_small_net() -> None:
    tensors = lower(NET).tensors
    assert [(item.name, item.bytes, item.first, item.last) for item in tensors] == [
        ("input", 189, 0, 1),
        ("conv", 80, 1, 2),
        ("pool", 16, 2, 3),
        ("mean", 4, 3, 4),
        ("logits", 2, 4, 4),
    ]


def test_a_net_without_operators_is_refused() -> None:
    empty = Architecture(
        nodes=(Node(name="input", op=Input(height=8, width=8, channels=1)),), outputs=("input",)
    )
    with pytest.raises(SpecError, match="at least one operator between the input and the outputs"):
        lower(empty)


@given(st.integers(0, 10**6))
def test_every_random_net_has_positive_costs(seed: int) -> None:
    architecture = random_architecture(seed)
    graph = lower(architecture)
    assert architecture == random_architecture(seed)
    assert sum(item.macs for item in graph.operators) > 0
    assert all(item.bytes > 0 and item.first <= item.last for item in graph.tensors)
    assert all(item.output_elements > 0 for item in graph.operators)


def test_a_residual_block_and_a_flat_head() -> None:
    nodes = (
        Node(name="input", op=Input(height=8, width=6, channels=4)),
        Node(name="left", op=Conv2D(filters=4, kernel=5, kernel_width=3), inputs=("input",)),
        Node(name="sum", op=Add(activation="relu"), inputs=("left", "input")),
        Node(name="pool", op=AveragePool2D(size=4, size_width=3), inputs=("sum",)),
        Node(name="flat", op=Flatten(), inputs=("pool",)),
        Node(name="logits", op=Dense(units=2), inputs=("flat",)),
    )
    graph = lower(Architecture(nodes=nodes, outputs=("logits",)))
    assert [(item.kind, item.output_shape, item.macs) for item in graph.operators] == [
        ("CONV_2D", (8, 6, 4), 8 * 6 * 4 * 5 * 3 * 4),
        ("ADD", (8, 6, 4), 0),
        ("AVERAGE_POOL_2D", (2, 2, 4), 0),
        ("RESHAPE", (16,), 0),
        ("FULLY_CONNECTED", (2,), 32),
    ]
    assert graph.operators[0].kernel == (5, 3)
    assert graph.operators[2].kernel == (4, 3)
    assert graph.tensors[0].last == 2  # the input lives until it is added
    assert graph.constants == 5


def test_a_sum_of_two_shapes_is_refused() -> None:
    nodes = (
        Node(name="input", op=Input(height=8, width=8, channels=3)),
        Node(name="conv", op=Conv2D(filters=4), inputs=("input",)),
        Node(name="sum", op=Add(), inputs=("conv", "input")),
    )
    with pytest.raises(SpecError, match=r"'sum' adds two inputs of one shape. Received the shapes"):
        Architecture(nodes=nodes, outputs=("sum",))
