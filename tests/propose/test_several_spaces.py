"""One search over several spaces: turns, what each target is offered, and what pays."""

from __future__ import annotations

import types
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

import pytest

from tuner import catalog
from tuner.engine.costs import costs_on
from tuner.propose import proposer as module
from tuner.propose.edge_impulse import make_space
from tuner.propose.proposer import Proposal, Proposer, spaces_by_target
from tuner.propose.sampler import Told
from tuner.spec import Candidate, Context, Cost, SearchSpace
from tuner.testing.specs import context_of

TARGETS = ("rp2040", "nano33ble", "raspberry-pi-4", "k230")
SPACES = tuple(sorted(catalog.names("search_spaces")))
BUNDLED = ("inverted_residual", "mixed_stages", "plain_convolutions", "residual", "wide_mobile")


def context(target: str, side: int = 96) -> Context:
    return context_of(target, side, side)


def gate(candidate: Candidate, names: Sequence[str]) -> Mapping[str, Cost]:
    return costs_on(candidate.architecture, [catalog.load_target(name) for name in names])


def make_proposer(
    targets: Sequence[str], spaces: Sequence[str] = SPACES, side: int = 96, **options: Any
) -> Proposer:
    return Proposer(
        {name: catalog.load_space(name) for name in spaces},
        {target: context(target, side) for target in targets},
        [[target] for target in targets],
        gate,
        0,
        largest_of=1,
        **options,
    )


def told(proposal: Proposal, score: float | None) -> Told:
    fits = frozenset(name for name, cost in proposal.costs.items() if cost.fits)
    return Told(space=proposal.space, choices=proposal.choices, fits=fits, score=score)


def propose_many(
    proposer: Proposer, count: int, score: Mapping[str, float] | None = None
) -> list[Proposal]:
    """Proposals whose score is told at once; by space."""
    made: list[Proposal] = []
    for _ in range(count):
        history = [told(item, (score or {}).get(item.space, 0.5)) for item in made]
        known = frozenset(item.candidate.id for item in made)
        proposal = proposer.propose(history, known)
        assert proposal is not None
        made.append(proposal)
    return made


@pytest.mark.parametrize("target", TARGETS)
def test_starting_points_of_all_spaces_fit_and_take_turns(target: str) -> None:
    proposals = [
        item
        for item in propose_many(make_proposer([target], BUNDLED), 12)
        if item.origin != "random"
    ]
    assert all(item.costs[target].fits for item in proposals)
    count = len(BUNDLED)
    assert [item.space for item in proposals[:count]] == list(BUNDLED)
    assert [item.space for item in proposals[count : 2 * count]] == list(BUNDLED)


@pytest.mark.parametrize("space", SPACES)
@pytest.mark.parametrize("target", TARGETS)
def test_each_space_alone_can_be_searched(space: str, target: str) -> None:
    proposer = make_proposer([target], [space], sampler=False)
    assert proposer.unfit() == {}
    points = len(catalog.load_space(space).starting_points(context(target)))
    origins = [item.origin for item in propose_many(proposer, 6)]
    assert len([origin for origin in origins if origin != "random"]) >= min(3, points)
    assert "random" in origins


def test_parameters_of_the_sampler_bear_the_name_of_their_space(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    import optuna

    asked: set[str] = set()
    suggest = optuna.Trial.suggest_int

    def note(self: optuna.Trial, name: str, *args: Any, **options: Any) -> int:
        asked.add(name)
        return suggest(self, name, *args, **options)

    monkeypatch.setattr(optuna.Trial, "suggest_int", note)
    monkeypatch.setattr(module, "RANDOM_PROPOSALS", 2)
    proposals = propose_many(make_proposer(["nano33ble"], side=32), 24)
    drawn = {item.space for item in proposals if item.origin == "sampler"}
    assert len(drawn) > 1
    assert asked
    assert {name.split("/")[0] for name in asked} >= drawn


def test_a_space_that_pays_is_drawn_from_more_often() -> None:
    spaces = ("mixed_stages", "plain_convolutions", "residual")
    made: Counter[str] = Counter()
    proposer = make_proposer(["nano33ble"], spaces, 32, starting_points=False, sampler=False)
    for item in propose_many(proposer, 40, {"residual": 0.9}):
        made[item.space] += 1
    assert made["residual"] > 20
    assert min(made[space] for space in spaces) > 0, "none is given up"


def space(suits: bool | None) -> SearchSpace:
    made: Any = types.SimpleNamespace()
    if suits is not None:
        made.suits = lambda where: suits == where.accelerated
    return made


def test_a_space_is_for_the_targets_that_it_suits() -> None:
    contexts = {name: context(name) for name in ("k230", "nano33ble")}
    for_all, large, small = space(None), space(True), space(False)
    assert spaces_by_target({"b": large, "a": for_all}, contexts) == {
        "k230": ("b", "a"),
        "nano33ble": ("a",),
    }
    assert spaces_by_target({"large": large}, contexts) == {
        "k230": ("large",),
        "nano33ble": ("large",),
    }, "what nothing else is offered to takes what was asked for"
    only = {"nano33ble": contexts["nano33ble"]}
    assert spaces_by_target({"large": large, "small": small}, only) == {
        "nano33ble": ("large", "small")
    }, "a space that suits none of the targets was asked for by name"


def test_results_of_a_space_that_a_target_is_not_offered_are_passed_over() -> None:
    proposer = make_proposer(["k230", "nano33ble"], ["mixed_stages", "wide_mobile"])
    proposals = propose_many(proposer, 24)
    for item in proposals:
        assert item.space == "mixed_stages" or item.focus == "k230"
    assert {item.space for item in proposals if item.focus == "k230"} == {
        "mixed_stages",
        "wide_mobile",
    }
    assert {item.origin for item in proposals} >= {"sampler"}


def test_the_sampler_learns_from_a_space_of_several_parts() -> None:
    learn = [
        {"type": "keras-transfer-image", "model": ["transfer_mobilenetv2_a1",
         "transfer_mobilenetv1_a1_d100"], "dropout": {"bounds": [0.1, 0.5]}},
        {"type": "keras", "dimension": "conv2d", "learningRate": [0.01, 0.02]},
    ]  # fmt: skip
    blocks = {
        "inputBlocks": [{"type": "image", "dimension": [[32, 32], [48, 48]]}],
        "dspBlocks": [],
        "learnBlocks": learn,
    }
    contexts = {"nano33ble": context("nano33ble", 64)}
    spaces = {"mine.json": make_space(blocks, "mine.json")}
    proposals = propose_many(Proposer(spaces, contexts, [["nano33ble"]], gate, 0), 20)
    assert {item.origin for item in proposals} >= {"random", "sampler"}
    assert {item.candidate.preprocessing.height for item in proposals} <= {32, 48}
    assert all(item.costs["nano33ble"].fits for item in proposals)
