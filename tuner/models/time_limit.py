"""The predicted time of a retraining beside its limit, and what would keep it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Protocol

from tuner.cost.fit import check_limits, explain
from tuner.cost.training import REFERENCE, train_seconds_per_image
from tuner.engine.board import board
from tuner.errors import InputError, TuneError
from tuner.spec import Candidate, Cost, Quantity, Template, Throughput
from tuner.spec.times import LEAST_TRAIN_MINUTES
from tuner.store.runs import find_run
from tuner.train.loop import UNFROZEN_PACE

TIME_BAND = (0.8, 1.25)
"""Of the predicted time of training, low and high: held 20 of 20 trainings of
tests/benchmarks/retrain_time.py, .80 to 1.24, and of the next 10 nine; one was .795."""


def with_time(template: Template, cost: Cost, minutes: float) -> Cost:
    """Add the predicted time of training to the cost of a template, and check all limits with it.

    Args:
        template: that is trained.
        cost: on its target.
        minutes: predicted.
    """
    predicted = Quantity(
        value=minutes,
        low=minutes * TIME_BAND[0],
        high=minutes * TIME_BAND[1],
        kind="estimated",
        basis="epochs timed before with the same threads, of a part of the images if they are many",
    )
    timed = replace(cost, train_minutes=predicted)
    return check_limits(timed, template.target.model_limits)


def check_clock(template: Template, seconds: float) -> None:
    """Refuse a clock that allows more than the limit of the template's target.

    Raises:
        InputError: it does.
    """
    limit = template.target.limits.train_minutes
    if limit is not None and seconds > 60.0 * limit:
        shorter = "Shorten it" if limit >= LEAST_TRAIN_MINUTES else "Give --epochs instead"
        raise InputError(
            f"Expected at most {limit:g} minutes, the limit of '{template.name}'. Received: "
            f"--minutes {seconds / 60.0:g}. {shorter}, or {_loosen(limit)}."
        )


class MinutesOf(Protocol):
    """Predicts how long the retraining that was asked for would take of a candidate, minutes."""

    def __call__(self, candidate: Candidate, slower: float = 1.0) -> float:
        """An epoch of it takes `slower` times one of the template's."""


def check_predicted_time(template: Template, cost: Cost, minutes_of: MinutesOf) -> None:
    """Refuse what takes longer than the limit of the template's target.

    Args:
        template: that is trained.
        cost: on its target, with the predicted time.
        minutes_of: the predicted time of others, by the same options.

    Raises:
        InputError: it takes too long; names what would fit, were it timed anew.
    """
    late = [excess for excess in cost.over if excess.limit == "train_minutes"]
    if not late:
        return
    limit = late[0].allowed
    own = template.as_candidate

    def minutes(epochs: int) -> float:
        return minutes_of(replace(own, training=replace(own.training, epochs=epochs)))

    epochs = bisect_right(range(1, own.training.epochs), limit / TIME_BAND[1], key=minutes)
    fitting = [f"--epochs {epochs}"] if epochs else []
    if limit >= LEAST_TRAIN_MINUTES:
        fitting.append(f"--minutes {limit:g}")
    other = _alternative(template, limit, minutes_of)
    named = [" or ".join(fitting), other or "a smaller input or another candidate"]
    ways = ("; or " if other else "; ").join(filter(None, named))
    raise InputError(
        f"The template '{template.name}' takes too long: {explain(late[0])}. What fits: {ways}. "
        f"Or {_loosen(limit)}."
    )


def _loosen(limit: float) -> str:
    """How to train longer; with the least that a clock needs where `limit`, minutes, is below."""
    loosen = (
        "loosen the limit by --max-train-minutes, or by train_minutes in the template's "
        "[target.limits] table"
    )
    if limit >= LEAST_TRAIN_MINUTES:
        return loosen
    least = f"{LEAST_TRAIN_MINUTES:g}"
    return f"{loosen}; the shortest by the clock is --max-train-minutes {least} --minutes {least}"


def _alternative(template: Template, limit: float, minutes_of: MinutesOf) -> str:
    """The best of the template's run that is retrained within a limit, in words; or nothing.

    An epoch of it takes as much longer as its work is more, as fast as the run measured this
    machine to be. It is trained as it was drawn, but for what the template no longer is.

    Args:
        template: that takes too long.
        limit: minutes.
        minutes_of: see `check_predicted_time`.
    """
    try:
        run = find_run(template.run)
        ranked = board(run, target_name=template.target.name)
    except TuneError:  # the run is not here, or no longer
        return ""
    throughput = run.spec().throughput or REFERENCE  # a run without a clock measures nothing
    own = _epoch_work(template.as_candidate, throughput)
    drawn = [row.result.candidate for row in ranked.rows]
    changes = _changes(template, drawn)
    options = "".join(f" --{name.replace('_', '-')} {value}" for name, value in changes.items())
    for row, candidate in zip(ranked.rows, drawn, strict=True):
        changed = replace(candidate, training=replace(candidate.training, **changes))
        expected = minutes_of(changed, _epoch_work(changed, throughput) / own)
        accuracy = row.result.accuracy("int8")
        if row.fits and accuracy and expected * TIME_BAND[1] <= limit:
            pixels = candidate.preprocessing
            return (
                f"rank {row.rank} of the run {template.run}, {candidate.id}, which reads "
                f"{pixels.width}x{pixels.height} {pixels.colour} and had {accuracy.value:.1%} as "
                f"int8: about {expected:.2g} min{options and f' with{options}'} "
                f"(tune select {template.run} {row.rank}{ranked.target_option})"
            )
    return ""


def _changes(template: Template, drawn: Sequence[Candidate]) -> dict[str, Any]:
    """What of the template's training counts for its time and is not as it was drawn."""
    before = [candidate.training for candidate in drawn if candidate.id == template.candidate]
    now = {"epochs": template.training.epochs, "batch_size": template.training.batch_size}
    return {
        name: value
        for name, value in now.items()
        if not before or getattr(before[0], name) != value
    }


def _epoch_work(candidate: Candidate, throughput: Throughput) -> float:
    """Of an epoch, in seconds of one slot for each image of the data."""
    training = candidate.training
    seconds = train_seconds_per_image(candidate.architecture, training.batch_size, throughput)
    return seconds * (1.0 - training.frozen_share + training.frozen_share / UNFROZEN_PACE)
