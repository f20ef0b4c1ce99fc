"""How a search divides its time: rungs, seconds and epochs, and what cannot be trained."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from tuner.cost.fit import check_limits
from tuner.cost.training import QUANTIZATION_SHARE, rounding_share, train_seconds_per_image
from tuner.engine.finalists import simulators_ready
from tuner.engine.slots import available_cores
from tuner.propose.bands import size_bands
from tuner.propose.rungs import REDUCTION
from tuner.spec import Candidate, Cost, Excess, Quantity, Result, RunSpec
from tuner.train.loop import UNFROZEN_PACE

MIN_EPOCHS = 30
"""A candidate that cannot be trained for this many epochs in its time is not proposed."""

OVERHEAD_SECONDS = 2.0
"""Building, converting and scoring a candidate, beside its training: .9 to 2.9 s in two searches of
the side-by-side (docs/benchmarks.md), the first ones of a worker the longest."""

CHOOSING_SECONDS = 3.0
"""The choice of a recipe for int8, beside that, of what is trained to its end: 1.0 to
5.3 s measured, median 2.2 (docs/int8.md)."""

FINAL_SHARE = 0.5
"""Of the budget, for training the best to the last rung."""

MOST_RUNGS = 3
"""At most: a fourth would begin with one or two of a candidate's epochs, which hardly rank."""

REPEAT_SHARE = FINAL_SHARE * sum(float(REDUCTION) ** -step for step in range(MOST_RUNGS))
"""The best once more through all rungs, as a share of the time of the search."""

MEASURED_IN_FULL = 3
"""So many finalists are to be simulated on all validation images, whatever their number."""

COMPILED_SECONDS = 15.0
SIMULATED_IMAGE_SECONDS = 0.18
"""Of a finalist, before it is simulated, and of each image then, in one slot, others at work: eight
small nets for the K230 took 6 to 10 s, and .09 to .15 s an image (docs/costs/k230.md)."""

MEASURING_SHARE = 0.1
MEASURING_SECONDS = 30.0
MEASURING_SHARE_AT_MOST = 0.25
"""Of the budget, for compiling and simulating finalists after the search, where a target's tools do
that: what all images take, and for nets that take longer at least a share and some seconds, within
another share."""

MIN_RUNG_SECONDS = 9.0
"""A rung is not shorter than this, overhead included: of 40 candidates the best was among the first
quarter after 5 to 10 s of training (docs/search.md)."""

NEARLY_ALL = 0.75
"""A rung that trains this share of a full training trains all of it: nothing would be saved."""

FINAL_THREADS = 4
"""Of a training to the last rung, at most: a batch has few parts."""

START_SECONDS = 5.0
"""Of a fresh worker, which such a training needs."""

STARTED_LATE_SHARE = 0.6
"""A candidate is started as long as this share of its time is left."""

STEP_SLACK = 1.25
"""A promoted candidate has so many times the time that its step takes by its epochs before."""

SLOWER_NEXT_TIME = 1.25
"""Opening the data and measuring the machine may take so many times as long."""

CORES_EXPONENT = 0.8
"""Retraining on n cores is n to this power faster than in one slot: 1.4 to 2.0 times on 2 cores,
measured on four nets (docs/training.md); more cores are extrapolated."""

