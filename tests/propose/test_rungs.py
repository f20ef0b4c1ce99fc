from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuner.propose.rungs import (
    PROPOSE,
    REDUCTION,
    STOP,
    WAIT,
    Decision,
    Step,
    decide,
    decide_on_clock,
    finishable,
    promotable,
)

QUOTAS = st.sampled_from([(3,), (5, 2), (12, 3, 2), (40, 10, 3)])
SECONDS = (10.0, 40.0)


def seconds_of(index: int, rung: int) -> float:
    return SECONDS[rung]


def known(index: int, rung: int, score: float | None, **fields: object) -> Step:
    return Step(index=index, rung=rung, known=True, score=score, **fields)


def search(quotas: tuple[int, ...], scores: list[float], lag: int) -> list[Step]:
    """All steps of a search in which step i is decided when all but the last `lag` are known."""
    steps: list[Step] = []
    floor = 0
    while True:
        count = max(floor, len(steps) - lag)
        seen = [s if n < count else Step(index=s.index, rung=s.rung, known=False)
                for n, s in enumerate(steps)]  # fmt: skip
        decision = decide(seen, quotas, exhausted=False)
        if decision == WAIT:
            floor = len(steps)
            decision = decide(steps, quotas, exhausted=False)
        if decision == STOP:
            return steps
        if decision == PROPOSE:
            index, rung = sum(s.rung == 0 for s in steps), 0
        else:
            index, rung = decision.index, decision.rung
        steps.append(known(index, rung, scores[index], ended=rung == len(quotas) - 1))


@given(QUOTAS, st.integers(0, 3), st.randoms(use_true_random=False))
def test_every_rung_is_filled_and_the_best_are_trained_to_the_end(quotas, lag, random):
    scores = [random.random() for _ in range(quotas[0])]
    steps = search(quotas, scores, lag)
    for rung, quota in enumerate(quotas):
        trained = [step.index for step in steps if step.rung == rung]
        assert len(trained) == len(set(trained)) == quota
        below = {step.index for step in steps if step.rung == rung - 1}
        assert rung == 0 or set(trained) <= below
    best_below_last = sorted(
        (step for step in steps if step.rung == len(quotas) - 2), key=lambda step: -step.score
    )
    finished = {step.index for step in steps if step.rung == len(quotas) - 1}
    if len(quotas) > 1:
        assert finished == {step.index for step in best_below_last[: quotas[-1]]}


def test_a_candidate_goes_on_once_enough_are_known():
    steps = [known(index, 0, score) for index, score in enumerate((0.2, 0.9, 0.4))]
    assert decide(steps, (12, 3, 2), exhausted=False) == PROPOSE
    steps.append(known(3, 0, 0.1))
    assert len(steps) == REDUCTION
    promote = Decision(action="promote", index=1, rung=1)
    assert decide(steps, (12, 3, 2), exhausted=False) == promote
    steps.append(Step(index=1, rung=1, known=False))
    assert decide(steps, (12, 3, 2), exhausted=False) == PROPOSE


def test_what_failed_or_ended_is_not_promoted():
    steps = [known(0, 0, None, ended=True), known(1, 0, 0.9, ended=True), known(2, 0, 0.3)]
    assert [step.index for step in promotable(steps, range(1))] == [2]


def test_when_nothing_more_can_be_proposed_the_best_are_finished():
    steps = [known(0, 0, 0.3), known(1, 0, 0.6), known(2, 0, 0.5)]
    wanted = Decision(action="promote", index=1, rung=1)
    assert decide(steps, (8, 2), exhausted=True) == wanted
    waiting = [*steps, Step(index=3, rung=0, known=False)]
    assert decide(waiting, (8, 2), exhausted=True) == WAIT


def test_promotions_take_turns_among_groups():
    steps = [known(0, 0, 0.9, group=0), known(1, 0, 0.8, group=0), known(2, 0, 0.2, group=1)]
    first = decide(steps, (3, 2), groups=2, exhausted=False)
    assert first.index == 0
    steps.append(known(0, 1, 0.95, group=0, ended=True))
    assert decide(steps, (3, 2), groups=2, exhausted=False).index == 2


def test_on_a_clock_the_best_is_finished_when_its_time_has_come():
    steps = [known(0, 0, 0.3), known(1, 0, 0.6), known(2, 0, 0.7), known(0, 1, 0.4)]

    def next_at(remaining: float) -> Decision:
        return decide_on_clock(
            steps,
            SECONDS,
            seconds_of,
            remaining_seconds=remaining,
            final_seconds=100.0,
            exhausted=False,
        )

    assert next_at(150.0) == PROPOSE
    # A candidate of a higher rung goes first, whatever the others reached below.
    assert next_at(105.0) == Decision(action="promote", index=0, rung=2)
    steps.append(Step(index=0, rung=2, known=False))
    assert next_at(90.0) == Decision(action="promote", index=2, rung=2)


def test_on_a_clock_a_promotion_leaves_time_for_finishing():
    steps = [known(index, 0, index / 10) for index in range(4)]
    for remaining, action in ((145.0, "promote"), (135.0, "propose"), (105.0, "promote")):
        decision = decide_on_clock(
            steps,
            SECONDS,
            seconds_of,
            remaining_seconds=remaining,
            final_seconds=100.0,
            exhausted=False,
        )
        assert decision.action == action
        assert decision.rung == {145.0: 1, 135.0: 0, 105.0: 2}[remaining]


