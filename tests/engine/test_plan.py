from __future__ import annotations

import dataclasses
import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from plan_support import extended, search_on_clock, spec
from tests_support import make_result
from tuner import catalog
from tuner.cost.training import QUANTIZATION_SHARE, rounding_share
from tuner.engine import plan as plans
from tuner.engine.plan import (
    CHOOSING_SECONDS,
    CORES_EXPONENT,
    MIN_EPOCHS,
    MIN_RUNG_SECONDS,
    OVERHEAD_SECONDS,
    START_SECONDS,
    Plan,
)
from tuner.engine.slots import available_cores
from tuner.propose.rungs import promotable
from tuner.spec import Extension, Limits, TrainingSettings
from tuner.testing.specs import small_candidate
from tuner.train.loop import UNFROZEN_PACE


@given(st.floats(20, 100_000), st.integers(1, 64))
def test_the_steps_of_a_plan_fit_its_budget(budget: float, workers: int):
    plan = Plan(spec(budget, workers=workers))
    shares = plan.rung_shares
    assert list(shares) == sorted(set(shares))
    assert shares[-1] == 1.0
    assert sum(plan.rung_seconds) <= budget
    assert all(seconds >= MIN_RUNG_SECONDS for seconds in plan.rung_seconds[:-1])


@given(
    st.floats(1, 300),
    st.floats(1, 300),
    st.integers(1, 4),
    st.sampled_from([None, 1, 3]),
    st.integers(1, 3),
)
def test_the_time_that_is_called_enough_starts_a_candidate(
    budget: float, elapsed: float, workers: int, most: int | None, repeats: int
):
    asked = spec(budget, workers=workers, max_candidates=most)
    asked = dataclasses.replace(asked, repeats=repeats)
    enough = Plan(asked).enough_seconds(elapsed)
    assert enough >= budget
    again = Plan(dataclasses.replace(asked, budget_seconds=float(enough)))
    left = again.search_ends_seconds - elapsed
    assert again.starts(0, left)
    assert left >= again.least_seconds
    began = Extension(
        budget_seconds=budget,
        max_candidates=None,
        elapsed_seconds=elapsed,
        started=(0,) * len(Plan(asked).rung_shares),
    )
    extended = dataclasses.replace(
        asked, budget_seconds=max(elapsed, budget) + enough, max_candidates=None, extended=(began,)
    )
    # An extension need not measure the machine.
    assert Plan(extended).starts(0, Plan(extended).search_ends_seconds - elapsed - 1)


