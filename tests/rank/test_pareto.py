"""The Pareto front."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from tuner.rank.pareto import pareto_front

POINTS = st.lists(st.tuples(st.integers(0, 9), st.integers(0, 9)), max_size=30)


def test_by_hand() -> None:
    points = [(3.0, 0.8), (1.0, 0.5), (2.0, 0.4), (4.0, 0.8), (5.0, 0.9), (1.0, 0.5), (1.0, 0.3)]
    assert pareto_front(points) == [1, 0, 4]
    assert pareto_front([]) == []


@given(points=POINTS)
def test_nothing_beats_the_front_and_it_beats_the_rest(points: list[tuple[int, int]]) -> None:
    front = pareto_front(points)
    kept = [points[index] for index in front]
    assert kept == sorted(set(kept))
    assert [accuracy for _, accuracy in kept] == sorted({accuracy for _, accuracy in kept})
    for cost, accuracy in points:
        as_good = [point for point in kept if point[0] <= cost and point[1] >= accuracy]
        assert as_good
        if (cost, accuracy) in kept:
            assert as_good == [(cost, accuracy)]
