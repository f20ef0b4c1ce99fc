"""Order results: by accuracy, then by what they cost."""

from __future__ import annotations

import math
import statistics
from collections.abc import Iterable
from dataclasses import dataclass

from tuner.spec import Accuracy, Paired, Precision, RankBy, Result

STATUS_ORDER = {"ok": 0, "stopped": 1, "timed_out": 2, "failed": 3, "over_limit": 4, None: 5}


@dataclass(frozen=True, slots=True, kw_only=True)
class Ranked:
    """One row of the board.

    Args:
        rank: from 1, unique; a tie is broken by latency, flash and id. What fits the target comes
            before what does not, what was trained to its end before what was stopped, and among
            the former what the target's own compiler refused comes last.
        tied: another row has the same status and the same count of correct images.
        fits: it keeps the target's limits.
        result: the candidate's result.
    """

    rank: int
    tied: bool
    fits: bool
    result: Result


@dataclass(frozen=True, slots=True, kw_only=True)
class Estimate:
    """An accuracy that is not one count of all images.

    Args:
        value: share of correct images.
        standard_error: of the value.
        trainings: that it is the mean of.
    """

    value: float
    standard_error: float
    trainings: int = 1


def by_difference(whole: Accuracy, paired: Paired, mean: Estimate | None = None) -> Estimate:
    """The accuracy of a build that ran on a part of the images, by its difference to another.

    The other's accuracy on all images, plus the mean difference on the part. The error is that of
    the former, a count on all images or a mean over trainings, and that of the difference, which
    vanishes as the part becomes the whole (Cochran, Sampling Techniques, section 7.2, with a
    slope of 1).

    Args:
        whole: of the int8 build, on all images of the split.
        paired: both builds on the part.
        mean: of the int8 builds of several trainings; stands for the accuracy of the first.
    """
    change = (paired.gained - paired.lost) / paired.images
    spread = (paired.gained + paired.lost) / paired.images - change * change
    left_out = max(0.0, 1.0 - paired.images / whole.total)
    of_difference = spread / paired.images * left_out
    if mean is None:
        value = min(1.0, max(0.0, whole.value + change))
        variance = value * (1.0 - value) / whole.total + of_difference
        return Estimate(value=value, standard_error=math.sqrt(variance))
    return Estimate(
        value=min(1.0, max(0.0, mean.value + change)),
        standard_error=math.sqrt(mean.standard_error**2 + of_difference),
        trainings=mean.trainings,
    )


def over_trainings(result: Result, precision: Precision) -> Estimate | None:
    """The mean validation accuracy of a candidate that was trained several times, else None.

    The error is that of a mean of n values, their standard deviation (with n - 1) by the root of
    n. It tells how much the seed of the training matters; that the validation images are a sample
    too is not in it.
    """
    first = result.accuracy(precision)
    if first is None or not result.repeated:
        return None
    shares = [first.value, *(found[precision].value for found in result.repeated.values())]
    return Estimate(
        value=statistics.fmean(shares),
        standard_error=statistics.stdev(shares) / math.sqrt(len(shares)),
        trainings=len(shares),
    )


def precision_accuracy(
    result: Result, precision: Precision, split: str = "validation"
) -> Accuracy | Estimate | None:
    """The accuracy of a build, or on the validation images the mean over several trainings."""
    mean = over_trainings(result, precision) if split == "validation" else None
    return mean or result.accuracy(precision, split)


def target_accuracy(result: Result, split: str = "validation") -> Estimate | None:
    """The accuracy of the target's own build, if it was run on this split."""
    build, whole = result.builds.get("target"), result.accuracy("int8", split)
    if build is None or whole is None or split not in build.paired:
        return None
    mean = over_trainings(result, "int8") if split == "validation" else None
    return by_difference(whole, build.paired[split], mean)


def kind_accuracy(
    result: Result, kind: RankBy, split: str = "validation"
) -> Accuracy | Estimate | None:
    """The accuracy of a kind: for `target` its own build's where there is one, else int8's."""
    own = target_accuracy(result, split) if kind == "target" else None
    return own or precision_accuracy(result, ranking_precision(kind), split)


def shown_accuracy(result: Result, kind: RankBy, split: str = "validation") -> float | None:
    """The share of correct images of a kind; see `kind_accuracy`."""
    found = kind_accuracy(result, kind, split)
    return found.value if found else None


def ranking_precision(rank_by: RankBy) -> Precision:
    """The precision whose accuracy orders the board; `target` is the int8 that the target runs."""
    return "float32" if rank_by == "float32" else "int8"


def rank_results(results: Iterable[Result], target: str, rank_by: RankBy) -> list[Ranked]:
    """Order results for one target by validation accuracy.

    Args:
        results: of any status, their builds as the target sees them.
        target: name of the target whose costs break ties.
        rank_by: which accuracy decides; `target` takes that of the target's own build where there
            is one, and of the int8 build otherwise: below all others where a tool of the target
            refused the candidate. Of several trainings the mean counts.
    """
    precision = ranking_precision(rank_by)

    def correct(result: Result) -> float:
        """Images; the mean count of several trainings, so that equal ones are ties."""
        accuracy = result.accuracy(precision)
        own = target_accuracy(result) if rank_by == "target" else None
        if accuracy is None:
            return -1.0
        if own is not None:
            return round(accuracy.total * own.value, 6)  # equal counts are ties, as floats too
        further = [found[precision].correct for found in result.repeated.values()]
        return round(statistics.fmean([accuracy.correct, *further]), 6)

    def fits(result: Result) -> bool:
        return result.costs[target].fits if target in result.costs else True

    def refused(result: Result) -> bool:
        return rank_by == "target" and target in result.unmeasured

    def key(result: Result) -> tuple[float | str, ...]:
        cost = result.costs.get(target)
        return (
            result.status not in ("ok", "stopped"),
            not fits(result),
            STATUS_ORDER[result.status],
            refused(result),
            -correct(result),
            cost.latency_ms.value if cost else 0.0,
            cost.flash_bytes.value if cost else 0.0,
            result.candidate.id,
        )

    ordered = sorted(results, key=key)
    rows = []
    for position, result in enumerate(ordered):
        neighbours = ordered[max(0, position - 1) : position] + ordered[position + 1 : position + 2]
        tied = correct(result) >= 0 and any(
            (fits(other), other.status, refused(other), correct(other))
            == (fits(result), result.status, refused(result), correct(result))
            for other in neighbours
        )
        rows.append(Ranked(rank=position + 1, tied=tied, fits=fits(result), result=result))
    return rows


def best_accuracy(results: Iterable[Result], target: str, rank_by: RankBy) -> Accuracy | None:
    """The best validation accuracy so far among results that fit the target."""
    precision = ranking_precision(rank_by)
    found = [
        accuracy
        for result in results
        if result.costs[target].fits and (accuracy := result.accuracy(precision)) is not None
    ]
    return max(found, key=lambda accuracy: accuracy.correct, default=None)
