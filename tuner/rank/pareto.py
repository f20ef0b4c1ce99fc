"""The Pareto front: what no other beats in cost and accuracy at once."""

from __future__ import annotations

from collections.abc import Sequence


def pareto_front(points: Sequence[tuple[float, float]]) -> list[int]:
    """The points that no other reaches at the same or a lower cost.

    Args:
        points: cost (less is better) and accuracy (more is better) of each.

    Returns:
        Indices by ascending cost, and so by ascending accuracy; of equal points the first.
    """
    front: list[int] = []
    best = float("-inf")
    for index in sorted(range(len(points)), key=lambda at: (points[at][0], -points[at][1], at)):
        if points[index][1] > best:
            best = points[index][1]
            front.append(index)
    return front
