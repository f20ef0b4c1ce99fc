"""Which candidate is trained next, and how far: successive halving with weights resumed.

Every candidate is first trained to rung 0, a small share of a full training. The best of those
go on to the next rung, and the best of them to the last. A rung is promoted to as soon as enough
results are known (asynchronous successive halving, Li et al., arXiv 1810.05934), the last one
only when all earlier results are, or when a clock says that it is time to finish the best.

Candidates come in groups, one for each size of device that a run searches for, and promotions
take turns among the groups. A decision depends on the steps that are known, and with a clock on
the time that is left.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Literal

REDUCTION = 4
"""One of so many candidates of a rung goes on, and a rung trains so many times as long as the
one before; see docs/search.md for the measurement."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """One training of one candidate to one rung.

    Args:
        index: of the candidate, in the order of proposals.
        rung: trained to, from 0.
        group: of the candidate.
        known: its outcome may be used for this decision.
        score: the accuracy there; None if it failed or is not known.
        ended: the candidate trains no further: it failed, or was trained to its end.
    """

    index: int
    rung: int
    group: int = 0
    known: bool
    score: float | None = None
    ended: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What a free slot does.

    Args:
        action: `propose` a new candidate, `promote` one, `wait` for all running steps, or `stop`.
        index: of the candidate to promote.
        rung: that it is promoted to.
    """

    action: Literal["propose", "promote", "wait", "stop"]
    index: int = -1
    rung: int = 0


PROPOSE, WAIT, STOP = (Decision(action=action) for action in ("propose", "wait", "stop"))


def promotable(steps: Sequence[Step], rungs: range) -> list[Step]:
    """Known steps to these rungs that may be followed by a promotion, the best first.

    A step to a higher rung comes before all to lower ones; of equal scores the earlier candidate.
    """
    reached: dict[int, int] = {}
    for step in steps:
        reached[step.index] = max(step.rung, reached.get(step.index, 0))
    found = [
        step
        for step in steps
        if step.rung in rungs
        and step.rung == reached[step.index]
        and step.known
        and step.score is not None
        and not step.ended
    ]
    return sorted(found, key=lambda step: (-step.rung, -(step.score or 0.0), step.index))


def finishable(best: Sequence[Step], late: Collection[int]) -> list[Step]:
    """Of what is `promotable`, of each group those on its highest rung that are not late.

    Those on lower rungs would end above it on the board, worse than it is.
    """
    highest: dict[int, int] = {}
    for step in best:
        highest.setdefault(step.group, step.rung)
    return [step for step in best if step.rung == highest[step.group] and step.index not in late]


def _promote(waiting: Sequence[Step], rung: int, steps: Sequence[Step], groups: int) -> Decision:
    """Promote the best of the group whose turn it is, or of the next that has one."""
    turn = _started(steps, rung)

    def shift(step: Step) -> int:
        return (step.group - turn) % groups

    best = min(waiting, key=shift)  # the first of equals: `waiting` has the best first
    return Decision(action="promote", index=best.index, rung=rung)


def decide(
    steps: Sequence[Step], quotas: Sequence[int], *, groups: int = 1, exhausted: bool
) -> Decision:
    """The next step of a search that a number of candidates ends.

    Args:
        steps: all steps so far.
        quotas: how many candidates are trained to each rung, at most.
        groups: of candidates.
        exhausted: nothing more can be proposed.
    """
    last = len(quotas) - 1
    closed = _closed(steps, quotas, exhausted=exhausted)
    for rung in range(last, 0, -1):
        waiting = promotable(steps, range(rung - 1, rung))
        done = sum(step.known for step in steps if step.rung == rung - 1)
        early = 0 if rung == last else done // REDUCTION
        allowed = quotas[rung] if closed[rung - 1] else min(quotas[rung], early)
        if waiting and _started(steps, rung) < allowed:
            return _promote(waiting, rung, steps, groups)
    if _started(steps, 0) < quotas[0] and not exhausted:
        return PROPOSE
    return STOP if all(step.known for step in steps) else WAIT


def _closed(steps: Sequence[Step], quotas: Sequence[int], *, exhausted: bool) -> list[bool]:
    """By rung: no further step to it will start, and all that were started are known."""
    closed: list[bool] = []
    for rung, quota in enumerate(quotas):
        nothing_left = (
            exhausted
            if rung == 0
            else closed[rung - 1] and not promotable(steps, range(rung - 1, rung))
        )
        full = _started(steps, rung) >= quota or nothing_left
        below = not closed or closed[-1]
        known = all(step.known for step in steps if step.rung == rung)
        closed.append(full and below and known)
    return closed


def decide_on_clock(
    steps: Sequence[Step],
    rung_seconds: Sequence[float],
    promoted_seconds: Callable[[int, int], float],
    *,
    remaining_seconds: float,
    final_seconds: float,
    groups: int = 1,
    alone: bool = False,
    late: Collection[int] = (),
    exhausted: bool,
) -> Decision:
    """The next step of a search that a clock ends.

    Args:
        steps: all steps so far.
        rung_seconds: what a new candidate's step to each rung but the last takes, at least one.
        promoted_seconds: what the step of a candidate, by its index, to a rung but the last takes.
        remaining_seconds: of the budget.
        final_seconds: the last part of the budget, in which the best are finished.
        groups: of candidates.
        alone: a step to the last rung takes the whole machine, and waits for all others.
        late: candidates for which too little time is left for a step to the last rung.
        exhausted: nothing more can be proposed.
    """
    last = len(rung_seconds)

    def leaves_time(*seconds: float) -> bool:
        return remaining_seconds - sum(seconds) >= final_seconds

    # Those on the highest rung are finished first. What is proposed too late to get there would not
    # be; the time is better spent on one more of those that were left behind.
    too_late = not exhausted and not leaves_time(*rung_seconds)
    for rung in range(last - 1, 0, -1):
        done = sum(step.known for step in steps if step.rung == rung - 1)
        due = _started(steps, rung) < done // REDUCTION
        if not due and not too_late:
            continue
        further = () if due else rung_seconds[rung + 1 :]
        waiting = promotable(steps, range(rung - 1, rung))
        firsts = {step.group: step for step in reversed(waiting)}.values()
        begun = {step.group for step in steps if step.rung >= rung and not step.ended}
        in_time = [
            step
            for step in waiting
            # Of a group that has none on this rung, what is promoted is finished: its best then.
            if (step in firsts or step.group in begun)
            and leaves_time(promoted_seconds(step.index, rung), *further)
        ]
        if in_time:
            return _promote(in_time, rung, steps, groups)
    if leaves_time(rung_seconds[0]) and not exhausted:
        return PROPOSE
    best = finishable(promotable(steps, range(last)), late)
    if alone and not all(step.known for step in steps):
        return WAIT
    if best:
        return _promote(best, last, steps, groups)
    return PROPOSE if not exhausted else STOP


def _started(steps: Sequence[Step], rung: int) -> int:
    return sum(step.rung == rung for step in steps)
