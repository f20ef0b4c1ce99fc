"""Bands of targets, and proposals that take turns among them."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from tests_support import targets_of_sizes
from tuner import catalog
from tuner.engine.plan import Plan
from tuner.engine.search import make_proposer
from tuner.propose.bands import BAND_RATIO, size_bands
from tuner.propose.sampler import Told
from tuner.spec import DatasetSpec, Limits, RunSpec


@given(st.lists(st.integers(8 << 10, (1 << 20) - 1), min_size=1, max_size=12, unique=True))
def test_each_target_is_in_one_band_of_like_sizes(sizes: list[int]) -> None:
    targets = targets_of_sizes(sizes)
    bands = size_bands(targets)
    size_of = {target.name: target.model_limits.ram_bytes for target in targets}
    assert sorted(name for band in bands for name in band) == sorted(size_of)
    for band in bands:
        found = [size_of[name] for name in band]
        assert max(found) / min(found) <= BAND_RATIO
        assert found[0] == min(found)
        assert found[min(1, len(found) - 1)] == max(found)
    assert [min(size_of[name] for name in band) for band in bands] == sorted(
        min(size_of[name] for name in band) for band in bands
    )


def test_large_devices_are_one_band() -> None:
    targets = targets_of_sizes([1 << 20, 64 << 20, 512 << 20, 100 << 10])
    assert size_bands(targets) == (("board3",), ("board0", "board2", "board1"))


def spec_for(names: list[str]) -> RunSpec:
    return RunSpec(
        name="many",
        dataset=DatasetSpec(
            source="x",
            classes=("a", "b"),
            fingerprint="f",
            split_seed=0,
            counts={"training": 100, "validation": 20, "test": 20},
            image_height=64,
            image_width=64,
            colour="rgb",
        ),
        targets=tuple(map(catalog.load_target, names)),
        task="classification",
        spaces=("mixed_stages",),
        seed=3,
        workers=2,
        budget_seconds=None,
        max_candidates=40,
    )


def test_proposals_take_turns_and_each_fits_its_focus() -> None:
    spec = spec_for(["rp2040", "nano33ble", "stm32h743", "k230"])
    proposer = make_proposer(spec, Plan(spec))
    bands = size_bands(spec.targets)
    history: list[Told] = []
    proposals = []
    for _ in range(40):
        proposal = proposer.propose(history, frozenset(p.candidate.id for p in proposals))
        assert proposal is not None
        proposals.append(proposal)
        fits = frozenset(name for name, cost in proposal.costs.items() if cost.fits)
        assert proposal.focus in fits
        assert set(proposal.costs) == {target.name for target in spec.targets}
        history.append(
            Told(
                space=proposal.space,
                choices=proposal.choices,
                fits=fits,
                score=proposal.costs["k230"].macs / 1e9,
            )
        )
    turns = Counter(
        next(index for index, band in enumerate(bands) if p.focus in band) for p in proposals
    )
    assert max(turns.values()) - min(turns.values()) <= 1
    origins = Counter(proposal.origin for proposal in proposals)
    assert origins["sampler"] >= 8
    # A known good form is made larger for the largest device than for the smallest; random draws
    # of either may be of any size that fits.
    known = [p for p in proposals if p.origin not in ("random", "sampler")]
    largest = {
        name: max(p.costs[name].macs for p in known if p.focus == name)
        for name in ("rp2040", "k230")
    }
    assert largest["k230"] > 2 * largest["rp2040"]


def test_one_target_is_proposed_for_as_before() -> None:
    spec = spec_for(["nano33ble"])
    proposer = make_proposer(spec, Plan(spec))
    assert proposer.unfit() == {}
    assert size_bands(spec.targets) == (("nano33ble",),)


def test_a_tight_board_takes_nothing_from_its_band() -> None:
    """The starting points and draws that it cannot use go to the others of its size."""
    spec = spec_for(["nano33ble", "rp2040"])
    tight, loose = spec.targets
    own = make_proposer(replace(spec, targets=(loose,)), Plan(replace(spec, targets=(loose,))))
    first = own.propose([], frozenset())
    assert first is not None
    # Faster than any starting point: hardly a draw fits.
    limits = Limits(latency_ms=0.02 * first.costs["rp2040"].latency_ms.value)
    tight = replace(tight, limits=limits, sources={**tight.sources, "limits": "assumed: a test"})
    both = replace(spec, targets=(tight, loose))
    proposer = make_proposer(both, Plan(both))
    history: list[Told] = []
    known: set[str] = set()
    origins = []
    for _ in range(6):
        proposal = proposer.propose(history, frozenset(known))
        assert proposal is not None
        known.add(proposal.candidate.id)
        origins.append(proposal.origin)
        fits = frozenset(name for name, cost in proposal.costs.items() if cost.fits)
        history.append(Told(space=proposal.space, choices=proposal.choices, fits=fits, score=0.5))
    assert sum(origin not in ("random", "sampler") for origin in origins) == 4
