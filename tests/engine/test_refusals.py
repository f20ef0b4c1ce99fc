"""What a runtime cannot run, or would run wrongly, is not trained for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tuner.catalog import load_space, load_target, names
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.engine.costs import cost_on, costs_on
from tuner.engine.search import SearchRequest, prepare_run
from tuner.errors import NothingFitsError
from tuner.propose.choices import TableChoices
from tuner.runtimes import nncase
from tuner.spec import (
    Add,
    Architecture,
    Conv2D,
    Dense,
    GlobalAveragePool2D,
    Input,
    Node,
    from_plain,
    to_plain,
)
from tuner.spec.cost import Cost
from tuner.testing.specs import context_of, small_candidate

PICKY = """
from tuner.runtimes import nncase
from tuner.runtimes.nncase import KERNELS, RUN_WITH, cost, operator_latency_ms, predict

OPERATORS = nncase.OPERATORS - {"MEAN"}


def refusals(graph):
    wide = [item.name for item in graph.operators if item.kernel[1] > 1]
    return (f"kernels of more than one column at {wide[0]}",) if wide else ()
"""


@pytest.fixture
def picky(home: Path) -> str:
    (home / "runtimes").mkdir()
    (home / "runtimes" / "picky.py").write_text(PICKY)
    return "picky"


def test_a_cost_says_what_is_lacking_and_what_would_be_wrong(picky: str) -> None:
    target = dataclasses.replace(load_target("k230"), runtime=picky)
    cost = cost_on(lower(small_candidate().architecture), target)
    assert cost.refused == ("not in picky: MEAN", "kernels of more than one column at stem")
    assert cost.over == ()
    assert not cost.fits
    assert reasons(cost) == "not in picky: MEAN; kernels of more than one column at stem"
    assert from_plain(Cost, to_plain(cost), "test") == cost
    plain = to_plain(cost)
    del plain["refused"]  # as runs of earlier versions have it
    assert from_plain(Cost, plain, "test").fits


def test_a_search_that_is_refused_everything_says_why_before_training(picky: str) -> None:
    target = dataclasses.replace(load_target("k230"), runtime=picky)
    request = SearchRequest(targets=(target,), data="sample:digits", max_candidates=2)
    with pytest.raises(NothingFitsError) as caught:
        prepare_run(request)
    said = str(caught.value)
    assert said.startswith("The runtime of k230 refuses every candidate; c")
    assert "not in picky: MEAN; kernels of more than one column at" in said
    assert said.endswith("Choose another space ('tune spaces') or target ('tune targets').")


@pytest.mark.parametrize(("activation", "refused"), [("relu6", True), ("relu", False)])
def test_a_sum_with_relu6_is_refused_for_the_kpu_alone(activation: str, refused: bool) -> None:
    nodes = (
        Node(name="image", op=Input(height=8, width=8, channels=3)),
        Node(name="one", op=Conv2D(filters=4), inputs=("image",)),
        Node(name="two", op=Conv2D(filters=4), inputs=("one",)),
        Node(name="sum", op=Add(activation=activation), inputs=("one", "two")),
        Node(name="pool", op=GlobalAveragePool2D(), inputs=("sum",)),
        Node(name="logits", op=Dense(units=2), inputs=("pool",)),
    )
    targets = [load_target(name) for name in ("k230", "stm32h743", "raspberry-pi-4")]
    costs = costs_on(Architecture(nodes=nodes, outputs=("logits",)), targets)
    assert [bool(cost.refused) for cost in costs.values()] == [refused, False, False]


@pytest.mark.parametrize("name", sorted(names("search_spaces")))
def test_starting_points_of_every_space_suit_the_kpu(name: str) -> None:
    space, context = load_space(name), context_of("k230", 96, 96)
    for point in space.starting_points(context):
        candidate = space.draw(TableChoices(point.sizes[0]), context)
        assert nncase.refusals(lower(candidate.architecture)) == ()
