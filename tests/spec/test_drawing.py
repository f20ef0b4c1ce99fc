from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner import catalog
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import (
    Add,
    AveragePool2D,
    Context,
    Conv2D,
    DepthwiseConv2D,
    Layers,
    Limits,
    MaxPool2D,
    Preprocessing,
    draw_loss,
    draw_training,
    largest_first,
    multiple_of,
    resolutions,
)


def context(side: int, ram_bytes: int | None = None) -> Context:
    return Context(
        limits=Limits(ram_bytes=ram_bytes),
        kernels="reference",
        accelerated=False,
        image_height=side,
        image_width=2 * side,
        colour="rgb",
        outputs=3,
    )


def test_sides_are_within_the_images_the_ram_and_a_quarter_of_the_largest() -> None:
    assert resolutions(context(100)) == (28, 32, 40, 48, 56, 64, 80, 96, 100)
    assert resolutions(context(100, 2 * 40 * 40)) == (12, 16, 20, 24, 28, 32, 40)
    assert resolutions(context(100), (96, 128)) == (96, 100)
    assert resolutions(context(50), (96, 128)) == (50,)
    assert max(resolutions(context(700))) == 320


@pytest.mark.parametrize(
    ("divisor", "channels", "rounded"),
    [
        (8, 11.2, 16),
        (8, 33.6, 32),
        (8, 5.6, 8),
        (8, 1280, 1280),
        (4, 2, 4),
        (4, 6, 8),
        (16, 22, 32),
    ],
)
def test_widths_round_as_mobilenet_v2_does(divisor: int, channels: float, rounded: int) -> None:
    assert multiple_of(divisor, channels) == rounded


@given(st.integers(4, 40), st.integers(0, 10**6))
def test_layers_know_the_shapes_of_the_net(side: int, seed: int) -> None:
    choices = RandomChoices(seed)
    net = Layers(Preprocessing(height=side, width=side, colour="rgb"))
    for index in range(4):
        stride = choices.ordered(f"stride{index}", (1, 2))
        net.add(f"conv{index}", Conv2D(filters=4 + index, stride=stride))
        net.add(f"depthwise{index}", DepthwiseConv2D(stride=choices.ordered(f"d{index}", (1, 2))))
        known = (net.side, net.channels_of(net.last))
        branch = net.add(f"branch{index}", Conv2D(filters=4 + index))
        net.add(f"sum{index}", Add(), branch, f"depthwise{index}")
        assert (net.side, net.channels_of(net.last)) == known
        pool = choices.categorical(f"pool{index}", ("max", "average", "none"))
        if net.side > 1 and pool != "none":
            net.add(f"pool{index}", MaxPool2D(size=2) if pool == "max" else AveragePool2D(size=2))
    side, last = net.side, net.last
    channels = net.channels_of(last)
    assert net.end(choices, 5).shapes()[last] == (side, side, channels)


def test_a_flat_classifier_reads_the_whole_map() -> None:
    net = Layers(Preprocessing(height=8, width=8, colour="grey"))
    net.add("stem", Conv2D(filters=4, stride=2))
    shapes = net.end(TableChoices({"dropout": 0.1}), 5, flat=True).shapes()
    assert shapes["flat"] == shapes["dropout"] == (64,)


def test_the_largest_comes_first_and_of_equals_the_larger_image() -> None:
    tables = largest_first({"stages": 2}, (16, 24, 32), "width", (4, 6, 8))
    assert [(table["resolution"], table["width"]) for table in tables] == [
        (32, 8), (32, 6), (24, 6), (32, 4), (24, 4), (16, 4),
    ], "an image is not shrunk more than the width is"  # fmt: skip
    assert all(table["stages"] == 2 and table["optimizer"] == "sgd" for table in tables)


def test_the_least_width_is_offered_at_every_side() -> None:
    tables = largest_first({}, (16, 32, 64), "alpha", (0.75, 1.0))
    assert [(table["resolution"], table["alpha"]) for table in tables] == [
        (64, 1.0), (64, 0.75), (32, 0.75), (16, 0.75),
    ]  # fmt: skip


def test_how_labels_count_is_a_choice_of_its_own() -> None:
    usual = draw_training(TableChoices({}))
    assert (usual.label_smoothing, usual.class_weights) == (0.0, "none")
    assert draw_loss(TableChoices({}), usual) == usual
    chosen = draw_loss(TableChoices({"label_smoothing": 0.1, "class_weights": "balanced"}), usual)
    assert (chosen.label_smoothing, chosen.class_weights) == (0.1, "balanced")


def test_every_bundled_space_searches_how_labels_count() -> None:
    for name in ("mixed_stages", "plain_convolutions", "residual", "inverted_residual",
                 "wide_mobile"):  # fmt: skip
        choices = RandomChoices(0)
        catalog.load_space(name).draw(choices, context(96))
        asked = {"label_smoothing", "class_weights"} & set(choices.taken)
        assert len(asked) == 2, name
