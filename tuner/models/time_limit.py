"""The predicted time of a retraining beside its limit, and what would keep it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable
from dataclasses import replace

from tuner.cost.fit import check_limits, explain
from tuner.cost.training import REFERENCE, train_seconds_per_image
from tuner.engine.board import board
from tuner.errors import InputError, TuneError
from tuner.spec import Candidate, Cost, Quantity, Template, Throughput
from tuner.store.runs import find_run

TIME_BAND = (0.8, 1.25)
"""Of the predicted time of training, low and high: held 20 of 20 trainings of
tests/benchmarks/retrain_time.py, .80 to 1.24; 15 were within 15 %."""


LOOSEN = (
    "loosen the limit by --max-train-minutes, or by train_minutes in the template's "
    "[target.limits] table"
)


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
        raise InputError(
            f"Expected at most {limit:g} minutes, the limit of '{template.name}'. Received: "
            f"--minutes {seconds / 60.0:g}. Shorten it, or {LOOSEN}."
        )


def check_predicted_time(
    template: Template, cost: Cost, minutes_of: Callable[[int], float]
) -> None:
    """Refuse what takes longer than the limit of the template's target.

    Args:
        template: that is trained.
        cost: on its target, with the predicted time.
        minutes_of: the predicted time of so many epochs.

    Raises:
        InputError: it takes too long; names what would fit, were it timed anew.
    """
    late = [excess for excess in cost.over if excess.limit == "train_minutes"]
    if not late:
        return
    limit = late[0].allowed
    every = range(1, template.training.epochs)
    epochs = bisect_right(every, limit / TIME_BAND[1], key=minutes_of)
    fitting = f"--epochs {epochs} or --minutes {limit:g}" if epochs else f"--minutes {limit:g}"
    other = _alternative(template, late[0].needed, limit)
    raise InputError(
        f"The template '{template.name}' takes too long: {explain(late[0])}. What fits: "
        f"{fitting}; {other or 'a smaller input or another candidate'}. Or {LOOSEN}."
    )


def _alternative(template: Template, minutes: float, limit: float) -> str:
    """The best of the template's run that is retrained within a limit, in words; or nothing.

    Its time is that of the template times the ratio of their work, as fast as the run measured
    this machine to be.

    Args:
        template: that takes too long.
        minutes: that it takes, predicted.
        limit: minutes.
    """
    try:
        run = find_run(template.run)
        ranked = board(run, target_name=template.target.name)
    except TuneError:  # the run is not here, or no longer
        return ""
    throughput = run.spec().throughput or REFERENCE  # a run without a clock measures nothing
    own = _work(template.as_candidate, throughput)
    for row in ranked.rows:
        candidate = row.result.candidate
        expected = minutes * _work(candidate, throughput) / own
        accuracy = row.result.accuracy("int8")
        if row.fits and accuracy and expected * TIME_BAND[1] <= limit:
            pixels = candidate.preprocessing
            return (
                f"or rank {row.rank} of the run {template.run}, {candidate.id}, which reads "
                f"{pixels.width}x{pixels.height} {pixels.colour} and had {accuracy.value:.1%} as "
                f"int8: about {expected:.2g} min (tune select {template.run} {row.rank})"
            )
    return ""


def _work(candidate: Candidate, throughput: Throughput) -> float:
    """Of a full training, in seconds of one slot for each image of the data."""
    training = candidate.training
    seconds = train_seconds_per_image(candidate.architecture, training.batch_size, throughput)
    return seconds * training.epochs