@pytest.mark.parametrize(
    ("budget", "measuring"), [(60.0, 15.0), (200.0, 30.0), (1200.0, 120.0), (7200.0, 720.0)]
)
@pytest.mark.parametrize("repeats", [1, 3])
def test_the_search_leaves_time_for_simulating_where_the_tools_are_there(
    budget: float, measuring: float, repeats: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(plans, "SIMULATED_IMAGE_SECONDS", 0.0)
    plan = Plan(dataclasses.replace(spec(budget), repeats=repeats))
    assert plan.measuring_seconds == 0.0, "the target has no simulator"
    without = plan.search_ends_seconds
    monkeypatch.setattr(plans, "simulators_ready", lambda targets: True)
    assert plan.measuring_seconds == pytest.approx(measuring)
    assert plan.search_ends_seconds == pytest.approx(without * (1 - measuring / budget))
    assert Plan(spec(None, max_candidates=6)).measuring_seconds == 0.0
    longer = dataclasses.replace(
        spec(2 * budget),
        extended=(
            Extension(
                budget_seconds=budget,
                max_candidates=None,
                elapsed_seconds=budget,
                started=(9, 3, 1),
            ),
        ),
    )
    assert Plan(longer).search_ends_seconds == pytest.approx(2 * budget - measuring)


def test_more_images_are_given_more_time_but_never_most_of_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(plans, "simulators_ready", lambda targets: True)

    def left(images: int, workers: int = 2, repeats: int = 1) -> float:
        run = spec(1200.0, images=4 * images, workers=workers)
        return Plan(dataclasses.replace(run, repeats=repeats)).measuring_seconds

    assert [left(images) for images in (100, 1000, 1500, 2000)] == [120.0, 120.0, 150.0, 195.0]
    assert left(50_000) == 300.0, "a quarter of the time"
    # Where nothing is simulated beside a training, all finalists have to be afterwards.
    assert left(300, workers=1) == 207.0
    assert left(500, repeats=2) == 165.0
    assert left(500, workers=3, repeats=2) == 120.0


@given(st.floats(120, 100_000), st.integers(1, 8), st.integers(1, 10))
def test_the_search_leaves_time_for_repeats(budget: float, workers: int, repeats: int):
    plan = Plan(dataclasses.replace(spec(budget, workers=workers), repeats=repeats))
    ends = plan.search_ends_seconds
    assert ends is not None
    assert sum(plan.rung_seconds) <= ends <= budget
    if repeats == 1:
        assert ends == budget
    # One that took all the time that a finalist may take, through all its rungs.
    beside = len(plan.rung_shares) * OVERHEAD_SECONDS + CHOOSING_SECONDS
    slowest = dataclasses.replace(
        make_result(0, correct=1), train_seconds=sum(plan.rung_seconds) - beside
    )
    if repeats > 1:
        assert plan.repeats_in_time(slowest, 1.001 * (budget - ends) / (repeats - 1))
    assert not plan.repeats_in_time(slowest, 0.0)
    assert plan.repeats_in_time(slowest, None)


@given(st.floats(20, 100_000), st.integers(1, 64), st.integers(1, 100))
def test_without_rungs_the_candidates_fill_the_budget(budget: float, workers: int, count: int):
    plan = Plan(spec(budget, workers=workers, max_candidates=count), rungs=False)
    waves = round(budget / plan.final_seconds)
    assert (waves - 1) * workers < count <= waves * workers


def test_half_of_ten_minutes_is_for_finishing_the_best():
    plan = Plan(spec(600.0))
    assert plan.rung_shares == (1 / 16, 1 / 4, 1.0)
    assert plan.rung_seconds == (18.75, 75.0, 300.0)


@pytest.mark.parametrize(("seconds", "rungs"), [(72.0, 2), (288.0, 3), (86400.0, 3)])
def test_a_longer_search_has_more_rungs(seconds: float, rungs: int):
    assert len(Plan(spec(seconds)).rung_shares) == rungs
    assert seconds > 288.0 or len(Plan(spec(seconds - 1.0)).rung_shares) == rungs - 1


def test_a_run_keeps_the_rungs_that_it_began_with(monkeypatch: pytest.MonkeyPatch):
    run, older = spec(300.0), dataclasses.replace(spec(1200.0), rungs=4)
    assert len(Plan(run).rung_shares) == 3
    monkeypatch.setattr(plans, "simulators_ready", lambda targets: True)
    assert len(Plan(run).rung_shares) == 3
    assert len(Plan(spec(300.0)).rung_shares) == 2
    slow = Plan(older).share(small_candidate(), 1, 900.0)
    assert len(Plan(older).rung_shares) == 4, "as versions had that limited no epochs"
    assert slow.most_epochs == small_candidate().training.epochs


def test_a_step_has_time_for_an_epoch_of_a_slow_net():
    run = spec(1200.0, ratio=560.0)
    plan, net = Plan(run), small_candidate()
    epoch = plan.epoch_seconds(net)
    assert plan.rung_seconds[0] < epoch < plan.rung_seconds[1]
    share = plan.share(net, 0, 1200.0)
    assert (share.epochs, share.last) == (1, False)
    assert share.seconds == pytest.approx(epoch)


@given(
    st.floats(72.0, 86_400.0),
    st.integers(500, 100_000),
    st.floats(0.01, 1000.0),
    st.integers(1, 300),
)
def test_a_rung_trains_its_share_of_all_epochs_at_most(
    budget: float, images: int, ratio: float, epochs: int
):
    """So quick nets are compared with slow ones after an equal part of what both may have."""
    plan = Plan(spec(budget, images=images, ratio=ratio))
    net = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=epochs))
    epoch = plan.epoch_seconds(net)
    for rung, (part, seconds) in enumerate(
        zip(plan.rung_shares[:-1], plan.rung_seconds, strict=False)
    ):
        share = plan.share(net, rung, budget)
        if not share.last:
            shortest = (MIN_RUNG_SECONDS * 4**rung - OVERHEAD_SECONDS) / epoch
            assert share.epochs <= share.most_epochs <= max(1, part * epochs, shortest) + 0.5
            in_time = int((seconds - OVERHEAD_SECONDS) / epoch + 0.5)
            assert share.epochs >= min(max(1, round(part * epochs)), in_time)


