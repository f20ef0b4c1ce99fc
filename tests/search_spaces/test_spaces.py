"""Every search space of the catalog, fuzzed: it draws valid nets from any context."""

from __future__ import annotations

import ast
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner import catalog
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Context, Limits, from_plain, to_plain
from tuner.spec.candidate import Candidate

SPACES = sorted(catalog.names("search_spaces"))

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


@pytest.mark.parametrize("name", SPACES)
@given(context=contexts, seed=st.integers(0, 2**32 - 1))
def test_draws_are_valid_and_replay(name: str, context: Context, seed: int):
    space = catalog.load_module("search_spaces", name)
    choices = RandomChoices(seed)
    candidate = space.draw(choices, context)
    pixels = candidate.preprocessing
    assert pixels.height <= context.image_height, "nothing is upsampled"
    assert pixels.width <= context.image_width
    assert context.colour == "rgb" or pixels.colour == "grey"
    shapes = candidate.architecture.shapes()
    assert [shapes[name] for name in candidate.architecture.outputs] == [(context.outputs,)]
    assert from_plain(Candidate, to_plain(candidate), "x") == candidate
    assert space.draw(TableChoices(choices.taken), context) == candidate


@pytest.mark.parametrize("name", SPACES)
@given(context=contexts)
def test_starting_points_draw(name: str, context: Context):
    space = catalog.load_module("search_spaces", name)
    for point in space.starting_points(context):
        assert point.sizes
        for table in (point.sizes[0], point.sizes[-1]):
            space.draw(TableChoices(table), context)


@pytest.mark.parametrize("name", SPACES)
def test_a_space_uses_the_specs_and_nothing_else_of_the_tuner(name: str):
    tree = ast.parse(catalog.names("search_spaces")[name].read_text(encoding="utf-8"))
    used = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            used |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            used.add(node.module)
    assert {item for item in used if item.split(".")[0] not in sys.stdlib_module_names} == {
        "tuner.spec"
    }


def test_small_and_large_devices_get_different_ranges():
    space = catalog.load_module("search_spaces", "mixed_stages")

    def context(ram_bytes: int, accelerated: bool) -> Context:
        return Context(
            limits=Limits(ram_bytes=ram_bytes, flash_bytes=1 << 20),
            kernels="reference",
            accelerated=accelerated,
            image_height=320,
            image_width=320,
            colour="rgb",
            outputs=3,
        )

    small, large = context(20 << 10, False), context(512 << 20, True)
    assert max(space.resolutions(small)) < min(max(space.resolutions(large)), 128)
    assert max(space.widths(small)) < max(space.widths(large))
