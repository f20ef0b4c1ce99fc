from __future__ import annotations

import dataclasses

import pytest

from tuner import catalog
from tuner.cost.fit import check_limits
from tuner.cost.lower import lower
from tuner.propose.proposer import RANDOM_PROPOSALS, Proposer
from tuner.propose.sampler import Told
from tuner.runtimes import tflm
from tuner.spec import Candidate, Context, Limits

TARGET = catalog.load_target("nano33ble")


def make_proposer(limits: Limits, seed: int = 0) -> Proposer:
    def gate(candidate: Candidate, names):
        assert tuple(names) == ("nano33ble",)
        return {"nano33ble": check_limits(tflm.cost(lower(candidate.architecture), TARGET), limits)}

    context = Context(
        limits=limits,
        kernels="cmsis-nn",
        accelerated=False,
        image_height=32,
        image_width=32,
        colour="rgb",
        outputs=10,
    )
    spaces = {"mixed_stages": catalog.load_module("search_spaces", "mixed_stages")}
    return Proposer(spaces, {"nano33ble": context}, [["nano33ble"]], gate, seed)


def score(candidate: Candidate) -> float:
    """A made-up accuracy that rewards rgb and width."""
    colour = candidate.preprocessing.colour == "rgb"
    return 0.5 * colour + min(0.5, len(candidate.architecture.nodes) / 40)


def propose_many(proposer: Proposer, count: int, window: int = 4) -> list:
    proposals = []
    for index in range(count):
        history = [
            Told(
                space=proposal.space,
                choices=proposal.choices,
                fits=frozenset({"nano33ble"}),
                score=score(proposal.candidate) if number <= index - window else None,
            )
            for number, proposal in enumerate(proposals)
        ]
        known = frozenset(proposal.candidate.id for proposal in proposals)
        proposals.append(proposer.propose(history, known))
    return proposals


LIMITS = Limits(ram_bytes=64 << 10, flash_bytes=128 << 10)


def test_proposals_fit_differ_and_repeat():
    proposals = propose_many(make_proposer(LIMITS), 24)
    for proposal in proposals:
        cost = proposal.costs["nano33ble"]
        assert cost.fits
        assert cost.ram_bytes.high <= LIMITS.ram_bytes
        assert cost.flash_bytes.high <= LIMITS.flash_bytes
    assert len({proposal.candidate.id for proposal in proposals}) == 24
    again = propose_many(make_proposer(LIMITS), 24)
    assert [proposal.candidate for proposal in again] == [
        proposal.candidate for proposal in proposals
    ]
    other = propose_many(make_proposer(LIMITS, seed=1), 24)
    assert [p.candidate for p in other[8:]] != [p.candidate for p in proposals[8:]]


def test_starting_points_first_then_random_then_the_sampler():
    origins = [proposal.origin for proposal in propose_many(make_proposer(LIMITS), 24)]
    starting = [origin for origin in origins if origin not in ("random", "sampler")]
    assert len(starting) >= 3
    assert origins[: len(starting)] == starting
    drawn = origins[len(starting) :][:RANDOM_PROPOSALS]
    assert drawn == ["random"] * RANDOM_PROPOSALS
    assert "sampler" in origins[len(starting) + RANDOM_PROPOSALS :]


def test_a_starting_point_is_the_largest_that_fits():
    tight, loose = (
        make_proposer(Limits(ram_bytes=size << 10, flash_bytes=1 << 20)).propose([], frozenset())
        for size in (10, 200)
    )
    assert tight.costs["nano33ble"].macs < loose.costs["nano33ble"].macs


def test_refused_draws_are_counted_by_reason():
    proposer = make_proposer(Limits(ram_bytes=10 << 10, flash_bytes=1 << 20))
    proposals = [p for p in propose_many(proposer, 6) if p.over_limit]
    assert proposals
    assert all("ram_bytes" in p.over_limit for p in proposals)
    assert all(p.nearest_miss.target == "nano33ble" for p in proposals)
    assert all(p.nearest_miss.over[0].needed > 10 << 10 for p in proposals)


def test_nothing_fits_gives_none_and_names_the_smallest():
    proposer = make_proposer(Limits(ram_bytes=100))
    assert proposer.propose([], frozenset()) is None
    text = proposer.unfit()["nano33ble"]
    assert "No candidate fits nano33ble. The smallest one, c" in text
    assert "> 100 B" in text


def test_a_limit_that_few_draws_meet_is_not_called_impossible():
    assert make_proposer(Limits(ram_bytes=200 << 10, flash_bytes=85 << 10)).unfit() == {}


@pytest.mark.parametrize("told", [0.0, 0.9])
def test_the_sampler_depends_on_what_was_told(told: float):
    proposer = make_proposer(LIMITS)
    proposals = propose_many(proposer, 18)
    fits = frozenset({"nano33ble"})
    history = [
        Told(space=p.space, choices=p.choices, fits=fits, score=score(p.candidate))
        for p in proposals
    ]
    changed = [dataclasses.replace(history[0], score=told), *history[1:]]
    known = frozenset(p.candidate.id for p in proposals)
    assert proposer.propose(history, known) == proposer.propose(history, known)
    assert proposer.propose(changed, known) is not None
    resumed = make_proposer(LIMITS)  # which has proposed nothing before
    assert resumed.propose(history, known) == proposer.propose(history, known)
