"""Which choices matter."""

from __future__ import annotations

import random

import pytest

from tuner.propose.sampler import IMPORTANCE_LEAST, importances


def drawn(count: int) -> tuple[list[dict[str, object]], list[float]]:
    """Candidates whose score follows `width` and, where there is one, `kernel`."""
    generator = random.Random(0)
    choices, scores = [], []
    for _ in range(count):
        made: dict[str, object] = {
            "width": generator.choice((8, 16, 32, 64)),
            "colour": generator.choice(("grey", "rgb")),
            "rate": generator.uniform(0.001, 0.1),
            "mirror": generator.choice((False, True)),
            "epochs": 100,
        }
        if made["mirror"]:
            made["kernel"] = generator.choice((3, 5))
        choices.append(made)
        scores.append(float(made["width"]) + 0.01 * generator.random())  # type: ignore[arg-type]
    return choices, scores


def test_the_choice_that_decides_comes_first() -> None:
    shares = importances(*drawn(200))
    assert next(iter(shares)) == "width"
    assert shares["width"] > 0.5
    assert sum(shares.values()) == pytest.approx(1)
    assert set(shares) == {"width", "colour", "rate", "mirror", "kernel"}  # epochs never differ


def test_too_few_or_equal_scores_tell_nothing() -> None:
    choices, scores = drawn(IMPORTANCE_LEAST)
    assert importances(choices, scores)
    assert importances(choices[1:], scores[1:]) == {}
    assert importances(choices, [0.5] * len(choices)) == {}
    assert importances([{"width": 8}] * 30, [index / 30 for index in range(30)]) == {}
