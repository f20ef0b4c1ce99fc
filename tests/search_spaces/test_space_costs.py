"""Whatever a space draws can be sized for small and large devices."""

from __future__ import annotations

import dataclasses
import math

import pytest

from tests_support import context_of
from tuner import catalog
from tuner.cost.arena import plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.cost.training import training_load
from tuner.engine.costs import cost_on
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Context, suits

SPACES = sorted(catalog.names("search_spaces"))
TARGETS = ("rp2040", "nano33ble", "raspberry-pi-4", "k230")
SIDES = (12, 32, 50, 96, 224, 400)
DRAWS = 18


def context(target: str, side: int) -> Context:
    return context_of(target, side, side + side // 3, colour="grey" if side == 50 else "rgb")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPACES)
def test_every_draw_has_costs(name: str, target: str) -> None:
    space, device = catalog.load_space(name), catalog.load_target(target)
    for seed in range(DRAWS):
        candidate = space.draw(RandomChoices(seed), context(target, SIDES[seed % len(SIDES)]))
        graph = lower(candidate.architecture)
        arena = plan_arena(graph, kernels="cmsis-nn")
        assert 0 < max(arena.alive_bytes) <= arena.head_bytes
        assert arena.tail_bytes > 0
        size = model_file_bytes(graph)
        assert sum(item.weights for item in graph.operators) < size.low <= size.high
        load = training_load(candidate.architecture, candidate.training.batch_size)
        assert all(value > 0 for value in dataclasses.astuple(load))
        cost = cost_on(graph, device)
        assert cost.macs == graph.macs > 0
        for quantity in (cost.ram_bytes, cost.flash_bytes, cost.latency_ms):
            assert quantity is not None
            assert 0 < quantity.low <= quantity.value <= quantity.high < math.inf


@pytest.mark.parametrize("name", SPACES)
def test_the_first_options_make_the_smallest(name: str) -> None:
    where = context("nano33ble", 96)
    space = catalog.load_space(name)
    smallest = lower(space.draw(TableChoices({}), where).architecture)
    for seed in range(DRAWS):
        drawn = lower(space.draw(RandomChoices(seed), where).architecture)
        assert sum(item.weights for item in smallest.operators) <= sum(
            item.weights for item in drawn.operators
        )


@pytest.mark.parametrize("name", [name for name in SPACES if name != "mixed_stages"])
def test_starting_points_go_from_much_work_to_little(name: str) -> None:
    where = context("k230", 224)
    space = catalog.load_space(name)
    for point in space.starting_points(where):
        macs = [
            lower(space.draw(TableChoices(table), where).architecture).macs for table in point.sizes
        ]
        assert macs[0] == max(macs)
        assert macs[-1] <= 1.01 * min(macs), "the order is by width before rounding"


def test_wide_nets_suit_large_images_on_large_devices() -> None:
    wide = catalog.load_space("wide_mobile")
    assert suits(wide, context("k230", 96))
    assert suits(wide, context("raspberry-pi-4", 224))
    assert not suits(wide, context("k230", 50))
    assert not suits(wide, context("nano33ble", 224))
    assert suits(catalog.load_space("residual"), context("rp2040", 12))


def test_widths_of_wide_nets_are_multiples_of_eight() -> None:
    where = context("k230", 224)
    space = catalog.load_space("wide_mobile")
    for seed in range(DRAWS):
        net = space.draw(RandomChoices(seed), where).architecture
        widths = [node.op.filters for node in net.nodes if node.op.kind == "conv2d"]
        assert all(width % 8 == 0 for width in widths)
        assert net.input.height >= 96
