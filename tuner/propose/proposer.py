"""Gate, then propose: starting points, seeded random draws, then the sampler.

Proposal i depends on the run's seed, on i and on the results of the proposals 0 to i - window,
in that order, and on nothing else.
"""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.cost.fit import explain
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.sampler import Draw, Told, ask
from tuner.spec import Candidate, Choices, Context, Cost, Excess, SearchSpace

RANDOM_PROPOSALS = 6
"""Random draws before the sampler takes over: with the starting points, which are told to it
too, about as many as Optuna's own default of 10 startup trials."""

SAMPLER_ATTEMPTS = 16
RANDOM_ATTEMPTS = 2000
SURVEY_DRAWS = 500

Gate = Callable[[Candidate], Mapping[str, Cost]]
"""Costs of a candidate by target, each with the limits it exceeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that fits, and where it came from.

    Args:
        candidate: what to train.
        costs: by target.
        space: the space that drew it.
        choices: the values that made it.
        origin: a starting point's name, `random` or `sampler`.
        over_limit: draws refused on the way, counted by the limit they exceeded.
        nearest_miss: what the refused draw that came nearest to fitting exceeded, by target.
    """

    candidate: Candidate
    costs: Mapping[str, Cost]
    space: str
    choices: Mapping[str, Any]
    origin: str
    over_limit: Mapping[str, int] = field(default_factory=dict)
    nearest_miss: Mapping[str, tuple[Excess, ...]] = field(default_factory=dict)


class Proposer:
    """Makes the proposals of one run.

    Args:
        spaces: by name.
        context: what the spaces may know.
        gate: gives a candidate's costs; it fits if any target's limits are kept.
        seed: the run's seed.
    """

    def __init__(
        self, spaces: Mapping[str, SearchSpace], context: Context, gate: Gate, seed: int
    ) -> None:
        self._spaces, self._context, self._gate, self._seed = spaces, context, gate, seed
        self._draws = {name: _bound(space, context) for name, space in spaces.items()}
        self._starting = list(self._fitting_starting_points())

    def propose(self, history: Sequence[Told], known: frozenset[str]) -> Proposal | None:
        """Make proposal number `len(history)`.

        Args:
            history: all earlier proposals; those not yet told have no score.
            known: ids of candidates proposed before, which are not proposed again.

        Returns:
            None when no draw that fits and is new was found.
        """
        index = len(history)
        refused: Counter[str] = Counter()
        nearest: Mapping[str, tuple[Excess, ...]] = {}
        for proposal in self._attempts(index, history):
            if proposal.candidate.id in known:
                continue
            if any(cost.fits for cost in proposal.costs.values()):
                return replace(proposal, over_limit=dict(refused), nearest_miss=nearest)
            misses = _misses(proposal)
            refused.update({excess.limit for over in misses.values() for excess in over})
            if not nearest or _distance(misses) < _distance(nearest):
                nearest = misses
        return None

    def fits_any(self) -> bool:
        """Whether a starting point or any of many random draws fits."""
        return bool(self._starting) or not _distance(_misses(self._nearest()))

    def nothing_fits(self) -> str:
        """Name the candidate that comes nearest to the limits, and what it needs."""
        nearest = self._nearest()
        image = nearest.candidate.preprocessing
        misses = _misses(nearest)
        target = min(misses, key=lambda name: _distance({name: misses[name]}))
        needs = "; ".join(explain(excess) for excess in misses[target])
        return (
            f"No candidate fits {target}. The smallest one, {nearest.candidate.id} "
            f"({image.height}x{image.width} {image.colour}), exceeds: {needs}. "
            "Loosen that limit, or choose a larger target ('tune targets')."
        )

    def _nearest(self) -> Proposal:
        """Of the smallest and many random draws, the one whose worst excess is least."""
        proposals = [self._from_table(space, {}, "smallest") for space in sorted(self._spaces)]
        for attempt in range(SURVEY_DRAWS):
            proposals.append(self._random(self._number(0, attempt, "survey")))
        return min(proposals, key=lambda proposal: _distance(_misses(proposal)))

    def _attempts(self, index: int, history: Sequence[Told]) -> Iterator[Proposal]:
        if index < len(self._starting):
            yield self._starting[index]
        names = sorted(self._spaces)
        scored = any(told.score is not None for told in history)
        if scored and index >= len(self._starting) + RANDOM_PROPOSALS:
            for attempt in range(SAMPLER_ATTEMPTS):
                seed = self._number(index, attempt, "sampler")
                space = names[seed % len(names)]
                candidate, choices = ask(history, self._draws, space, seed)
                yield self._gated(candidate, choices, space, "sampler")
        for attempt in range(RANDOM_ATTEMPTS):
            yield self._random(self._number(index, attempt, "random"))

    def _random(self, seed: int) -> Proposal:
        names = sorted(self._spaces)
        space = names[seed % len(names)]
        choices = RandomChoices(seed)
        candidate = self._draws[space](choices)
        return self._gated(candidate, choices.taken, space, "random")

    def _number(self, index: int, attempt: int, purpose: str) -> int:
        digest = hashlib.sha256(f"{self._seed}/{purpose}/{index}/{attempt}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _gated(
        self, candidate: Candidate, choices: Mapping[str, Any], space: str, origin: str
    ) -> Proposal:
        return Proposal(
            candidate=candidate,
            costs=self._gate(candidate),
            space=space,
            choices=dict(choices),
            origin=origin,
        )

    def _from_table(self, space: str, table: Mapping[str, Any], origin: str) -> Proposal:
        choices = TableChoices(table)
        candidate = self._draws[space](choices)
        return self._gated(candidate, choices.taken, space, origin)

    def _fitting_starting_points(self) -> Iterator[Proposal]:
        seen: set[str] = set()
        for name in sorted(self._spaces):
            for point in self._spaces[name].starting_points(self._context):
                for table in point.sizes:
                    proposal = self._from_table(name, table, point.name)
                    if any(cost.fits for cost in proposal.costs.values()):
                        if proposal.candidate.id not in seen:
                            seen.add(proposal.candidate.id)
                            yield proposal
                        break


def _bound(space: SearchSpace, context: Context) -> Draw:
    def draw(choices: Choices) -> Candidate:
        return space.draw(choices, context)

    return draw


def _distance(misses: Mapping[str, tuple[Excess, ...]]) -> float:
    """How far the nearest target's worst limit is exceeded, as a ratio; 0 if one fits."""
    return min(
        max((excess.needed / excess.allowed for excess in over), default=0.0)
        for over in misses.values()
    )


def _misses(proposal: Proposal) -> dict[str, tuple[Excess, ...]]:
    return {target: cost.over for target, cost in proposal.costs.items()}