def test_on_a_clock_one_more_is_promoted_once_a_new_one_would_come_too_late():
    steps = [known(0, 0, 0.3), known(1, 0, 0.6), known(1, 1, 0.7), known(2, 0, 0.4)]

    def next_at(remaining: float, **more: object) -> Decision:
        return decide_on_clock(
            steps, SECONDS, seconds_of, remaining_seconds=remaining, final_seconds=100.0,
            **{"exhausted": False, **more},
        )  # fmt: skip

    one_more = Decision(action="promote", index=2, rung=1)
    assert next_at(150.0) == PROPOSE, "a new one could follow it to rung 1"
    assert next_at(149.0) == one_more
    assert next_at(140.0) == one_more
    assert next_at(139.0) == PROPOSE, "no step to rung 1 ends in time"
    best = Decision(action="promote", index=1, rung=2)
    assert next_at(149.0, exhausted=True) == best, "as before"
    steps[:] = [known(1, 0, 0.6), known(1, 1, 0.7), known(2, 0, 0.4, ended=True)]
    assert next_at(149.0) == PROPOSE, "there is none"


@given(
    st.lists(st.tuples(st.floats(0, 1), st.booleans()), max_size=12),
    st.floats(0, 400),
    st.floats(0, 200),
)
def test_on_a_clock_what_is_proposed_can_be_finished_or_nothing_better_can(found, remaining, final):
    steps = [known(index, 0, score, ended=ended) for index, (score, ended) in enumerate(found)]
    decision = decide_on_clock(
        steps,
        SECONDS,
        seconds_of,
        remaining_seconds=remaining,
        final_seconds=final,
        exhausted=False,
    )
    exploring = remaining - final
    if decision.rung == 1:
        assert exploring >= SECONDS[1]
    elif decision == PROPOSE and any(not ended for _, ended in found):
        assert exploring >= sum(SECONDS) or SECONDS[0] <= exploring < SECONDS[1]


def test_on_a_clock_a_quick_one_is_promoted_where_the_best_would_take_too_long():
    steps = [known(index, 0, index / 10) for index in range(4)]
    begun = [*(known(index, 0, 0.9) for index in range(4, 8)), known(4, 1, 0.9)]

    def next_at(remaining: float, steps: list[Step]) -> Decision:
        return decide_on_clock(
            steps, SECONDS, lambda index, rung: 10.0 * (index + 1), remaining_seconds=remaining,
            final_seconds=100.0, exhausted=False,
        )  # fmt: skip

    assert next_at(140.0, steps) == Decision(action="promote", index=3, rung=1)
    assert next_at(139.0, steps) == PROPOSE, "what is promoted first will be finished"
    failed = [*steps, known(4, 0, 0.9), known(4, 1, None, ended=True)]
    assert next_at(139.0, failed) == PROPOSE
    steps += begun
    assert next_at(180.0, steps) == Decision(action="promote", index=5, rung=1)
    assert next_at(139.0, steps) == Decision(action="promote", index=2, rung=1)
    assert next_at(111.0, steps) == Decision(action="promote", index=0, rung=1)


def test_on_a_clock_what_could_not_train_long_enough_is_not_finished():
    steps = [known(0, 0, 0.3), known(1, 0, 0.6), known(2, 0, 0.9), known(0, 1, 0.5),
             known(1, 1, 0.7)]  # fmt: skip

    def next_but(*late: int, remaining: float = 50.0, final: float = 100.0) -> Decision:
        return decide_on_clock(
            steps, SECONDS, seconds_of, remaining_seconds=remaining, final_seconds=final, late=late,
            exhausted=False,
        )  # fmt: skip

    assert next_but() == Decision(action="promote", index=1, rung=2)
    assert next_but(1) == Decision(action="promote", index=0, rung=2)
    # What is on a lower rung would stand above them.
    assert next_but(0, 1) == PROPOSE
    assert next_but(0, 1, remaining=15.0, final=0.0) == PROPOSE


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 1), st.floats(0, 1)), max_size=12),
    st.sets(st.integers(0, 11)),
)
def test_each_group_finishes_its_own_highest_rung(found, late):
    steps = [
        known(index, rung, score, group=group) for index, (group, rung, score) in enumerate(found)
    ]
    best = promotable(steps, range(2))
    ready = finishable(best, late)
    assert not {step.index for step in ready} & late
    for group in range(3):
        highest = max((step.rung for step in best if step.group == group), default=0)
        wanted = [step for step in best if step.group == group and step.rung == highest]
        assert [step for step in ready if step.group == group] == [
            step for step in wanted if step.index not in late
        ]


def test_on_a_clock_the_search_goes_on_while_nothing_can_be_finished():
    ended = [known(0, 0, 0.5, ended=True)]
    for exhausted, wanted in ((False, PROPOSE), (True, STOP)):
        found = decide_on_clock(
            ended,
            SECONDS,
            seconds_of,
            remaining_seconds=50.0,
            final_seconds=100.0,
            exhausted=exhausted,
        )
        assert found == wanted