def test_groups_of_targets_share_the_time_for_finishing():
    names = ("stm32g0b1", "nano33ble", "portenta-h7", "k230")
    targets = tuple(catalog.load_target(name) for name in names)
    plan = Plan(dataclasses.replace(spec(600.0), targets=targets))
    assert plan.groups > 2
    searching = 600.0 - plan.measuring_seconds  # where the K230's tools are installed
    assert plan.final_seconds == pytest.approx(searching / 2 / plan.waves)


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


def test_slots_finish_together_where_nothing_else_needs_them():
    run = spec(900.0)
    assert Plan(run).final_threads == 2
    assert Plan(spec(900.0, workers=4)).final_threads == 4
    assert Plan(spec(900.0, workers=8)).final_threads == 1
    assert Plan(spec(30.0)).final_threads == 1, "no rungs"
    assert Plan(dataclasses.replace(run, repeats=2)).final_threads == 1
    assert Plan(dataclasses.replace(run, budget_seconds=None, max_candidates=20)).final_threads == 1


def test_the_last_step_uses_all_that_is_left():
    plan = Plan(spec(900.0, ratio=500.0))
    candidate = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=10_000))
    share = plan.share(candidate, 2, 400.0)
    assert share.last
    assert plan.final_threads == plan.spec.workers == 2
    assert share.seconds == pytest.approx(
        400.0 - START_SECONDS - OVERHEAD_SECONDS - CHOOSING_SECONDS
    )
    epoch = plan.epoch_seconds(candidate) / 2**CORES_EXPONENT
    assert share.epochs == int(share.seconds / epoch)


@given(
    st.floats(90, 7200),
    st.sampled_from([1, 2, 4, 8]),
    st.floats(0.0, 1.2),
    st.floats(0.0, 1.0),
    st.integers(1, 10_000),
)
def test_a_last_step_trains_as_much_as_the_one_before_or_in_full(
    budget: float, workers: int, left: float, before: float, epochs: int
):
    plan = Plan(spec(budget, workers=workers, ratio=500.0))
    candidate = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=epochs))
    last = len(plan.rung_shares) - 1
    remaining, trained = left * plan.final_seconds, before * plan.final_seconds
    share = plan.share(candidate, last, remaining, trained)
    if last > 0 and share is not None:
        faster = plan.final_threads**CORES_EXPONENT
        nearly_all = epochs * plan.epoch_seconds(candidate) - 1e-6
        assert share.seconds * faster >= min(trained - 1e-6, nearly_all)
    if last > 0 and left >= 1.0:  # a step before takes a fourth, and a fresh search leaves it all
        assert plan.share(candidate, last, remaining, plan.rung_seconds[last - 1]) is not None


