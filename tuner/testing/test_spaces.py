"""Contract of every search space of the catalog, drop-ins too: valid nets from any context."""

from __future__ import annotations

import ast
import dataclasses
import math
import random
import sys

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tuner import catalog
from tuner.cost.arena import plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.cost.training import training_load
from tuner.engine.costs import cost_on
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.survey import survey_space
from tuner.spec import Candidate, Context, Limits, from_plain, to_plain
from tuner.testing.specs import context_of

SPACES = catalog.names("search_spaces")
TARGETS = ("rp2040", "nano33ble", "raspberry-pi-4", "k230")
SIDES = (12, 32, 50, 96, 224, 400)
DRAWS = 18

contexts = st.builds(
    Context,
    limits=st.builds(
        Limits,
        ram_bytes=st.sampled_from([8 << 10, 64 << 10, 256 << 10, 512 << 20, None]),
        flash_bytes=st.sampled_from([32 << 10, 1 << 20, None]),
    ),
    kernels=st.just("cmsis-nn"),
    accelerated=st.booleans(),
    image_height=st.integers(4, 700),
    image_width=st.integers(4, 700),
    colour=st.sampled_from(["rgb", "grey"]),
    outputs=st.integers(2, 40),
)
fuzzed = settings(deadline=None, derandomize=True, max_examples=60)


@pytest.mark.parametrize("name", SPACES)
def test_it_asks_for_choices_as_the_guide_says(name: str) -> None:
    survey = survey_space(name, catalog.load_space(name))
    assert survey.choices, "draw asks for no choice: there is nothing to search"


@pytest.mark.parametrize("name", SPACES)
@fuzzed
@given(context=contexts, seed=st.integers(0, 2**32 - 1))
def test_draws_are_valid_and_replay(name: str, context: Context, seed: int) -> None:
    space = catalog.load_space(name)
    choices = RandomChoices(seed)
    # Hypothesis makes `random` the same in each example, which would hide that a draw uses it.
    random.seed(2 * seed)
    candidate = space.draw(choices, context)
    pixels = candidate.preprocessing
    assert pixels.height <= context.image_height, "nothing is upsampled"
    assert pixels.width <= context.image_width, "nothing is upsampled"
    assert context.colour == "rgb" or pixels.colour == "grey"
    shapes = candidate.architecture.shapes()
    assert [shapes[name] for name in candidate.architecture.outputs] == [(context.outputs,)]
    assert from_plain(Candidate, to_plain(candidate), "x") == candidate
    random.seed(2 * seed + 1)
    assert space.draw(TableChoices(choices.taken), context) == candidate, (
        "the same choices gave another net: draw may use its choices and its context alone, no "
        "random numbers, clock or state of its own"
    )


@pytest.mark.parametrize("name", SPACES)
@fuzzed
@given(context=contexts)
def test_starting_points_draw(name: str, context: Context) -> None:
    space = catalog.load_space(name)
    for point in space.starting_points(context):
        assert point.sizes
        for table in (point.sizes[0], point.sizes[-1]):
            space.draw(TableChoices(table), context)


@pytest.mark.parametrize("name", SPACES)
def test_a_space_uses_the_specs_and_nothing_else_of_the_tuner(name: str) -> None:
    tree = ast.parse(SPACES[name].read_text(encoding="utf-8"))
    assert ast.get_docstring(tree), "the docstring is the card"
    used: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module:
            used.add(node.module)
    assert {item for item in used if item.split(".")[0] not in sys.stdlib_module_names} == {
        "tuner.spec"
    }


def _context(target: str, side: int) -> Context:
    return context_of(target, side, side + side // 3, colour="grey" if side == 50 else "rgb")


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("name", SPACES)
def test_every_draw_has_costs(name: str, target: str) -> None:
    space, device = catalog.load_space(name), catalog.load_target(target)
    for seed in range(DRAWS):
        candidate = space.draw(RandomChoices(seed), _context(target, SIDES[seed % len(SIDES)]))
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
    where = _context("nano33ble", 96)
    space = catalog.load_space(name)
    smallest = lower(space.draw(TableChoices({}), where).architecture)
    for seed in range(DRAWS):
        drawn = lower(space.draw(RandomChoices(seed), where).architecture)
        assert sum(item.weights for item in smallest.operators) <= sum(
            item.weights for item in drawn.operators
        )
