from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plan_support import extended, search_on_clock, spec
from tests_support import make_result
from tuner import catalog
from tuner.engine.costs import costs_on, with_target
from tuner.engine.plan import Plan
from tuner.propose.rungs import Step, decide
from tuner.testing.specs import small_candidate


def test_an_extension_divides_what_it_adds():
    run = dataclasses.replace(spec(600.0), repeats=3)
    more = extended(run, (8, 2, 2), elapsed=640.0, budget_seconds=940.0)
    plan, alone = Plan(more), Plan(dataclasses.replace(run, budget_seconds=300.0))
    assert plan.search_ends_seconds == pytest.approx(640.0 + alone.search_ends_seconds)
    assert plan.final_seconds == pytest.approx(alone.final_seconds)


@given(st.integers(1, 60), st.integers(1, 60), st.integers(1, 9))
def test_candidates_added_go_as_far_as_those_before(first: int, more: int, again: int):
    run = spec(None, max_candidates=first)
    before = Plan(run)
    for added in (more, again):
        total = run.max_candidates + added
        run = extended(run, Plan(run).quotas, max_candidates=total)
        plan = Plan(run)
        assert plan.rung_shares == before.rung_shares
        assert plan.quotas[0] == total
        shares = [after - was for after, was in zip(plan.quotas, before.quotas, strict=True)]
        assert all(share >= 1 for share in shares), "each rung gets some of them"
        before = plan


def test_added_candidates_and_those_cut_before_are_finished():
    run = spec(None, max_candidates=12)
    steps = finish_all([], Plan(run).quotas)
    assert [sum(step.rung == rung for step in steps) for rung in range(3)] == [12, 3, 2]
    plan = Plan(extended(run, (12, 3, 2), max_candidates=20))
    assert plan.quotas == (20, 5, 4)
    after = finish_all(steps, plan.quotas)
    assert after[: len(steps)] == steps
    assert [sum(step.rung == rung for step in after) for rung in range(3)] == [20, 5, 4]


def finish_all(steps: list[Step], quotas: tuple[int, ...]) -> list[Step]:
    """One worker's search without a clock, from where it stands; the later, the better."""
    steps = list(steps)
    while True:
        decision = decide(steps, quotas, exhausted=False)
        if decision.action == "stop":
            return steps
        proposing = decision.action == "propose"
        index = sum(step.rung == 0 for step in steps) if proposing else decision.index
        rung = 0 if proposing else decision.rung
        steps.append(
            Step(index=index, rung=rung, known=True, score=index / 100,
                 ended=rung == len(quotas) - 1)
        )  # fmt: skip


@given(st.floats(90, 7200), st.floats(60, 7200), st.integers(1, 8))
def test_time_added_is_planned_for_itself_with_the_rungs_of_before(
    first: float, more: float, workers: int
):
    run = spec(first, workers=workers)
    before = Plan(run)
    started = (9, 2, 1, 1)[: len(before.rung_shares)]
    plan = Plan(extended(run, started, elapsed=first + 5, budget_seconds=first + 5 + more))
    assert plan.rung_shares == before.rung_shares
    assert plan.rung_seconds[:-1] == before.rung_seconds[:-1]
    if len(before.rung_shares) > 1:
        assert plan.final_seconds == pytest.approx(more / 2 / plan.waves)
    else:
        assert plan.final_seconds <= more


def test_an_interrupted_run_keeps_what_was_left_of_its_time():
    plan = Plan(extended(spec(600.0), (3, 0, 0), elapsed=200.0, budget_seconds=900.0))
    assert plan.final_seconds == pytest.approx((900.0 - 200.0) / 2)


def test_candidates_added_by_number_train_as_long_as_those_by_the_clock_before():
    run = spec(1200.0)
    by_clock, net = Plan(run), small_candidate()
    plan = Plan(extended(run, (40, 10, 1), elapsed=1200.0, max_candidates=50))
    assert len(plan.quotas) == len(plan.rung_shares) == 3
    for rung in range(2):
        assert plan.share(net, rung, None).epochs == by_clock.share(net, rung, 1200.0).epochs
    last = plan.share(net, 2, None)
    assert (last.epochs, last.last) == (net.training.epochs, True)


def test_a_clock_may_come_to_a_run_that_had_none_and_go_again():
    run = extended(spec(None, max_candidates=12), (12, 3, 2), budget_seconds=1200.0)
    plan = Plan(run)
    assert plan.rung_shares == (1 / 16, 1 / 4, 1.0)
    assert plan.rung_seconds == (18.75, 75.0, 300.0)
    again = Plan(extended(run, (30, 7, 4), elapsed=1200.0, max_candidates=38))
    assert again.quotas == (38, 9, 6)
    assert again.final_seconds is None
    assert again.rung_seconds == ()


def test_time_added_trains_new_candidates_and_finishes_one():
    run = spec(600.0, workers=1)
    steps, clock = search_on_clock([], Plan(run), 0.0)
    new_run = extended(
        run,
        tuple(sum(step.rung == rung for step in steps) for rung in range(3)),
        elapsed=clock,
        budget_seconds=clock + 300.0,
    )
    after, end = search_on_clock(steps, Plan(new_run), clock)
    new = after[len(steps) :]
    assert sum(step.rung == 0 for step in new) >= 3
    assert any(step.rung == 2 for step in new)
    assert end <= clock + 300.0 + 1e-6


def test_what_a_short_extension_has_no_time_for_still_fits_other_devices():
    result = make_result(0, correct=15)
    quick = Plan(spec(1200.0)).epoch_seconds(result.candidate)
    run = spec(1200.0, ratio=5.0 / quick)
    run = extended(run, (9, 2, 1), elapsed=1200.0, budget_seconds=1260.0)
    target = catalog.load_target("esp32s3")
    (seen,) = with_target(run, [result], target)
    assert seen.costs["esp32s3"].fits
    assert seen.costs["esp32s3"].train_minutes is not None
    gated = Plan(dataclasses.replace(run, targets=(target,))).with_training(
        result.candidate, costs_on(result.candidate.architecture, (target,))
    )
    assert not gated["esp32s3"].fits, "the search itself would not begin with it"
