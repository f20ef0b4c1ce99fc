from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests_support import make_result, small_candidate
from tuner import catalog
from tuner.engine.plan import MIN_EPOCHS, MIN_RUNG_SECONDS, OVERHEAD_SECONDS, Plan
from tuner.spec import DatasetSpec, Limits, RunSpec, Throughput, TrainingSettings


def spec(
    budget_seconds: float | None = 900.0,
    *,
    workers: int = 2,
    max_candidates: int | None = None,
    images: int = 8000,
    ratio: float = 1.0,
) -> RunSpec:
    return RunSpec(
        name="r",
        dataset=DatasetSpec(
            source="x",
            fingerprint="f",
            classes=("a", "b"),
            counts={"training": images, "validation": images // 4, "test": 0},
            image_height=8,
            image_width=8,
            colour="grey",
            split_seed=0,
        ),
        targets=(catalog.load_target("nano33ble"),),
        task="classification",
        spaces=(),
        seed=0,
        workers=workers,
        budget_seconds=budget_seconds,
        max_candidates=max_candidates,
        throughput=Throughput(compute_ratio=ratio, memory_ratio=ratio, overhead_ratio=ratio),
    )


@given(st.floats(20, 100_000), st.integers(1, 64))
def test_the_steps_of_a_plan_fit_its_budget(budget: float, workers: int):
    plan = Plan(spec(budget, workers=workers))
    shares = plan.rung_shares
    assert list(shares) == sorted(set(shares))
    assert shares[-1] == 1.0
    assert sum(plan.rung_seconds) <= budget
    assert all(seconds >= MIN_RUNG_SECONDS for seconds in plan.rung_seconds[:-1])


@given(st.floats(20, 100_000), st.integers(1, 64))
def test_without_rungs_the_planned_candidates_fill_the_budget(budget: float, workers: int):
    plan = Plan(spec(budget, workers=workers), rungs=False)
    waves = round(budget / plan.final_seconds)
    assert waves * workers >= plan.candidates
    assert (waves - 1) * workers < plan.candidates


def test_a_quarter_of_an_hour_on_two_cores_plans_for_at_least_fifteen():
    assert Plan(spec(900.0)).candidates >= 15


def test_half_of_ten_minutes_is_for_finishing_the_best():
    plan = Plan(spec(600.0))
    assert plan.rung_shares == (1 / 16, 1 / 4, 1.0)
    assert plan.rung_seconds == (18.75, 75.0, 300.0)


def test_groups_of_targets_share_the_time_for_finishing():
    names = ("stm32g0b1", "nano33ble", "portenta-h7", "k230")
    targets = tuple(catalog.load_target(name) for name in names)
    plan = Plan(dataclasses.replace(spec(600.0), targets=targets))
    assert plan.groups > 2
    assert plan.final_seconds == pytest.approx(300.0 / plan.waves)


@given(st.integers(1, 400))
def test_without_a_clock_fewer_and_fewer_are_trained_further(count: int):
    quotas = Plan(spec(None, max_candidates=count)).quotas
    assert quotas[0] == count
    assert all(more > fewer >= 2 for more, fewer in itertools.pairwise(quotas))


def test_without_a_clock_the_last_rung_trains_all_epochs():
    plan = Plan(spec(None, max_candidates=12))
    candidate = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=64))
    steps = [plan.share(candidate, rung, None) for rung in range(3)]
    assert [(share.epochs, share.seconds, share.last) for share in steps] == [
        (4, None, False),
        (16, None, False),
        (64, None, True),
    ]


def test_a_late_step_gets_what_is_left_or_is_not_started():
    plan = Plan(spec(900.0))
    candidate = small_candidate()
    for rung in (0, 1):
        late = plan.share(candidate, rung, 0.7 * plan.rung_seconds[rung])
        assert late.seconds <= 0.7 * plan.rung_seconds[rung] - OVERHEAD_SECONDS
        assert plan.share(candidate, rung, 0.3 * plan.rung_seconds[rung]) is None
    assert plan.share(candidate, 2, 0.3 * plan.rung_seconds[0]) is None


def test_the_last_step_uses_all_that_is_left():
    plan = Plan(spec(900.0, ratio=500.0))
    candidate = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=10_000))
    share = plan.share(candidate, 2, 400.0)
    assert share.last
    assert share.seconds == pytest.approx(400.0 - OVERHEAD_SECONDS)
    assert share.epochs == int(share.seconds / plan.epoch_seconds(candidate))


def test_a_net_that_a_first_rung_trains_nearly_in_full_is_trained_to_its_end():
    plan = Plan(spec(900.0))
    share = plan.share(small_candidate(), 0, 800.0)
    assert (share.epochs, share.last) == (small_candidate().training.epochs, True)


def test_what_cannot_be_trained_in_its_time_is_over_a_limit():
    candidate = small_candidate()
    costs = {"nano33ble": make_result(0, correct=1).costs["board"]}
    fast = Plan(spec(900.0)).with_training(candidate, costs)["nano33ble"]
    assert fast.fits
    slow = Plan(spec(900.0, ratio=10_000.0)).with_training(candidate, costs)["nano33ble"]
    assert [excess.limit for excess in slow.over] == ["candidate_minutes"]
    needed = MIN_EPOCHS * Plan(spec(900.0, ratio=10_000.0)).epoch_seconds(candidate)
    assert slow.over[0].needed == pytest.approx((needed + OVERHEAD_SECONDS) / 60)
    assert fast.train_minutes.low < fast.train_minutes.value < fast.train_minutes.high


def test_a_limit_on_retraining_gates():
    run = spec(900.0)
    target = dataclasses.replace(
        run.targets[0],
        limits=Limits(train_minutes=0.001),
        sources={**run.targets[0].sources, "limits": "test"},
    )
    run = dataclasses.replace(run, targets=(target,))
    costs = {"nano33ble": make_result(0, correct=1).costs["board"]}
    cost = Plan(run).with_training(small_candidate(), costs)["nano33ble"]
    assert [excess.limit for excess in cost.over] == ["train_minutes"]
