"""What a runtime cannot run, or would run wrongly, is not trained for it."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from tests_support import small_candidate
from tuner.catalog import load_target
from tuner.cost.fit import reasons
from tuner.cost.lower import lower
from tuner.engine.costs import cost_on, costs_on
from tuner.engine.search import SearchRequest, prepare_run
from tuner.errors import NothingFitsError
from tuner.runtimes import nncase
from tuner.spec import from_plain, to_plain
from tuner.spec.cost import Cost
from tuner.testing.architectures import random_architecture

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


@pytest.mark.parametrize("seed", range(20))
def test_nothing_that_an_architecture_is_made_of_is_refused_by_nncase(seed: int) -> None:
    architecture = random_architecture(seed)
    assert nncase.refusals(lower(architecture)) == ()
    assert costs_on(architecture, (load_target("k230"),))["k230"].refused == ()
