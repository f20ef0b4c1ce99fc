"""The nearest change that fits: it fits, and the next larger one does not."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.change import nearest_change
from tuner.cost.lower import lower
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    Flatten,
    GlobalAveragePool2D,
    Input,
    Node,
)
from tuner.testing.architectures import random_architecture


def net(side: int = 96, filters: int = 16) -> Architecture:
    return Architecture(
        nodes=(
            Node(name="image", op=Input(height=side, width=side, channels=3)),
            Node(name="stem", op=Conv2D(filters=filters), inputs=("image",)),
            Node(name="body", op=Conv2D(filters=filters), inputs=("stem",)),
            Node(name="sum", op=Add(), inputs=("stem", "body")),
            Node(name="mean", op=GlobalAveragePool2D(), inputs=("sum",)),
            Node(name="logits", op=Dense(units=10), inputs=("mean",)),
        ),
        outputs=("logits",),
    )


def weights(architecture: Architecture) -> int:
    return sum(operator.weights for operator in lower(architecture).operators)


def largest_tensor(architecture: Architecture) -> int:
    return max(tensor.bytes for tensor in lower(architecture).tensors)


def outputs(architecture: Architecture) -> int:
    return math.prod(architecture.shapes()[architecture.outputs[0]])


def test_both_changes_the_smaller_one_first() -> None:
    assert (
        nearest_change(net(), lambda changed: largest_tensor(changed) <= 80 * 80 * 16)
        == "fits with an input of 80x80 instead of 96x96, or with 5/8 of the filters"
    )
    assert (
        nearest_change(net(), lambda changed: changed.input.height <= 24 or weights(changed) < 2400)
        == "fits with 7/8 of the filters, or with an input of 24x24 instead of 96x96"
    )


def test_what_does_not_help_is_not_named() -> None:
    limit = weights(net()) // 2
    assert (
        nearest_change(net(), lambda changed: weights(changed) <= limit)
        == "fits with 5/8 of the filters"
    )
    assert nearest_change(net(), lambda changed: False) == ""


def test_proportions_and_outputs_stay() -> None:
    wide = Architecture(
        nodes=(
            Node(name="image", op=Input(height=48, width=64, channels=1)),
            Node(name="stem", op=Conv2D(filters=6), inputs=("image",)),
            Node(name="head", op=Conv2D(filters=5), inputs=("stem",)),
            Node(name="logits", op=GlobalAveragePool2D(), inputs=("head",)),
        ),
        outputs=("logits",),
    )
    seen: list[Architecture] = []

    def fits(changed: Architecture) -> bool:
        seen.append(changed)
        return changed.input.width <= 32 or changed.shapes()["stem"][2] <= 3

    assert (
        nearest_change(wide, fits)
        == "fits with 5/8 of the filters, or with an input of 32x24 instead of 64x48"
    )
    assert {outputs(changed) for changed in seen} == {5}


def test_sizes_that_a_net_does_not_allow_are_passed_over() -> None:
    pooled = Architecture(
        nodes=(
            Node(name="image", op=Input(height=32, width=32, channels=3)),
            Node(name="stem", op=Conv2D(filters=3), inputs=("image",)),
            Node(name="sum", op=Add(), inputs=("image", "stem")),  # ties the width to the image's
            Node(name="pool", op=AveragePool2D(size=16), inputs=("sum",)),
            Node(name="flat", op=Flatten(), inputs=("pool",)),
            Node(name="logits", op=Dense(units=2), inputs=("flat",)),
        ),
        outputs=("logits",),
    )
    assert (
        nearest_change(pooled, lambda changed: largest_tensor(changed) <= 20 * 20 * 3)
        == "fits with an input of 20x20 instead of 32x32"
    )
    assert nearest_change(pooled, lambda changed: changed.input.height < 16) == ""


@pytest.mark.parametrize("share", [0.2, 0.5, 0.8])
@given(seed=st.integers(0, 10**6))
def test_the_named_input_fits_and_the_next_larger_does_not(share: float, seed: int) -> None:
    architecture = random_architecture(seed)
    limit = share * largest_tensor(architecture)
    fitting: dict[bool, list[int]] = {True: [], False: []}

    def fits(changed: Architecture) -> bool:
        good = largest_tensor(changed) <= limit
        if changed.input != architecture.input:
            fitting[good].append(max(changed.input.height, changed.input.width))
        return good

    text = nearest_change(architecture, fits)
    image = architecture.input
    if "input" in text:
        side = max(fitting[True])
        assert str(side) in text.split("input of ")[1].split(" instead")[0].split("x")
        step = 8 if max(image.height, image.width) > 32 else 4
        assert side + step in fitting[False] or side + step >= max(image.height, image.width)
    else:
        assert not fitting[True]
