"""Gate, then propose: starting points, seeded random draws, then the sampler.

Proposal i depends on the run's seed, on i and on the results of the proposals 0 to i - window,
in that order, and on nothing else. Where a run has several targets, proposals take turns: each
is made for one of them, its focus, and must fit that one. Where it has several spaces, starting
points take turns among them, and later a space is drawn from the more often the more of the best
results came from it.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from tuner.cost.change import nearest_change
from tuner.cost.fit import UNSUPPORTED, reasons
from tuner.cost.lower import lower
from tuner.propose.bound import bound_draw, bound_points
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.sampler import Sampler, Told
from tuner.spec import (
    Architecture,
    Candidate,
    Context,
    Cost,
    Excess,
    SearchSpace,
    StartingPoint,
    suits,
)

RANDOM_PROPOSALS = 6
"""Random draws before the sampler takes over: with the starting points, which are told to it
too, about as many as Optuna's own default of 10 startup trials. Bands share them."""

LARGEST_OF = 4
"""Random draws that fit, of which the largest is proposed: of what a device and the time allow,
most draws use little, and a net with more weights and work nearly always learns more."""

BEST_OF = 4
"""One of so many results counts among the best, which decide how often a space is drawn from."""

SAMPLER_ATTEMPTS = 16
RANDOM_ATTEMPTS = 2000
SURVEY_DRAWS = 500

