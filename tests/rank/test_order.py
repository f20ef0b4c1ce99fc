from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests_support import make_result
from tuner.rank.order import (
    by_difference,
    precision_accuracy,
    rank_results,
    shown_accuracy,
    target_accuracy,
)
from tuner.spec import Accuracy, Excess, Paired, Result


@given(
    st.lists(
        st.tuples(st.integers(0, 20), st.floats(0.1, 50), st.sampled_from(["ok", "stopped"])),
        max_size=12,
    )
)
def test_order_is_by_status_accuracy_latency(rows):
    results = [
        make_result(index, correct=correct, latency_ms=latency, status=status)
        for index, (correct, latency, status) in enumerate(rows)
    ]
    ranked = rank_results(results, "board", "target")
    assert [row.rank for row in ranked] == list(range(1, len(rows) + 1))
    assert ranked == rank_results(results[::-1], "board", "target")
    keys = [
        (
            row.result.status != "ok",
            -row.result.accuracy("int8").correct,
            row.result.costs["board"].latency_ms.value,
        )
        for row in ranked
    ]
    assert keys == sorted(keys)


def test_equal_counts_are_ties_broken_by_latency():
    slow, fast, best = (
        make_result(0, correct=7, latency_ms=9.0),
        make_result(1, correct=7, latency_ms=2.0),
        make_result(2, correct=8, latency_ms=30.0),
    )
    ranked = rank_results([slow, fast, best], "board", "target")
    assert [row.result for row in ranked] == [best, fast, slow]
    assert [row.tied for row in ranked] == [False, True, True]


def test_rank_by_float32_uses_the_float_build():
    a = make_result(0, correct=7, float_correct=9)
    b = make_result(1, correct=8, float_correct=8)
    assert [row.result.index for row in rank_results([a, b], "board", "int8")] == [1, 0]
    assert [row.result.index for row in rank_results([a, b], "board", "float32")] == [0, 1]


def test_failed_results_come_last():
    failed = make_result(0, correct=20, status="failed")
    ok = make_result(1, correct=1)
    assert [row.result for row in rank_results([failed, ok], "board", "target")] == [ok, failed]


def test_standard_error_is_binomial():
    accuracy = make_result(0, correct=16).accuracy("int8")
    assert accuracy.value == 0.8
    assert abs(accuracy.standard_error - (0.8 * 0.2 / 20) ** 0.5) < 1e-12


def test_what_does_not_fit_ranks_below_what_fits_and_above_what_failed():
    over = make_result(0, correct=20)
    cost = over.costs["board"]
    excess = Excess(limit="ram_bytes", needed=2.0, allowed=1.0)
    over = replace(over, costs={"board": replace(cost, over=(excess,))})
    fits, failed = make_result(1, correct=3), make_result(2, correct=1, status="failed")
    rows = rank_results([failed, over, fits], "board", "target")
    assert [row.result for row in rows] == [fits, over, failed]
    assert [row.fits for row in rows] == [True, False, True]


def simulated(result: Result, gained: int, lost: int, images: int = 10) -> Result:
    """The result with a build of the target's own compiler."""
    paired = {"validation": Paired(images=images, gained=gained, lost=lost)}
    own = replace(result.builds["int8"], runtime="nncase", paired=paired)
    return replace(result, builds={**result.builds, "target": own})


@given(
    st.integers(1, 400).flatmap(
        lambda total: st.tuples(
            st.just(total), st.lists(st.tuples(st.booleans(), st.booleans()), min_size=total,
                                     max_size=total), st.integers(1, total))
    )
)  # fmt: skip
def test_a_difference_on_all_images_is_the_count_itself(drawn):
    total, pairs, part = drawn
    right = sum(other for other, _ in pairs)
    whole = Accuracy(confusion=((right, total - right), (0, 0)))

    def paired(rows):
        gained = sum(own and not other for other, own in rows)
        lost = sum(other and not own for other, own in rows)
        return Paired(images=len(rows), gained=gained, lost=lost)

    counted = sum(own for _, own in pairs) / total
    all_of_them = by_difference(whole, paired(pairs))
    assert all_of_them.value == pytest.approx(counted)
    binomial = (counted * (1 - counted) / total) ** 0.5
    assert all_of_them.standard_error == pytest.approx(binomial)
    some = by_difference(whole, paired(pairs[:part]))
    assert 0.0 <= some.value <= 1.0
    assert some.standard_error >= 0.0


