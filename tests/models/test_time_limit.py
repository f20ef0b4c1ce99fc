"""The best takes too long to retrain: it is refused, and what is named in its place keeps it."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from pathlib import Path

import pytest

from runs_support import TARGET, make_run
from tuner import catalog
from tuner.engine.board import board
from tuner.engine.search import with_limits
from tuner.errors import InputError, UnknownNameError
from tuner.models import time_limit
from tuner.models.time_limit import TIME_BAND, check_clock, check_predicted_time, with_time
from tuner.spec import Candidate, Limits
from tuner.store.models import find_model, models_folder
from tuner.testing.models import template_of
from tuner.testing.specs import small_candidate
from walk_support import tune

QUICKER, ROOM = 2.0, 1.5
"""A candidate this many times as quick as the best is sought; the limit is ROOM times its time."""

MOST_EXTENSIONS = 8
DROP = 0.01
"""Of the validation images: by so much a retrained model may be behind what the board said."""


def search(home: Path) -> None:
    """A run on pictures of parts, with a clock, so that it predicts times."""
    tune(
        home, "--target", TARGET, "--data", "sample:parts", "--time", "3m", "--name", "walk",
        "--space", "mixed_stages",
    )  # fmt: skip
    for _ in range(MOST_EXTENSIONS):  # chance made all that were built slow
        if quicker(home) is not None:
            return
        tune(home, "extend", "walk", "--time", "90s")
    assert quicker(home) is not None


def quicker(home: Path) -> float | None:
    """The predicted time of the first candidate that is much quicker, by that of the best."""
    board = json.loads(tune(home, "report", "walk", "--format", "json").stdout)
    built = [row for row in board if row["accuracy"]["validation"].get("int8") is not None]
    minutes = [row["costs"][TARGET]["train_minutes"] for row in built]
    shares = (part / minutes[0] for part in minutes if QUICKER * part <= minutes[0])
    return next(shares, None)


def walk(home: Path) -> None:
    """The best is refused; what the refusal names is retrained within the limit."""
    board = json.loads(tune(home, "report", "walk", "--format", "json").stdout)
    tune(home, "select", "walk", 1, "-o", "best.toml")
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", 0.001, code=2).stderr
    needed, unit = re.search(r"full training ([\d.]+) (s|min) > ", line).groups()
    needed = float(needed) / {"s": 60.0, "min": 1.0}[unit]
    limit = round(ROOM * needed * quicker(home), 3)
    line = tune(home, "retrain", "best.toml", "--max-train-minutes", limit, code=2).stderr
    assert "takes too long" in line.splitlines()[-1]
    assert re.search(r"What fits: --epochs \d+ or --minutes [\d.]+", line)
    rank = int(re.search(r"or rank (\d+) of the run walk", line)[1])
    assert f"tune select walk {rank}" in line
    assert not list(models_folder().glob("best/[0-9]*"))
    tune(home, "select", "walk", rank, "-o", "other.toml")
    tune(home, "retrain", "other.toml", "--max-train-minutes", limit)
    version = find_model("other").read()
    assert version.train_seconds <= 1.15 * 60.0 * limit
    (promised,) = [row["accuracy"]["validation"]["int8"] for row in board if row["rank"] == rank]
    accuracy = version.builds["int8"].accuracy["validation"].value
    print(f"limit {limit} min, rank {rank}: promised {promised:.4f}, retrained {accuracy:.4f}")
    assert accuracy >= promised - DROP


def late(
    home: Path,
    *,
    limit: float,
    start_minutes: float = 0.0,
    first: str = TARGET,
    **changes: int,
) -> InputError:
    """What is said of 3 epochs of 1 min each, of a run whose others had 1 and 2.

    Args:
        home: gets the run.
        limit: minutes.
        start_minutes: of each training, before its first epoch.
        first: target of the run.
        changes: of the template's training.
    """
    targets = tuple(map(catalog.load_target, dict.fromkeys((first, TARGET))))
    folder = make_run(home, "made-up", [10, 12, 15], ended=True, targets=targets)
    best = board(folder, target_name=TARGET).rows[0].result
    plain = template_of(best.candidate, "sample:digits", "best", target=TARGET)
    limits = Limits(train_minutes=limit)
    plain = replace(plain, run="made-up", target=with_limits(plain.target, limits))
    plain = replace(plain, training=replace(plain.training, **changes))

    def minutes_of(candidate: Candidate, slower: float = 1.0) -> float:
        return start_minutes + slower * candidate.training.epochs

    cost = with_time(plain, best.costs[TARGET], minutes=3.0)
    assert cost.train_minutes.high == pytest.approx(3.0 * TIME_BAND[1])
    with pytest.raises(InputError) as caught:
        check_predicted_time(plain, cost, minutes_of)
    return caught.value


def test_the_best_ranked_that_keeps_the_limit_is_named(home: Path):
    said = str(late(home, limit=2.5))
    assert "full training 3.0 min > 2.5 min" in said
    assert "What fits: --epochs 2 or --minutes 2.5; or rank 2 of the run made-up, c" in said
    assert "8x8 grey and had 60.0% as int8: about 2 min (tune select made-up 2)" in said


def test_of_a_run_for_several_targets_the_command_names_the_one(home: Path):
    said = str(late(home, limit=2.5, first="k230"))
    assert f"(tune select made-up 2 --target {TARGET})" in said


def test_the_epochs_that_are_named_count_what_an_epoch_does_not(home: Path):
    said = str(late(home, limit=2.5, start_minutes=0.5))
    assert "What fits: --epochs 1 or" in said


def test_a_candidate_whose_band_exceeds_the_limit_is_not_named(home: Path):
    said = str(late(home, limit=2.1))
    assert "or rank 3 of the run made-up" in said
    assert "about 1 min (tune select made-up 3)" in said


def test_the_alternative_is_timed_by_the_epochs_that_were_asked_for(home: Path):
    said = str(late(home, limit=2.5, epochs=30))
    assert "a smaller input or another candidate. Or loosen the limit" in said


def test_the_settings_that_were_asked_for_are_named_with_the_alternative(home: Path):
    said = str(late(home, limit=2.5, epochs=1))
    assert re.search(r"about 1 min with --epochs 1 \(tune select made-up 1\)", said)


@pytest.mark.parametrize(("start_minutes", "epochs"), [(0.0, False), (-0.97, True)])
def test_below_the_shortest_clock_what_works_is_named(home: Path, start_minutes, epochs: bool):
    said = str(late(home, limit=0.05, start_minutes=start_minutes))
    assert ("What fits: --epochs 1; or rank" in said) == epochs
    assert ("What fits: a smaller input or another candidate. Or" in said) != epochs
    assert said.endswith("by the clock is --max-train-minutes 0.1 --minutes 0.1.")
    assert "--minutes 0.05" not in said


@pytest.mark.parametrize(
    ("limit", "words"),
    [(5.0, "Shorten it, or loosen"), (0.05, "Give --epochs instead, or loosen the limit by")],
)
def test_a_clock_beyond_the_limit_is_refused(limit: float, words: str):
    plain = template_of(small_candidate(), "sample:digits", "best", target=TARGET)
    plain = replace(plain, target=with_limits(plain.target, Limits(train_minutes=limit)))
    with pytest.raises(InputError, match=rf"Expected at most {limit:g} minutes.* {words}"):
        check_clock(plain, 60.0 * 6.0)
    check_clock(plain, 60.0 * limit)


@pytest.mark.parametrize("gone", [True, False])
def test_without_another_the_ways_to_one_are_named(home: Path, monkeypatch, gone: bool):
    if gone:
        monkeypatch.setattr(time_limit, "find_run", unknown_run)
    said = str(late(home, limit=2.5 if gone else 0.5))
    assert "a smaller input or another candidate. Or loosen the limit" in said
    assert ("--epochs" in said) == gone, "no epoch fits half a minute"


def unknown_run(name: str) -> None:
    raise UnknownNameError("run", name, ())


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_the_walk_to_an_alternative_that_keeps_the_limit(home: Path):
    search(home)
    walk(home)