Gate = Callable[[Candidate, Sequence[str]], Mapping[str, Cost]]
"""Costs of a candidate on some targets, each with the limits it exceeds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """A refused draw.

    Args:
        target: that it was made for.
        image: its input, for example `96x96 rgb`.
        over: the limits it exceeds.
        change: the nearest change with which it fits, in words; empty if there is none.
    """

    target: str
    image: str
    over: tuple[Excess, ...]
    change: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Proposal:
    """A candidate that fits, and where it came from.

    Args:
        candidate: what to train.
        costs: by target.
        space: the space that drew it.
        choices: the values that made it.
        focus: the target it was made for.
        origin: a starting point's name, `random` or `sampler`.
        over_limit: draws refused on the way, counted by the limit they exceeded; `unsupported`
            where the runtime refuses them.
        nearest_miss: the refused draw that came nearest to fitting, if any was refused.
    """

    candidate: Candidate
    costs: Mapping[str, Cost]
    space: str
    choices: Mapping[str, Any]
    focus: str
    origin: str
    over_limit: Mapping[str, int] = field(default_factory=dict)
    nearest_miss: Miss | None = None


class Proposer:
    """Makes the proposals of one run.

    Args:
        spaces: by name; each for the targets that it suits, or for all if it suits none.
        contexts: what the spaces may know, by target.
        bands: names of the targets in bands of like size; see `tuner.propose.bands`.
        gate: gives a candidate's costs.
        seed: the run's seed.
        starting_points: False leaves out what the spaces know to be good.
        sampler: False draws at random only.
        largest_of: random draws of which one is proposed. These three are there to be measured
            against.
    """

    def __init__(
        self,
        spaces: Mapping[str, SearchSpace],
        contexts: Mapping[str, Context],
        bands: Sequence[Sequence[str]],
        gate: Gate,
        seed: int,
        *,
        starting_points: bool = True,
        sampler: bool = True,
        largest_of: int = LARGEST_OF,
    ) -> None:
        self._largest_of = largest_of
        self._contexts, self._bands = contexts, bands
        self._gate, self._seed = gate, seed
        chosen = spaces_by_target(spaces, contexts)
        self._draws = {
            target: {name: bound_draw(name, spaces[name], context) for name in chosen[target]}
            for target, context in contexts.items()
        }
        self._samplers = (
            {target: Sampler(draws) for target, draws in self._draws.items()} if sampler else {}
        )
        self._points = {
            target: _points({name: spaces[name] for name in chosen[target]}, context)
            for target, context in contexts.items()
        }
        self._starting = [
            list(self._fitting_starting_points(band)) if starting_points else [] for band in bands
        ]

    def propose(self, history: Sequence[Told], known: frozenset[str]) -> Proposal | None:
        """Make proposal number `len(history)`.

        Args:
            history: all earlier proposals; those not yet told have no score.
            known: ids of candidates proposed before, which are not proposed again.

        Returns:
            None when no draw that fits and is new was found for any target.
        """
        index = len(history)
        for shift in range(len(self._bands)):
            number = (index + shift) % len(self._bands)
            band, turn = self._bands[number], index // len(self._bands)
            for member in range(len(band)):  # the one whose turn it is, then the others
                target = band[(turn + member) % len(band)]
                proposal = self._propose_for(target, number, history, known)
                if proposal is not None:
                    return proposal
        return None

    def _propose_for(
        self, target: str, band: int, history: Sequence[Told], known: frozenset[str]
    ) -> Proposal | None:
        refused: Counter[str] = Counter()
        nearest: Proposal | None = None
        found: list[Proposal] = []
        for proposal in self._attempts(target, band, history):
            if proposal.candidate.id in known:
                continue
            if _fits(proposal):
                found.append(proposal)
                if proposal.origin != "random" or len(found) == self._largest_of:
                    break
                continue
            cost = proposal.costs[proposal.focus]
            if cost.refused:  # no change of its size helps
                refused[UNSUPPORTED] += 1
                continue
            refused.update({excess.limit for excess in cost.over})
            if nearest is None or _distance(proposal) < _distance(nearest):
                nearest = proposal
        if not found:
            return None
        chosen = max(found, key=_size)
        return replace(
            chosen,
            costs=self._gate(chosen.candidate, tuple(self._contexts)),
            over_limit=dict(refused),
            nearest_miss=self._miss(nearest) if nearest else None,
        )

    def _miss(self, proposal: Proposal) -> Miss:
        candidate, target = proposal.candidate, proposal.focus
        image = candidate.preprocessing

        def fits(architecture: Architecture) -> bool:
            pixels = replace(
                image, height=architecture.input.height, width=architecture.input.width
            )
            changed = replace(candidate, preprocessing=pixels, architecture=architecture)
            return self._gate(changed, (target,))[target].fits

        return Miss(
            target=target,
            image=f"{image.width}x{image.height} {image.colour}",
            over=proposal.costs[target].over,
            change=nearest_change(candidate.architecture, fits),
        )

    def unfit(self) -> dict[str, str]:
        """Targets that no starting point and none of many random draws fits, and why."""
        started = {proposal.focus for points in self._starting for proposal in points}
        reasons = {}
        for target in self._contexts:
            if target not in started and not any(
                _fits(self._point(target, name)) for name in self._points[target]
            ):
                nearest = self._nearest(target)
                if not _fits(nearest):
                    reasons[target] = _nothing_fits(target, nearest)
        return reasons

    def _nearest(self, target: str) -> Proposal:
        """Of the smallest and many random draws, the one whose worst excess is least."""
        proposals = [
            self._from_table(target, space, {}, "smallest") for space in self._draws[target]
        ]
        spaces = tuple(self._draws[target])
        for attempt in range(SURVEY_DRAWS):
            proposals.append(self._random(target, spaces, self._number(0, attempt, "survey")))
        return min(proposals, key=_distance)

    def _attempts(self, target: str, band: int, history: Sequence[Told]) -> Iterator[Proposal]:
        index = len(history)
        yield from self._starting[band]  # those proposed before, for any band, are passed over
        draws = self._draws[target]
        usable = [told for told in history if target in told.fits and told.space in draws]
        tickets = _tickets(tuple(draws), usable)
        drawn = max(2, RANDOM_PROPOSALS // len(self._bands))
        scored = any(told.score is not None for told in usable)
        if target in self._samplers and scored and len(usable) >= len(self._starting[band]) + drawn:
            for attempt in range(SAMPLER_ATTEMPTS):
                seed = self._number(index, attempt, "sampler")
                space = tickets[seed % len(tickets)]
                candidate, choices = self._samplers[target].ask(usable, space, seed)
                yield self._gated(target, candidate, choices, space, "sampler")
        for attempt in range(RANDOM_ATTEMPTS):
            yield self._random(target, tickets, self._number(index, attempt, "random"))

    def _random(self, target: str, tickets: Sequence[str], seed: int) -> Proposal:
        space = tickets[seed % len(tickets)]
        choices = RandomChoices(seed)
        candidate = self._draws[target][space](choices)
        return self._gated(target, candidate, choices.taken, space, "random")

    def _number(self, index: int, attempt: int, purpose: str) -> int:
        digest = hashlib.sha256(f"{self._seed}/{purpose}/{index}/{attempt}".encode()).digest()
        return int.from_bytes(digest[:4], "big")

    def _gated(
        self, target: str, candidate: Candidate, choices: Mapping[str, Any], space: str, origin: str
    ) -> Proposal:
        return Proposal(
            candidate=candidate,
            costs=self._gate(candidate, (target,)),
            space=space,
            choices=dict(choices),
            origin=origin,
            focus=target,
        )

    def _from_table(
        self, target: str, space: str, table: Mapping[str, Any], origin: str
    ) -> Proposal:
        choices = TableChoices(table)
        candidate = self._draws[target][space](choices)
        return self._gated(target, candidate, choices.taken, space, origin)

    def _point(self, target: str, name: tuple[str, str]) -> Proposal:
        """A starting point in the largest size that fits, or in its smallest."""
        point = self._points[target][name]
        for table in point.sizes:
            proposal = self._from_table(target, name[0], table, point.name)
            if _fits(proposal):
                break
        return proposal

    def _fitting_starting_points(self, band: Sequence[str]) -> Iterator[Proposal]:
        """Each starting point once: for the target whose turn it is, or the next that it fits."""
        seen: set[str] = set()
        names = dict.fromkeys(name for target in band for name in self._points[target])
        for name in names:
            for member in range(len(band)):
                target = band[(len(seen) + member) % len(band)]
                if name not in self._points[target]:
                    continue
                proposal = self._point(target, name)
                if _fits(proposal) and proposal.candidate.id not in seen:
                    seen.add(proposal.candidate.id)
                    yield proposal
                    break


def spaces_by_target(
    spaces: Mapping[str, SearchSpace], contexts: Mapping[str, Context]
) -> dict[str, tuple[str, ...]]:
    """Names of the spaces to draw from for each target, in the order given.

    A space that suits some of the targets is for those. One that suits none was asked for by name
    and is for all, and so are all spaces for a target that none is left for.
    """
    suited = {
        name: {target for target, context in contexts.items() if suits(space, context)}
        for name, space in spaces.items()
    }
    return {
        target: tuple(name for name, targets in suited.items() if not targets or target in targets)
        or tuple(suited)
        for target in contexts
    }


def _points(
    spaces: Mapping[str, SearchSpace], context: Context
) -> dict[tuple[str, str], StartingPoint]:
    """Starting points by space and name, one of each space in turn."""
    rows = [
        [((name, point.name), point) for point in bound_points(name, space, context)]
        for name, space in spaces.items()
    ]
    turns = itertools.chain.from_iterable(itertools.zip_longest(*rows))
    return dict(item for item in turns if item is not None)


def _tickets(spaces: Sequence[str], history: Sequence[Told]) -> tuple[str, ...]:
    """Names of spaces to draw lots with: each once, and again for each of the best results."""
    scored = sorted(
        (told for told in history if told.score is not None),
        key=lambda told: (told.rung, told.score or 0.0),
        reverse=True,
    )
    return (*spaces, *(told.space for told in scored[: math.ceil(len(scored) / BEST_OF)]))


def _fits(proposal: Proposal) -> bool:
    return proposal.costs[proposal.focus].fits


def _size(proposal: Proposal) -> float:
    """Weights times multiply-accumulates."""
    graph = lower(proposal.candidate.architecture)
    return float(sum(item.weights for item in graph.operators)) * graph.macs


def _distance(proposal: Proposal) -> float:
    """How far the worst limit of the focus is exceeded, as a ratio; 0 if it fits."""
    cost = proposal.costs[proposal.focus]
    if cost.refused:
        return math.inf
    return max((excess.needed / excess.allowed for excess in cost.over), default=0.0)


def _nothing_fits(target: str, nearest: Proposal) -> str:
    image, cost = nearest.candidate.preprocessing, nearest.costs[target]
    smallest = f"{nearest.candidate.id} ({image.width}x{image.height} {image.colour})"
    if cost.refused:
        return (
            f"The runtime of {target} refuses every candidate; {smallest}: {reasons(cost)}. "
            "Choose another space ('tune spaces') or target ('tune targets')."
        )
    if all(excess.limit == "candidate_minutes" for excess in cost.over):
        return (
            f"The search is too short to train any candidate for {target}. The quickest one, "
            f"{smallest}, exceeds: {reasons(cost)}. Give more --time, or fewer images."
        )
    return (
        f"No candidate fits {target}. The smallest one, {smallest}, exceeds: {reasons(cost)}. "
        "Loosen that limit, or choose a larger target ('tune targets')."
    )
