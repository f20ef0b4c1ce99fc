from __future__ import annotations

import dataclasses

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests_support import make_result, small_candidate
from tuner import catalog
from tuner.engine.plan import MIN_EPOCHS, OVERHEAD_SECONDS, Plan
from tuner.spec import DatasetSpec, Limits, RunSpec, Throughput


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


@given(st.floats(60, 100_000), st.integers(1, 64))
def test_the_planned_candidates_fill_the_budget(budget: float, workers: int):
    plan = Plan(spec(budget, workers=workers))
    waves = round(budget / plan.candidate_seconds)
    assert waves * workers >= plan.candidates
    assert (waves - 1) * workers < plan.candidates


def test_a_quarter_of_an_hour_on_two_cores_plans_for_at_least_fifteen():
    assert Plan(spec(900.0)).candidates >= 15


def test_without_a_clock_a_candidate_trains_all_its_epochs():
    share = Plan(spec(None, max_candidates=3)).share(small_candidate(), None)
    assert (share.epochs, share.seconds) == (small_candidate().training.epochs, None)


def test_a_late_candidate_gets_what_is_left_or_is_not_started():
    plan = Plan(spec(900.0))
    late = plan.share(small_candidate(), 0.7 * plan.candidate_seconds)
    assert late.seconds == pytest.approx(0.7 * plan.candidate_seconds - OVERHEAD_SECONDS)
    assert plan.share(small_candidate(), 0.3 * plan.candidate_seconds) is None


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