def test_what_the_targets_compiler_refuses_is_below_all_that_were_trained_to_their_end():
    refused = replace(make_result(0, correct=20), unmeasured={"board": "refused"})
    also = replace(make_result(1, correct=20, latency_ms=2), unmeasured={"board": "refused"})
    elsewhere = replace(make_result(2, correct=12), unmeasured={"another": "refused"})
    ran = simulated(make_result(3, correct=14), gained=0, lost=4)
    stopped = make_result(4, correct=20, status="stopped")
    rows = rank_results([refused, also, elsewhere, ran, stopped], "board", "target")
    assert [row.result.index for row in rows] == [2, 3, 0, 1, 4]
    assert [row.tied for row in rows] == [False, False, True, True, False]
    by_int8 = rank_results([refused, also, elsewhere, ran, stopped], "board", "int8")
    assert [row.result.index for row in by_int8] == [0, 1, 3, 2, 4]


def trained_again(result: Result, *correct: int) -> Result:
    """The result with further trainings that had so many correct images."""
    return replace(
        result,
        repeated={
            number: {
                key: make_result(0, correct=count).accuracy(key) for key in ("int8", "float32")
            }
            for number, count in enumerate(correct, start=1)
        },
    )


def test_the_mean_over_trainings_decides():
    lucky = trained_again(make_result(0, correct=19), 12, 14)
    steady = trained_again(make_result(1, correct=16), 17, 15)
    plain = make_result(2, correct=15)
    ranked = rank_results([lucky, steady, plain], "board", "int8")
    assert ranked[0].result.index == 1
    assert [row.tied for row in ranked] == [False, True, True], "45 of 60 is 15 of 20"
    found = precision_accuracy(steady, "int8")
    assert (found.value, found.trainings) == (pytest.approx(16 / 20), 3)
    assert found.standard_error == pytest.approx(0.05 / 3**0.5)
    assert precision_accuracy(plain, "int8") == plain.accuracy("int8")
    assert precision_accuracy(steady, "int8", "test") is None
    assert shown_accuracy(lucky, "float32") == pytest.approx(15 / 20)


def test_the_targets_own_build_shifts_the_mean():
    result = trained_again(simulated(make_result(0, correct=16), gained=0, lost=1, images=20), 18)
    own = target_accuracy(result)
    assert own.value == pytest.approx(17 / 20 - 1 / 20)
    assert own.trainings == 2
    assert own.standard_error == pytest.approx(0.05), "all images were run, so none is left out"


def test_what_differs_on_more_of_the_images_is_less_certain():
    whole = Accuracy(confusion=((800, 200), (0, 0)))
    errors = [
        by_difference(whole, Paired(images=images, gained=wrong, lost=wrong)).standard_error
        for images, wrong in ((1000, 20), (500, 10), (100, 2), (100, 10))
    ]
    assert errors == sorted(errors)


def test_the_targets_own_build_decides_for_the_target_alone():
    better = simulated(make_result(0, correct=18), gained=0, lost=3)
    worse = simulated(make_result(1, correct=16), gained=1, lost=0)
    plain = make_result(2, correct=15)
    assert target_accuracy(better).value == pytest.approx(18 / 20 - 0.3)
    assert target_accuracy(plain) is None
    rows = [better, worse, plain]
    assert [row.result.index for row in rank_results(rows, "board", "target")] == [1, 2, 0]
    assert [row.result.index for row in rank_results(rows, "board", "int8")] == [0, 1, 2]


def test_equal_counts_are_ties_however_they_come_about():
    fast = simulated(make_result(0, correct=14, latency_ms=1.0), gained=2, lost=0, images=20)
    slow = simulated(make_result(1, correct=16, latency_ms=9.0), gained=0, lost=0, images=20)
    rows = rank_results([slow, fast], "board", "target")
    assert [(row.result.index, row.tied) for row in rows] == [(0, True), (1, True)]
