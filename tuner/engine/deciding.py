"""Which step a free slot takes next, what it gets, and which steps have to make way for it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import mean

from tuner.engine.plan import Plan, Share
from tuner.engine.proposing import Proposing
from tuner.engine.record import Record
from tuner.engine.workplace import Running
from tuner.propose.rungs import (
    PROPOSE,
    STOP,
    WAIT,
    Decision,
    Step,
    decide,
    decide_on_clock,
    finishable,
    promotable,
)
from tuner.spec import Result

WAITED_FACTOR = 1.25
WAITED_SECONDS = 30.0
"""While the best waits to be finished, a step below the last rung is given up after its time x
factor + seconds. They are for a start on a busy machine, where importing TensorFlow and tracing
take up to 20 s, and for conversion and scoring."""

LATE_SHARE = 0.1
"""Of the time of a step: so much later may it end than planned, and the best still be finished."""


class Deciding:
    """The decisions of a search, from its record and the time that is left.

    Args:
        record: of the run, in which promotions and proposals are noted.
        plan: of its time.
        proposing: new candidates.
    """

    def __init__(self, record: Record, plan: Plan, proposing: Proposing) -> None:
        self._record, self._plan, self._proposing = record, plan, proposing

    @property
    def remaining_seconds(self) -> float | None:
        """With a clock, seconds until the search ends and the best are trained again."""
        ends = self._plan.search_ends_seconds
        return None if ends is None else ends - self._record.elapsed

    @property
    def _last(self) -> int:
        return len(self._plan.rung_shares) - 1

    def rung_and_share(self, result: Result, step: Step) -> tuple[int, Share | None]:
        """What a step trains to, and with what; a known net goes to its end at once."""
        left = self.remaining_seconds
        if not result.baseline:
            trained = self._record.steps.trained_seconds(result.index)
            pace = self._epoch_seconds(result.index) if 0 < step.rung < self._last else None
            return step.rung, self._plan.share(result.candidate, step.rung, left, trained, pace)
        final = self._plan.final_seconds
        if left is not None and final is not None:
            left = min(left, final)
        threads = self.threads(result, self._last)
        return self._last, self._plan.share(result.candidate, self._last, left, threads=threads)

    def threads(self, result: Result, rung: int) -> int:
        """That a training to this rung gets; known nets are trained beside others."""
        ends = rung > 0 and rung == self._last and not result.baseline
        return self._plan.final_threads if ends else 1

    def next_step(self, training: Sequence[Running]) -> Step | None:
        """What was left unfinished and has the time that it needs, or what is decided on now.

        Args:
            training: what is running.
        """
        busy = {job.key for job in training}
        waiting = (step for step in self._record.steps.unfinished() if step.index not in busy)
        results = self._record.results
        left = (step for step in waiting if self.rung_and_share(results[step.index], step)[1])
        return next(left, None) or self._new_step(training)

    def _new_step(self, training: Sequence[Running]) -> Step | None:
        """Decide on the next step, if it can be decided now, and note it."""
        while True:
            known, decision = self._decide(training)
            if decision.action in ("wait", "stop") or not self._starts(decision):
                return None
            if decision.action == "promote":
                steps, index, rung = self._record.steps, decision.index, decision.rung
                others = steps.others(rung, known, steps.group(index))
                self._record.note("promoted", index=index, rung=rung, known=known, others=others)
                return self._record.steps.unfinished()[-1]
            if self._proposing.propose(known):
                return self._record.steps.unfinished()[-1]

    def _starts(self, decision: Decision) -> bool:
        """Whether enough time is left for what was decided."""
        remaining, seconds = self.remaining_seconds, math.inf
        if decision.action == "promote" and remaining is not None:
            if decision.rung == self._last:
                return True  # what would be late is not promoted to it
            seconds = self._promoted_seconds(decision.index, decision.rung)
        return self._plan.starts(decision.rung, remaining, seconds)

    def _decide(self, training: Sequence[Running]) -> tuple[int, Decision]:
        """How many steps the next decision knows, and the decision.

        With a clock all that is known counts. Without one, step i knows the steps 0 to i - window
        and no others, so that any number of workers up to the window decides alike.
        """
        steps, groups = self._record.steps, self._plan.groups
        remaining = self.remaining_seconds
        if remaining is not None:
            return len(steps), self._decide_on_clock(training, remaining)[0]
        exhausted = self._proposing.exhausted
        known = max(steps.surely_known, len(steps) - self._record.spec.window + 1)
        if not steps.done(known):
            return known, WAIT
        decision = decide(steps.seen(known), self._plan.quotas, groups=groups, exhausted=exhausted)
        if decision == WAIT and steps.done(len(steps)):
            known = len(steps)
            seen = steps.seen(known)
            decision = decide(seen, self._plan.quotas, groups=groups, exhausted=exhausted)
        return known, decision

    def _decide_on_clock(
        self, training: Sequence[Running], remaining_seconds: float
    ) -> tuple[Decision, bool]:
        """The next decision, and whether the best waits to be finished once no other step runs."""
        last, exhausted = self._last, self._proposing.exhausted
        if last == 0:
            return STOP if exhausted else PROPOSE, False
        steps = self._record.steps
        busy = {job.key for job in training}
        # What an earlier session left unfinished, and this one has no time for, is not waited for.
        left = {step.index for step in steps.unfinished()} - busy
        seen = [step for step in steps.seen(len(steps)) if step.index not in left]
        best = promotable(seen, range(last))
        needed = {step.index: self._least_last_seconds(step.index) for step in best}
        late = {index for index, seconds in needed.items() if seconds > remaining_seconds}
        # While nothing that is known can be finished, all that is left is for exploring; a step
        # that runs and is promoted later has less for its last rung, by a new one's rung 0.
        final = 0.0
        ready = finishable(best, late)
        if ready:
            final = self._plan.finishing_seconds(
                self._record.results[step.index].candidate
                for step in best[: self._record.spec.workers]
            )
            margin = LATE_SHARE * max(self._plan.rung_seconds[:-1])
            final = max(final, needed[ready[0].index] + margin)
        decision = decide_on_clock(
            seen,
            self._new_seconds(),
            self._promoted_seconds,
            remaining_seconds=remaining_seconds,
            final_seconds=final,
            groups=self._plan.groups,
            alone=self._plan.final_threads > 1,
            late=late,
            exhausted=exhausted,
        )
        return decision, bool(ready) and (decision == WAIT or decision.rung == last)

    def _new_seconds(self) -> list[float]:
        """By rung but the last, what a new candidate's step takes: the mean of what others take.

        To rung 0 it is the most: what starts last must not take the time for finishing the best.
        """
        seconds = list(self._plan.rung_seconds[:-1])
        trained = [index for index, result in self._record.results.items() if result.epochs]
        for rung in range(1, len(seconds) if trained else 0):
            seconds[rung] = mean(self._promoted_seconds(index, rung) for index in trained)
        return seconds

    def _promoted_seconds(self, index: int, rung: int) -> float:
        """With a clock, what a candidate's step to a rung between the first and the last takes."""
        candidate = self._record.results[index].candidate
        return self._plan.step_seconds(candidate, rung, self._epoch_seconds(index))

    def _epoch_seconds(self, index: int) -> float:
        """What an epoch took in the steps that a candidate was trained to."""
        result = self._record.results[index]
        return result.train_seconds / result.epochs

    def _least_last_seconds(self, index: int) -> float:
        """What has to be left for finishing a candidate."""
        return self._plan.least_last_seconds(
            self._record.results[index].candidate, self._record.steps.trained_seconds(index)
        )

    def in_the_way(self, training: Sequence[Running]) -> list[Running]:
        """Steps that hang, or prepare too long, while the best waits to be finished.

        Args:
            training: what is running.
        """
        remaining = self.remaining_seconds
        if remaining is None:
            return []
        below = {step.index for step in self._record.steps.unfinished() if step.rung < self._last}
        late = [
            job
            for job in training
            if job.key in below
            and not self._record.results[job.key].baseline  # which are trained to their end
            and job.planned_seconds is not None
            and job.seconds > WAITED_FACTOR * job.planned_seconds + WAITED_SECONDS
        ]
        return late if late and self._decide_on_clock(training, remaining)[1] else []
