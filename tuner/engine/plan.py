"""How a search divides its time: seconds and epochs a candidate, and what cannot be trained."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace

from tuner.cost.fit import check_limits
from tuner.cost.training import train_seconds_per_image
from tuner.spec import Candidate, Cost, Excess, Quantity, RunSpec

MIN_EPOCHS = 15
"""A candidate that cannot be trained for this many epochs in its time is not proposed."""

OVERHEAD_SECONDS = 5.0
"""Tracing, converting and scoring a candidate, beside its training."""

STARTED_LATE_SHARE = 0.6
"""A candidate is started as long as this share of its time is left."""

CORES_EXPONENT = 0.6
"""Retraining on n cores is n to this power faster than in one slot: 1.4 to 1.6 times on 2 cores,
measured on one net; more cores are extrapolated."""

RETRAIN_BAND = (0.6, 1.7)
"""Predicted full retraining time, low and high, relative to the prediction."""


@dataclass(frozen=True, slots=True)
class Share:
    """What one candidate gets: planned epochs, and seconds when a clock limits the search."""

    epochs: int
    seconds: float | None


@dataclass(frozen=True, slots=True)
class Plan:
    """The time plan of one run."""

    spec: RunSpec

    @property
    def candidates(self) -> int:
        """Candidates that the budget is divided among: it grows with the root of the time."""
        if self.spec.max_candidates is not None:
            return self.spec.max_candidates
        minutes = (self.spec.budget_seconds or 0.0) / 60.0
        slots = math.sqrt(self.spec.workers / 2.0)
        return max(2 * self.spec.workers, round(5.0 * slots * math.sqrt(minutes)))

    @property
    def candidate_seconds(self) -> float | None:
        """Wall-clock seconds that a candidate may take in its slot; None without a clock."""
        if self.spec.budget_seconds is None:
            return None
        waves = math.ceil(self.candidates / self.spec.workers)
        return self.spec.budget_seconds / waves

    def share(self, candidate: Candidate, remaining_seconds: float | None) -> Share | None:
        """Epochs and seconds for a candidate that starts now; None if too little time is left."""
        if self.candidate_seconds is None or remaining_seconds is None:
            return Share(candidate.training.epochs, None)
        if not self.starts_another(remaining_seconds):
            return None
        seconds = min(self.candidate_seconds, remaining_seconds) - OVERHEAD_SECONDS
        affordable = int(seconds / self.epoch_seconds(candidate))
        return Share(max(1, min(candidate.training.epochs, affordable)), seconds)

    def starts_another(self, remaining_seconds: float | None) -> bool:
        """Whether enough time is left for one more candidate."""
        if self.candidate_seconds is None or remaining_seconds is None:
            return True
        return remaining_seconds >= STARTED_LATE_SHARE * self.candidate_seconds

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
        faster = self.spec.workers**CORES_EXPONENT
        minutes = epoch * candidate.training.epochs / faster / 60.0
        retrain = Quantity(
            value=minutes,
            low=minutes * RETRAIN_BAND[0],
            high=minutes * RETRAIN_BAND[1],
            kind="estimated",
            basis="throughput of one slot, measured at the start of the run, scaled to all slots",
        )
        needed = (MIN_EPOCHS * epoch + OVERHEAD_SECONDS) / 60.0
        allowed = math.inf if self.candidate_seconds is None else self.candidate_seconds / 60.0
        late = Excess(limit="candidate_minutes", needed=needed, allowed=allowed)
        limits = {target.name: target.model_limits for target in self.spec.targets}
        timed = {}
        for name, cost in costs.items():
            checked = check_limits(replace(cost, train_minutes=retrain), limits[name])
            over = (*checked.over, late) if needed > allowed else checked.over
            timed[name] = replace(checked, over=over)
        return timed
