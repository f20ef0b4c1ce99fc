"""The space of a search that begins with trained weights, fuzzed as those of the catalog are."""

from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.transfer import TransferSpace
from tuner.spec import (
    Backbone,
    Candidate,
    Context,
    Conv2D,
    Layers,
    Limits,
    MaxPool2D,
    MobileNet,
    Preprocessing,
    WeightsFile,
    from_plain,
    to_plain,
)
from tuner.testing.specs import context_of


def own_net() -> Backbone:
    """Of any size that its pools can read, over grey images."""
    net = Layers(Preprocessing(height=16, width=16, colour="grey"))
    net.add("logits", Conv2D(filters=4))
    for index in range(3):
        net.add(f"pool{index}", MaxPool2D(size=2))
    return Backbone(
        name="own@1",
        architecture=net.without_end(),
        files=(WeightsFile(weights="wown"),),
        head="map",
        scaling="unit",
        trained_side=16,
    )


def published(kind: str, alpha: float, sides: tuple[int, ...]) -> Backbone:
    pixels = Preprocessing(height=64, width=64, colour="rgb")
    net = MobileNet(kind=kind, alpha=alpha)
    return Backbone(
        name=net.name,
        architecture=net.architecture(pixels),
        files=tuple(WeightsFile(weights=f"w{kind}{side}", side=side) for side in sides),
    )


BACKBONES = {
    item.name: item
    for item in (
        own_net(),
        published("MobileNet", 0.25, (128, 160)),
        published("MobileNetV2", 0.35, (96, 128, 224)),
    )
}

contexts = st.builds(
    Context,
    limits=st.builds(Limits, ram_bytes=st.sampled_from([64 << 10, 512 << 20, None])),
    kernels=st.just("cmsis-nn"),
    accelerated=st.booleans(),
    image_height=st.integers(16, 400),
    image_width=st.integers(16, 400),
    colour=st.sampled_from(["rgb", "grey"]),
    outputs=st.integers(2, 40),
)


@given(
    context=contexts,
    seed=st.integers(0, 2**32 - 1),
    names=st.lists(st.sampled_from(sorted(BACKBONES)), min_size=1, unique=True),
)
def test_draws_are_valid_and_replay(context: Context, seed: int, names: list[str]) -> None:
    space = TransferSpace([BACKBONES[name] for name in names])
    choices = RandomChoices(seed)
    candidate = space.draw(choices, context)
    backbone = BACKBONES[choices.taken.get("backbone", names[0])]
    pixels, training = candidate.preprocessing, candidate.training
    longest = min(context.image_height, context.image_width)
    assert pixels.height <= longest or pixels.height == backbone.sides[0], "nothing is upsampled"
    assert pixels.scaling == backbone.scaling
    assert pixels.channels == backbone.architecture.input.channels
    assert training.weights == backbone.weights_at(pixels.height)
    assert training.frozen_share > 0
    count = len(backbone.architecture.nodes)
    assert candidate.architecture.nodes[1:count] == backbone.architecture.nodes[1:]
    shapes = candidate.architecture.shapes()
    assert [shapes[name] for name in candidate.architecture.outputs] == [(context.outputs,)]
    assert from_plain(Candidate, to_plain(candidate), "x") == candidate
    assert space.draw(TableChoices(choices.taken), context) == candidate


@pytest.mark.parametrize(
    ("trained_side", "images", "sides"),
    [
        (48, 100, (28, 32, 40, 48, 56, 64, 80, 96)),
        (None, 100, (28, 32, 40, 48, 56, 64, 80, 96, 100)),
        (224, 64, (64,)),
        (16, 8, (8,)),
    ],
)
def test_a_net_serves_about_the_size_it_was_trained_for(
    trained_side: int | None, images: int, sides: tuple[int, ...]
) -> None:
    backbone = dataclasses.replace(BACKBONES["own@1"], trained_side=trained_side)
    where = context_of("raspberry-pi-4", images, images)
    (point,) = TransferSpace([backbone]).starting_points(where)
    found = [table["resolution"] for table in point.sizes]
    assert tuple(found[::-1]) == sides


@given(context=contexts)
def test_starting_points_begin_with_the_largest_input(context: Context) -> None:
    space = TransferSpace(list(BACKBONES.values()))
    points = space.starting_points(context)
    assert [point.name for point in points] == list(BACKBONES)
    for point in points:
        sides = [
            space.draw(TableChoices(table), context).preprocessing.height for table in point.sizes
        ]
        assert sides == sorted(sides, reverse=True)
        assert [table["resolution"] for table in point.sizes] == sides