RETRAIN_BAND = (0.6, 1.7)
"""Predicted full retraining time, low and high, relative to the prediction."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one step of one candidate gets.

    Args:
        epochs: planned.
        most_epochs: where the net trains faster than planned.
        seconds: of training, when a clock limits the search.
        last: the candidate is trained to its end.
    """

    epochs: int
    most_epochs: int
    seconds: float | None
    last: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """The time plan of one run.

    An extended run keeps the number and the lengths of its rungs, so that what was trained before
    can be compared with what is trained now. The last rung is planned for the extension alone.

    Args:
        spec: of the run.
        rungs: False trains each candidate to its end at once.
    """

    spec: RunSpec
    rungs: bool = True

    @property
    def rung_shares(self) -> tuple[float, ...]:
        """By rung, its length as a share of the last rung's, which is 1."""
        if not self.rungs:
            return (1.0,)
        if self.spec.extended:
            return self._first.rung_shares
        count = self.spec.rungs or self.rungs_by_clock or len(self.quotas)
        return tuple(float(REDUCTION) ** -step for step in reversed(range(count)))

    @property
    def rungs_by_clock(self) -> int | None:
        """So many that none is too short; None without a clock.

        A new run keeps it as `rungs`, for its time alone does not decide on them: the tools of a
        target, which take a part of it, may be installed later.
        """
        if self._seconds is None:
            return None
        longest = FINAL_SHARE * self._seconds / self.waves
        return 1 + sum(
            longest * float(REDUCTION) ** -step >= MIN_RUNG_SECONDS for step in range(1, MOST_RUNGS)
        )

    @property
    def quotas(self) -> tuple[int, ...]:
        """Without a clock, how many candidates are trained to each rung.

        At least 2, and one for each group of targets of like size; of an extended run, each
        extension adds its own.
        """
        count = self.spec.max_candidates or 0
        if not self.rungs:
            return (count,)
        if self.spec.extended:
            return self._extended_quotas(count)
        quotas = [count]
        while len(quotas) < MOST_RUNGS:
            fewer = max(2, self.groups, math.ceil(quotas[-1] / REDUCTION))
            if fewer >= quotas[-1]:
                break
            quotas.append(fewer)
        return tuple(quotas)

    def _extended_quotas(self, count: int) -> tuple[int, ...]:
        """What was planned or started before the last extension, and the quotas of the rest."""
        last = self.spec.extended[-1]
        begun: Sequence[int] = last.started
        if last.budget_seconds is None:
            begun = tuple(map(max, self._before(len(self.spec.extended) - 1).quotas, begun))
        more = [max(0, count - begun[0])]
        while len(more) < len(begun):
            fewest = max(2, self.groups, math.ceil(more[-1] / REDUCTION))
            more.append(min(more[-1], fewest))
        return tuple(before + added for before, added in zip(begun, more, strict=True))

    def _before(self, extension: int) -> Plan:
        """The plan that was followed until an extension, counted from 0."""
        was = self.spec.extended[extension]
        spec = replace(
            self.spec,
            budget_seconds=was.budget_seconds,
            max_candidates=was.max_candidates,
            extended=self.spec.extended[:extension],
        )
        return replace(self, spec=spec)

    @property
    def _first(self) -> Plan:
        """The plan that the run began with, which decides on the rungs."""
        return self._before(0)

    @property
    def _seconds(self) -> float | None:
        """Of the budget, the search's part since the last extension; None without a clock."""
        budget = self.spec.budget_seconds
        if budget is None:
            return None
        parts = 1.0 + self._baselines_part + REPEAT_SHARE * (self.spec.repeats - 1)
        return (budget - self._seconds_before - self.measuring_seconds) / parts

    @property
    def measuring_seconds(self) -> float:
        """With a clock, what is left at its end for tools that simulate finalists.

        It is for the last finalist where slots have simulated the others beside trainings by then.
        """
        budget = self.spec.budget_seconds
        if budget is None or not simulators_ready(self.spec.targets):
            return 0.0
        seconds = budget - self._seconds_before
        images = self.spec.dataset.counts["validation"]
        beside = self.spec.workers > 1 and self.spec.repeats == 1
        count = 1 if beside else MEASURED_IN_FULL
        in_full = (
            COMPILED_SECONDS * math.ceil(count / self.spec.workers)
            + SIMULATED_IMAGE_SECONDS * images * count / self.spec.workers
        )
        wanted = max(MEASURING_SECONDS, MEASURING_SHARE * seconds, in_full)
        return min(MEASURING_SHARE_AT_MOST * seconds, wanted)

    @property
    def _baselines_part(self) -> float:
        """What known nets take before a search, as a share of its time; an extension has none."""
        if self.spec.extended:
            return 0.0
        return FINAL_SHARE * math.ceil(len(self.spec.baselines) / self.spec.workers)

    @property
    def _seconds_before(self) -> float:
        """Of the budget, what was used before the last extension."""
        return self.spec.extended[-1].elapsed_seconds if self.spec.extended else 0.0

    @property
    def search_ends_seconds(self) -> float | None:
        """With a clock, the time of the run from which on the best are trained again."""
        seconds = self._seconds
        if seconds is None:
            return None
        return self._seconds_before + seconds * (1.0 + self._baselines_part)

    def repeats_in_time(self, result: Result, remaining_seconds: float | None) -> bool:
        """Whether a candidate can be trained again, as it was, in the time that is left."""
        beside = len(self.rung_shares) * OVERHEAD_SECONDS + CHOOSING_SECONDS
        needed = result.train_seconds + beside
        return remaining_seconds is None or needed <= remaining_seconds

    @property
    def _candidates_before(self) -> int:
        """Candidates proposed before the last extension."""
        return self.spec.extended[-1].started[0] if self.spec.extended else 0

    @property
    def groups(self) -> int:
        """Groups of targets of like size, each of which wants its own best candidate."""
        return len(size_bands(self.spec.targets))

    @property
    def final_threads(self) -> int:
        """Threads of a training to the last rung.

        With a clock and devices of one size the best is finished by all slots together, for it
        gains more from twice the epochs than the second best has to offer (docs/search.md).
        Further trainings of the best run beside each other, and the first must be like them.
        """
        together = (
            self.groups == 1 and self.spec.workers <= FINAL_THREADS and self.spec.repeats == 1
        )
        wide = together and self._seconds is not None and len(self.rung_shares) > 1
        return self.spec.workers if wide else 1

    @property
    def waves(self) -> int:
        """How often every slot finishes a candidate, so that each group gets one."""
        return math.ceil(self.groups / self.spec.workers)

    @property
    def final_seconds(self) -> float | None:
        """Wall-clock seconds that a candidate may take for its last rung; None without a clock.

        Without rungs the budget is divided among as many candidates as the root of its minutes
        suggests.
        """
        budget = self._seconds
        if budget is None:
            return None
        if len(self.rung_shares) > 1:
            return FINAL_SHARE * budget / self.waves
        return budget / math.ceil(self._unhalved / self.spec.workers)

    @property
    def _unhalved(self) -> int:
        """Candidates that the budget is divided among when each is trained to its end."""
        if self.spec.max_candidates is not None:
            return max(1, self.spec.max_candidates - self._candidates_before)
        minutes = (self._seconds or 0.0) / 60.0
        slots = math.sqrt(self.spec.workers / 2.0)
        return max(2 * self.spec.workers, round(5.0 * slots * math.sqrt(minutes)))

    @property
    def rung_seconds(self) -> tuple[float, ...]:
        """With a clock, wall-clock seconds of a step to each rung, the last of `final_seconds`.

        A step below the last ends sooner if it has had its epochs.
        """
        final = self.final_seconds
        if final is None:
            return ()
        if not self.spec.extended:
            return tuple(share * final for share in self.rung_shares)
        first = self._first.final_seconds or final
        shorter = (max(MIN_RUNG_SECONDS, share * first) for share in self.rung_shares[:-1])
        return (*shorter, final)

    @property
    def least_seconds(self) -> float:
        """With a clock, what has to be left for a first candidate to be started."""
        return STARTED_LATE_SHARE * self.rung_seconds[0]

    def enough_seconds(self, elapsed_seconds: float) -> int:
        """For a search by the clock that could not start a first candidate, a time that trains one.

        Args:
            elapsed_seconds: of the run when its search began.

        Returns:
            Whole tens of seconds for the search anew, or of a run that was extended, for it once
            more.
        """
        before = self._seconds_before
        used = before + SLOWER_NEXT_TIME * (elapsed_seconds - before)
        given = (self.spec.budget_seconds or 0.0) - before
        for seconds in itertools.count(10 * math.ceil(given / 10), 10):
            plan = replace(self, spec=replace(self.spec, budget_seconds=before + seconds))
            needed = plan.least_seconds
            if len(plan.rung_shares) > 1:  # a first rung alone trains nothing to its end
                first = plan.rung_seconds[0]
                needed = first + max(plan.finishing_seconds(()), plan._last_seconds(first))
            if (plan.search_ends_seconds or 0.0) - used >= needed:
                break
        return seconds

    def starts(
        self, rung: int, remaining_seconds: float | None, step_seconds: float = math.inf
    ) -> bool:
        """Whether enough time is left for a step to this rung, of `step_seconds` at most."""
        if self.final_seconds is None or remaining_seconds is None:
            return True
        ends = rung == len(self.rung_shares) - 1
        seconds = min(step_seconds, self.rung_seconds[0 if ends else rung])
        return remaining_seconds >= STARTED_LATE_SHARE * seconds

    def share(
        self,
        candidate: Candidate,
        rung: int,
        remaining_seconds: float | None,
        trained_seconds: float = 0.0,
        epoch_seconds: float | None = None,
        threads: int | None = None,
    ) -> Share | None:
        """Epochs and seconds for a step that starts now; None if too little time is left.

        Args:
            candidate: to be trained.
            rung: to train it to.
            remaining_seconds: of the search; None without a clock.
            trained_seconds: of its step to the rung before; see `least_last_seconds`.
            epoch_seconds: that an epoch took in one slot, for a promotion below the last rung;
                None to predict it.
            threads: of a step to the last rung; None for `final_threads`.
        """
        full = candidate.training.epochs
        last = rung == len(self.rung_shares) - 1
        if self.final_seconds is None or remaining_seconds is None:
            epochs = full if last else self._epochs(candidate, rung)
            return Share(epochs, epochs, None, last)
        wanted = self.rung_seconds[rung]
        if epoch_seconds is not None:
            wanted = min(wanted, STEP_SLACK * self.step_seconds(candidate, rung, epoch_seconds))
        if last and rung > 0:
            least = self.least_last_seconds(candidate, trained_seconds)
            if remaining_seconds < least:
                return None
            wanted = max(wanted, least)
        promoted_last = last and trained_seconds > 0.0  # for which the least is enough
        if not promoted_last and not self.starts(rung, remaining_seconds, wanted):
            return None
        # With one wave the last steps may use all that is left.
        ends = last and rung > 0 and self.waves == 1
        seconds = remaining_seconds if ends else min(wanted, remaining_seconds)
        epoch = epoch_seconds or self.epoch_seconds(candidate)
        threads = threads or self.final_threads
        if ends and threads > 1:
            epoch /= threads**CORES_EXPONENT
            seconds = remaining_seconds = remaining_seconds - START_SECONDS
        most = full if last else self._most_epochs(candidate, rung)
        in_full = 0.0 if last else self._in_full(candidate, most, seconds, epoch)
        if in_full:
            last, most = True, full
            seconds = min(remaining_seconds, max(seconds, STEP_SLACK * in_full))
        seconds -= OVERHEAD_SECONDS + (CHOOSING_SECONDS if last else 0.0)
        if not last:  # the nearest number of epochs, and one of a net that learns slowly
            nearest = min(seconds + epoch / 2.0, remaining_seconds - OVERHEAD_SECONDS)
            seconds = max(nearest, min(remaining_seconds, epoch))
        return Share(max(1, min(most, int(seconds / epoch))), most, seconds, last)

    def _epochs(self, candidate: Candidate, rung: int) -> int:
        """Without a clock, of a step below the last rung; what began with one keeps its lengths."""
        most = self._most_epochs(candidate, rung)
        lengths = self._rung_lengths
        if not lengths:
            return most
        in_time = (lengths[rung] - OVERHEAD_SECONDS) / self.epoch_seconds(candidate)
        return max(1, min(most, int(in_time + 0.5)))

    def _most_epochs(self, candidate: Candidate, rung: int) -> int:
        """Of a step below the last rung: the rung's share of all, as slower nets have of theirs.

        In a run that began with a clock, as many as fill a rung of `MIN_RUNG_SECONDS`, if those
        are more; versions that had four rungs went by seconds alone.
        """
        full = candidate.training.epochs
        share = max(1, round(self.rung_shares[rung] * full))
        lengths = self._rung_lengths
        if not lengths:
            return share
        if len(self.rung_shares) > MOST_RUNGS:
            return full
        shortest = min(lengths[rung], MIN_RUNG_SECONDS * float(REDUCTION) ** rung)
        in_time = (shortest - OVERHEAD_SECONDS) / self.epoch_seconds(candidate)
        return min(full, max(share, int(in_time + 0.5)))

    def step_seconds(self, candidate: Candidate, rung: int, epoch_seconds: float) -> float:
        """With a clock, what a step to a rung below the last takes, by what its epochs took."""
        most, seconds = self._most_epochs(candidate, rung), self.rung_seconds[rung]
        in_full = self._in_full(candidate, most, seconds, epoch_seconds)
        return in_full or min(seconds, most * epoch_seconds + OVERHEAD_SECONDS)

    def _in_full(
        self, candidate: Candidate, most: int, seconds: float, epoch_seconds: float
    ) -> float:
        """What a training takes that may as well have all epochs of one to the last rung.

        Of an extension that is shorter than the run it is that of the run.

        Args:
            candidate: to be trained, in one slot.
            most: epochs that it may have on its rung.
            seconds: likewise.
            epoch_seconds: of one epoch.

        Returns:
            Seconds; 0 if its rung gives it less than `NEARLY_ALL` of them.
        """
        in_final = epoch_seconds / self.final_threads**CORES_EXPONENT
        before = (self._first.final_seconds or 0.0) if self.spec.extended else 0.0
        final = max(before, self.final_seconds or 0.0)
        in_time = int((final - OVERHEAD_SECONDS) / in_final)
        in_full = min(candidate.training.epochs, max(1, in_time))
        if min(most, int((seconds - OVERHEAD_SECONDS) / epoch_seconds)) < NEARLY_ALL * in_full:
            return 0.0
        return in_full * epoch_seconds + OVERHEAD_SECONDS + CHOOSING_SECONDS

    @property
    def _rung_lengths(self) -> tuple[float, ...]:
        """Seconds of a step to each rung, by the clock that the run began with if it had one."""
        if self.spec.throughput is None:
            return ()
        return self._first.rung_seconds if self.spec.extended else self.rung_seconds

    def least_last_seconds(self, candidate: Candidate, trained_seconds: float) -> float:
        """With a clock, what has to be left for a step to the last rung.

        Its learning rate begins at the peak once more, and its files replace those of the step
        before. So it trains at least as much as that one, or all its epochs.

        Args:
            candidate: to be trained.
            trained_seconds: of its step to the rung before, which had one thread.
        """
        in_full = candidate.training.epochs * self.epoch_seconds(candidate)
        return self._last_seconds(min(trained_seconds, in_full))

    def finishing_extension(self, candidate: Candidate, trained_seconds: float) -> int:
        """With a clock, whole tens of seconds more in which a candidate can be finished.

        Half of the searching of an extension is for that; what else a run does, such as training
        the best again, takes the share of an extension that it takes of this plan's time.
        """
        before = self._seconds_before
        all_seconds = (self.spec.budget_seconds or math.inf) - before
        searching = ((self.search_ends_seconds or math.inf) - before) / all_seconds
        least = 2 * self.least_last_seconds(candidate, trained_seconds) / searching
        return 10 * math.ceil(max(self.final_seconds or 0.0, least) / 10)

    def _last_seconds(self, training_seconds: float) -> float:
        """A step to the last rung that does in all its threads what takes one so long."""
        beside = OVERHEAD_SECONDS + CHOOSING_SECONDS
        if self.final_threads > 1:
            beside += START_SECONDS
        faster: float = self.final_threads**CORES_EXPONENT
        return training_seconds / faster + beside

    def finishing_seconds(self, candidates: Iterable[Candidate]) -> float:
        """With a clock, the time in which the best are finished, if these are the best."""
        final = self.final_seconds or 0.0
        faster = self.final_threads**CORES_EXPONENT
        beside = OVERHEAD_SECONDS + CHOOSING_SECONDS
        needed = [
            self.epoch_seconds(candidate) * candidate.training.epochs / faster + beside
            for candidate in candidates
        ]
        if self.final_threads > 1:  # one after the other
            return min(final, sum(needed) + START_SECONDS) if needed else final
        return self.waves * min(final, max(needed, default=final))

    def epoch_seconds(self, candidate: Candidate) -> float:
        """Predicted seconds of one epoch in one slot, validation included."""
        if self.spec.throughput is None:
            raise ValueError("the machine's throughput was not measured")
        counts = self.spec.dataset.counts
        # Validation is a forward pass: about a third of the work of a training image.
        images = counts["training"] + counts["validation"] / 3.0
        return images * train_seconds_per_image(
            candidate.architecture, candidate.training.batch_size, self.spec.throughput
        )

    def with_training(self, candidate: Candidate, costs: Mapping[str, Cost]) -> dict[str, Cost]:
        """Add predicted training time to costs, and check all limits with it."""
        if self.spec.throughput is None:
            return dict(costs)
        epoch = self.epoch_seconds(candidate)
        faster = available_cores() ** CORES_EXPONENT
        frozen, batch = candidate.training.frozen_share, candidate.training.batch_size
        epochs = candidate.training.epochs * (1.0 - frozen + frozen / UNFROZEN_PACE)
        if frozen < 1.0:  # else all layers stay in float32
            epochs *= 1.0 + QUANTIZATION_SHARE * rounding_share(candidate.architecture, batch)
        minutes = epoch * epochs / faster / 60.0
        retrain = Quantity(
            value=minutes,
            low=minutes * RETRAIN_BAND[0],
            high=minutes * RETRAIN_BAND[1],
            kind="estimated",
            basis=(
                "throughput of one slot, measured at the start of the run, scaled to all cores; "
                f"quantization-aware in the last {QUANTIZATION_SHARE:.0%} of its epochs"
            ),
        )
        needed = (MIN_EPOCHS * epoch + OVERHEAD_SECONDS) / 60.0
        allowed = math.inf if self.final_seconds is None else self.final_seconds / 60.0
        late = Excess(limit="candidate_minutes", needed=needed, allowed=allowed)
        limits = {target.name: target.model_limits for target in self.spec.targets}
        timed = {}
        for name, cost in costs.items():
            checked = check_limits(replace(cost, train_minutes=retrain), limits[name])
            over = (*checked.over, late) if needed > allowed else checked.over
            timed[name] = replace(checked, over=over)
        return timed