def test_a_last_step_has_the_time_that_its_epochs_take_where_those_are_few():
    plan = Plan(spec(600.0))
    candidate = dataclasses.replace(small_candidate(), training=TrainingSettings(epochs=20))
    in_full = 20 * plan.epoch_seconds(candidate)
    assert in_full < 20.0
    for trained, least in ((0.5 * in_full, 0.5 * in_full), (72.0, in_full)):
        least = least / 2**CORES_EXPONENT + START_SECONDS + OVERHEAD_SECONDS + CHOOSING_SECONDS
        assert plan.least_last_seconds(candidate, trained) == pytest.approx(least)
    # Without a clock, and to the rungs before, what was trained does not matter.
    assert Plan(spec(None, max_candidates=12)).share(candidate, 2, None, 1e6) is not None
    assert plan.share(candidate, 1, 400.0, 1e6) is not None


@given(st.floats(90, 7200), st.integers(1, 300), st.integers(1, 4))
def test_a_time_that_is_enough_finishes_the_first_candidate(
    budget: float, elapsed: float, workers: int
):
    run = spec(budget, workers=workers)
    rungs = len(Plan(run).rung_shares)
    short = extended(run, (0,) * rungs, elapsed=budget, budget_seconds=budget + 1.0)
    enough = Plan(short).enough_seconds(budget + elapsed)
    plan = Plan(extended(run, (0,) * rungs, elapsed=budget, budget_seconds=budget + enough))
    left = plan.search_ends_seconds - budget - elapsed
    assert plan.starts(0, left)
    first = plan.rung_seconds[0]
    trained = plan.share(small_candidate(), 0, left).seconds
    if rungs > 1:
        assert plan.share(small_candidate(), rungs - 1, left - first, trained) is not None


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


def test_the_time_of_a_retraining_counts_that_its_last_part_rounds():
    candidate = small_candidate()
    plan = Plan(spec(900.0))
    costs = {"nano33ble": make_result(0, correct=1).costs["board"]}
    minutes = plan.with_training(candidate, costs)["nano33ble"].train_minutes.value
    plain = plan.epoch_seconds(candidate) * candidate.training.epochs / 60
    plain /= available_cores() ** CORES_EXPONENT
    share = rounding_share(candidate.architecture, candidate.training.batch_size)
    assert 0.01 <= share <= 0.69, "as 40 nets were measured"
    assert minutes == pytest.approx(plain * (1.0 + QUANTIZATION_SHARE * share))
    frozen = dataclasses.replace(candidate.training, weights="1" * 16, frozen_share=1.0)
    head_alone = dataclasses.replace(candidate, training=frozen)
    cost = plan.with_training(head_alone, costs)["nano33ble"]
    assert cost.train_minutes.value == pytest.approx(plain / UNFROZEN_PACE)


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


@pytest.mark.parametrize("promoted", [20.0, 36.0, 200.0])
@pytest.mark.parametrize("final", [60.0, 130.0, 400.0])
def test_quick_steps_go_on_until_their_best_is_finished(promoted: float, final: float):
    plan = Plan(spec(6600.0, workers=1))
    steps, clock = search_on_clock([], plan, 0.0, promoted, final)
    assert sum(step.rung == 2 for step in steps) >= 1
    assert 6600.0 - clock < 0.6 * plan.rung_seconds[0]


@pytest.mark.parametrize("budget", [400.0, 600.0, 1200.0])
def test_nothing_is_proposed_that_comes_too_late_while_more_can_be_promoted(budget: float):
    plan = Plan(spec(budget, workers=1))
    *exploring, final = plan.rung_seconds
    last = len(exploring)
    steps, _ = search_on_clock([], plan, 0.0)
    clock = 0.0
    for number, step in enumerate(steps):
        left = budget - clock - final
        if sum(exploring) > left > 0:
            for rung in range(step.rung + 1, last):
                waiting = promotable(steps[:number], range(rung - 1, rung))
                assert not waiting or sum(exploring[rung:]) > left
        clock += min(budget - clock, plan.rung_seconds[step.rung])
    assert steps[-1].rung == last
