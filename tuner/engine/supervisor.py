"""The supervisor: holds the run's lock, writes its events, keeps the slots busy."""

from __future__ import annotations

import dataclasses
import json
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from tuner import catalog
from tuner.cost.fit import reasons
from tuner.engine import jobs
from tuner.engine.baselines import KNOWN_NETS, draw_known_net
from tuner.engine.costs import costs_on
from tuner.engine.measuring import Measuring
from tuner.engine.plan import Plan, Share
from tuner.engine.record import FINALISTS, Record
from tuner.engine.repeats import repeat_finalists
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.workplace import ATTEMPTS, GivenUp, Running, Work, Workplace
from tuner.errors import InterruptedRunError, NothingFitsError, TuneError
from tuner.propose.proposer import Proposal, Proposer
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
from tuner.propose.sampler import Told
from tuner.spec import Result, RunSpec, Throughput, to_plain
from tuner.store.files import read_json, write_atomic
from tuner.store.lock import locked
from tuner.store.runs import RunFolder, fold_results
from tuner.train.steps import parts_of_batch

LATE_FACTOR = 2.0
LATE_SECONDS = 60.0
"""With a clock, a candidate is given up after its time x factor + seconds."""

WAITED_FACTOR = 1.25
WAITED_SECONDS = 30.0
"""While the best waits to be finished, a step below the last rung is given up after its time x
factor + seconds. They are for a start on a busy machine, where importing TensorFlow and tracing
take up to 20 s, and for conversion and scoring."""

LATE_SHARE = 0.1
"""Of the time of a step: so much later may it end than planned, and the best still be finished."""

FAILURES_IN_A_ROW = 5
"""So many candidates that fail without one that succeeds have a common cause: the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an observer is shown.

    Args:
        finished: results that are not in work and have been trained, if only to a rung.
        running: results in work, each with its newest epoch as plain data, or nothing yet.
        planned: candidates that the budget is planned for.
        elapsed_seconds: of the whole run, all sessions together.
        budget_seconds: None without a clock.
        phase: what is going on, in a few words.
    """

    finished: Sequence[Result]
    running: Sequence[tuple[Result, Mapping[str, Any]]]
    planned: int
    elapsed_seconds: float
    budget_seconds: float | None
    phase: str


OnEvent = Callable[[Mapping[str, Any]], None]


class Observer(Protocol):
    """Shows a run while it goes on; must not raise."""

    def update(self, progress: Progress) -> None:
        """Called several times a second."""

    def note(self, text: str) -> None:
        """One line worth keeping."""


def ignore_signals() -> None:
    """From the first signal on, further ones must not disturb the cleaning up."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)


class Supervisor:
    """Runs one search from its spec and its events, whether new or resumed.

    Args:
        folder: of the run, with `run.json`.
        proposer_of: makes the proposer once the machine has been measured.
        observer: shows progress.
        plan_of: divides the time.
        started: `time.monotonic()` when the user asked, so that opening the data counts too; None
            for now.
        on_event: called with each event once it is on disk. What it raises is shown once, and the
            run goes on; a KeyboardInterrupt stops the run as Ctrl-C does.
    """

    def __init__(
        self,
        folder: RunFolder,
        proposer_of: Callable[[RunSpec, Plan], Proposer],
        observer: Observer,
        plan_of: Callable[[RunSpec], Plan] = Plan,
        started: float | None = None,
        on_event: OnEvent | None = None,
    ) -> None:
        self._started = started
        self._on_event = on_event
        self._on_event_failed = False
        self._folder = folder
        self._proposer_of = proposer_of
        self._observer = observer
        self._plan_of = plan_of
        self._exhausted = False
        self._repeated = True

    def run(self) -> list[Result]:
        """Search until the budget is used, then score on the test set.

        Returns:
            All results, in the order of proposals.

        Raises:
            LockedError: another process works on this run.
            InterruptedRunError: the user stopped it; it can be resumed.
            NothingFitsError: no candidate fits the limits.
        """
        with (
            locked(self._folder.lock, f"The run '{self._folder.name}'"),
            self._folder.open_log() as log,
        ):
            self._record = Record(self._folder, log, self._started or monotonic(), self._tell)
            self._plan = self._plan_of(self._record.spec)
            self._proposed = {
                event["index"]: event
                for event in self._record.events
                if event["event"] == "proposed"
            }
            self._work = Workplace(self._record.spec.workers, 1, self._folder.path)
            self._measuring = Measuring(self._record, self._work, self._observer.note)
            try:
                self._record.note("opened")
                self._measure()
                self._proposer = self._proposer_of(self._record.spec, self._plan)
                self._repeated = self._record.spec.repeats == 1
                self._search()
                self._say_what_is_too_short()
                self._stop_the_others()
                if self._record.spec.repeats > 1:
                    repeat_finalists(self._record, self._plan, self._on_each, self._observer.note)
                    self._repeated = True
                    self._measure_finalists()
                self._score_on_test()
                self._record.note("ended")
            except KeyboardInterrupt:
                ignore_signals()
                with suppress(KeyboardInterrupt):  # of a callback that stops at every event
                    self._record.note("interrupted")
                raise InterruptedRunError(
                    f"Stopped. Continue with 'tune resume {self._folder.name}'."
                ) from None
            finally:
                self._work.close()
        return [self._record.results[index] for index in sorted(self._record.results)]

    @property
    def _remaining(self) -> float | None:
        """With a clock, seconds until the search ends and the best are trained again."""
        ends = self._plan.search_ends_seconds
        return None if ends is None else ends - self._record.elapsed

    def _tell(self, record: Mapping[str, Any]) -> None:
        """Hand an event to the user's callback, whose errors are not the run's."""
        if self._on_event is None:
            return
        try:
            self._on_event(json.loads(json.dumps(record)))  # as a reader of the log sees it
        except Exception:
            if not self._on_event_failed:
                self._observer.note(
                    f"on_event raised at the event '{record['event']}'; the run goes on, and "
                    f"later errors of it are not shown.\n{traceback.format_exc().rstrip()}"
                )
            self._on_event_failed = True

    def _measure(self) -> None:
        """Where a clock matters, measure the throughput, on all slots at once."""
        timed = any(target.limits.train_minutes for target in self._record.spec.targets)
        if self._record.spec.throughput or not (self._record.spec.budget_seconds or timed):
            return
        for slot in self._work.slots:
            self._start_measuring(slot, attempt=1)
        measured: list[Mapping[str, float]] = []
        while self._work.running:
            for job, outcome in self._work.poll():
                if isinstance(outcome, Died) and job.attempt < ATTEMPTS:
                    self._start_measuring(job.slot, job.attempt + 1)
                elif isinstance(outcome, Died | Raised | GivenUp):
                    raise TuneError(
                        f"This machine could not be measured: {outcome.reason}. See "
                        f"{job.slot.log}; 'tune resume {self._folder.name}' tries again."
                    )
                else:
                    measured.append(outcome)
            self._show("measuring this machine")
        mean = {name: sum(row[name] for row in measured) / len(measured) for name in measured[0]}
        self._record.spec = dataclasses.replace(self._record.spec, throughput=Throughput(**mean))
        self._plan = self._plan_of(self._record.spec)
        self._folder.write_spec(self._record.spec)

    def _start_measuring(self, slot: Slot, attempt: int) -> None:
        progress = self._folder.path / "measure.json"
        self._work.start(
            slot, slot.number, jobs.measure_machine, progress=progress, attempt=attempt
        )

    def _search(self) -> None:
        while True:
            self._stop_if_all_fail()
            self._fill()
            if not self._work.running:
                return
            self._make_way()
            for job, outcome in self._work.poll():
                if self._trains(job):
                    self._collect(job, outcome)
                else:
                    self._measuring.collect(job, outcome)
            measures = self._work.running and not any(map(self._trains, self._work.running))
            self._show("measuring finalists" if measures else "searching")

    def _say_what_is_too_short(self) -> None:
        """Where the time of an extension was too short to start anything, how much finishes one.

        So it may be after a search that was much longer.
        """
        extended, steps = self._record.spec.extended, self._record.steps
        index = steps.to_finish(len(self._plan.rung_shares) - 1)
        if self._remaining is None or not extended or index is None:
            return
        since = extended[-1].elapsed_seconds
        if any(e["event"] == "started" and e["elapsed"] >= since for e in self._record.events):
            return
        candidate = self._record.results[index].candidate
        seconds = self._plan.finishing_extension(candidate, steps.trained_seconds(index))
        self._observer.note(
            "Nothing was trained: the time was too short for a step of any candidate. 'tune "
            f"extend {self._folder.name} --time {seconds}s' finishes {candidate.id}."
        )

    def _make_way(self) -> None:
        """Give up steps that hang, or prepare too long, while the best waits to be finished."""
        remaining = self._remaining
        if remaining is None:
            return
        last = len(self._plan.rung_shares) - 1
        below = {step.index for step in self._record.steps.unfinished() if step.rung < last}
        late = [
            job
            for job in self._work.running
            if self._trains(job)
            and job.key in below
            and not self._record.results[job.key].baseline  # which are trained to their end
            and job.planned_seconds is not None
            and job.seconds > WAITED_FACTOR * job.planned_seconds + WAITED_SECONDS
        ]
        if late and self._decide_on_clock(remaining)[1]:
            for job in late:
                job.given_up = GivenUp(
                    "timed_out",
                    f"not ready after {job.seconds:.0f} s, of {job.planned_seconds:.0f} s planned, "
                    "while the best waited to be finished",
                )

    def _trains(self, job: Running) -> bool:
        """Whether a job trains a candidate, or measures one that was trained to its end."""
        return not self._measuring.is_of(job)

    def _fill(self) -> None:
        """Start work in every free slot.

        What was left unfinished comes first, then the next step; a slot that has nothing to train
        measures a finalist, if only of what has been trained so far. A training that takes the
        whole machine has nothing beside it but simulations, which yield to it.
        """
        for slot in self._work.free_slots():
            wide = any(job.slot.threads > 1 and self._trains(job) for job in self._work.running)
            if wide and not self._plan.measuring_seconds:
                return
            if not wide and self._start_training(slot):
                continue
            if not self._start_measuring_finalist(slot):
                return

    def _start_training(self, slot: Slot) -> bool:
        step = self._waiting() or self._next_step()
        if step is None:
            return False
        result = self._record.results[step.index]
        rung, share = self._rung_and_share(result, step)
        if share is None:
            return False
        self._start(slot, result, rung, share, attempt=1)
        return True

    def _rung_and_share(self, result: Result, step: Step) -> tuple[int, Share | None]:
        """What a step trains to, and with what; a known net goes to its end at once."""
        left = self._remaining
        if not result.baseline:
            trained = self._record.steps.trained_seconds(result.index)
            return step.rung, self._plan.share(result.candidate, step.rung, left, trained)
        last, final = len(self._plan.rung_shares) - 1, self._plan.final_seconds
        if left is not None and final is not None:
            left = min(left, final)
        return last, self._plan.share(result.candidate, last, left)

    def _threads(self, result: Result, rung: int) -> int:
        """That a training to this rung gets; known nets are trained beside others."""
        ends = rung > 0 and rung == len(self._plan.rung_shares) - 1 and not result.baseline
        return self._plan.final_threads if ends else 1

    def _start(self, slot: Slot, result: Result, rung: int, share: Share, attempt: int) -> None:
        self._record.note(
            "started",
            index=result.index,
            rung=rung,
            epochs=share.epochs,
            seconds=share.seconds,
            attempt=attempt,
        )
        folder = self._record.candidate_folder(result.index)
        trained = result.rung
        if trained >= 0 and not (jobs.rung_folder(folder, trained) / jobs.WEIGHTS).exists():
            trained = -1  # it was cut at the end of a session, and 'tune clean' came since
        allowed = None if share.seconds is None else share.seconds * LATE_FACTOR + LATE_SECONDS
        threads = self._threads(result, rung)
        parts = parts_of_batch(result.candidate.training.batch_size, threads)
        self._work.set_worker(slot, threads, parts)
        self._work.start(
            slot,
            result.index,
            jobs.train_candidate,
            to_plain(self._record.spec),
            folder,
            to_plain(result.candidate),
            rung,
            trained,
            share.epochs,
            share.seconds,
            share.last,
            () if share.last else self._record.steps.compared_with(result.index),
            threads,
            progress=folder / "progress.json",
            allowed_seconds=allowed,
            planned_seconds=share.seconds,
            attempt=attempt,
        )

    def _waiting(self) -> Step | None:
        """The first step that is neither done nor running, and has the time that it needs."""
        busy = {job.key for job in self._work.running}
        waiting = (step for step in self._record.steps.unfinished() if step.index not in busy)
        results = self._record.results
        return next(
            (step for step in waiting if self._rung_and_share(results[step.index], step)[1]), None
        )

    def _next_step(self) -> Step | None:
        """Decide on the next step, if it can be decided now, and note it."""
        while True:
            known, decision = self._decide()
            if decision.action in ("wait", "stop") or not self._plan.starts(
                decision.rung, self._remaining
            ):
                return None
            if decision.action == "promote":
                self._record.note(
                    "promoted",
                    index=decision.index,
                    rung=decision.rung,
                    known=known,
                    others=self._record.steps.others(decision.rung, known),
                )
                return self._record.steps.unfinished()[-1]
            if self._propose(known):
                return self._record.steps.unfinished()[-1]

    def _decide(self) -> tuple[int, Decision]:
        """How many steps the next decision knows, and the decision.

        With a clock all that is known counts. Without one, step i knows the steps 0 to i - window
        and no others, so that any number of workers up to the window decides alike.
        """
        steps, groups = self._record.steps, self._plan.groups
        remaining = self._remaining
        if remaining is not None:
            return len(steps), self._decide_on_clock(remaining)[0]
        exhausted = self._no_more_proposals
        known = max(steps.surely_known, len(steps) - self._record.spec.window + 1)
        if not steps.done(known):
            return known, WAIT
        decision = decide(steps.seen(known), self._plan.quotas, groups=groups, exhausted=exhausted)
        if decision == WAIT and steps.done(len(steps)):
            known = len(steps)
            seen = steps.seen(known)
            decision = decide(seen, self._plan.quotas, groups=groups, exhausted=exhausted)
        return known, decision

    @property
    def _no_more_proposals(self) -> bool:
        limit = self._record.spec.max_candidates
        return self._exhausted or (limit is not None and len(self._record.results) >= limit)

    def _decide_on_clock(self, remaining_seconds: float) -> tuple[Decision, bool]:
        """The next decision, and whether the best waits to be finished once no other step runs."""
        last, exhausted = len(self._plan.rung_shares) - 1, self._no_more_proposals
        if last == 0:
            return STOP if exhausted else PROPOSE, False
        steps = self._record.steps
        busy = {job.key for job in self._work.running}
        # What an earlier session left unfinished, and this one has no time for, is not waited for.
        left = {step.index for step in steps.unfinished()} - busy
        seen = [step for step in steps.seen(len(steps)) if step.index not in left]
        best = promotable(seen, range(last))
        needed = {step.index: self._least_last_seconds(step.index) for step in best}
        late = {index for index, seconds in needed.items() if seconds > remaining_seconds}
        final = self._plan.finishing_seconds(
            self._record.results[step.index].candidate for step in best[: self._record.spec.workers]
        )
        ready = finishable(best, late)
        if ready:
            margin = LATE_SHARE * max(self._plan.rung_seconds[:-1])
            final = max(final, needed[ready[0].index] + margin)
        elif best:
            final = 0.0  # too short for finishing one: the rest is for exploring
        decision = decide_on_clock(
            seen,
            self._plan.rung_seconds[:-1],
            remaining_seconds=remaining_seconds,
            final_seconds=final,
            groups=self._plan.groups,
            alone=self._plan.final_threads > 1,
            late=late,
            exhausted=exhausted,
        )
        return decision, bool(ready) and (decision == WAIT or decision.rung == last)

    def _least_last_seconds(self, index: int) -> float:
        """What has to be left for finishing a candidate."""
        return self._plan.least_last_seconds(
            self._record.results[index].candidate, self._record.steps.trained_seconds(index)
        )

    def _propose(self, known: int) -> bool:
        """Propose a candidate from what the first `known` steps gave; False if there is none.

        Known nets come first, where they are asked for.
        """
        if len(self._record.results) < len(self._record.spec.baselines):
            return self._propose_known_net(self._record.spec.baselines[len(self._record.results)])
        scores: dict[int, tuple[int, float]] = {}
        for step in self._record.steps.seen(known):
            # A failure is a result too, the sampler should go elsewhere; but not what was better.
            if step.known and (step.score is not None or step.index not in scores):
                scores[step.index] = (step.rung, step.score or 0.0)
        history = [
            self._told(index, scores.get(index)) for index in range(len(self._record.results))
        ]
        ids = frozenset(result.candidate.id for result in self._record.results.values())
        proposal = self._proposer.propose(history, ids)
        if proposal is None:
            self._exhausted = True
            if not self._record.results:
                unfit = self._proposer.unfit().values()
                raise NothingFitsError(" ".join(unfit) or "No draw of the spaces fits.")
            return False
        self._note_proposal(len(self._record.results), known, proposal)
        return True

    def _propose_known_net(self, name: str) -> bool:
        """Note a known net as a candidate; False if no target has room for it, and it ends so."""
        dataset = self._record.spec.dataset
        outputs = catalog.load_module("tasks", self._record.spec.task).outputs(dataset)
        candidate, choices = draw_known_net(name, dataset, outputs)
        costs = self._plan.with_training(
            candidate, costs_on(candidate.architecture, self._record.spec.targets)
        )
        focus = next((target for target, cost in costs.items() if cost.fits), next(iter(costs)))
        index = len(self._record.results)
        proposal = Proposal(
            candidate=candidate,
            costs=costs,
            space=KNOWN_NETS[name].space,
            choices=choices,
            focus=focus,
            origin="baseline",
        )
        self._note_proposal(index, 0, proposal, baseline=name)
        if not costs[focus].fits:
            reason = reasons(costs[focus])
            self._finish(index, {"status": "over_limit", "reason": f"{name}: {reason}"})
        return costs[focus].fits

    def _note_proposal(
        self, index: int, known: int, proposal: Proposal, baseline: str = ""
    ) -> None:
        event = self._record.note(
            "proposed",
            index=index,
            id=proposal.candidate.id,
            origin=proposal.origin,
            baseline=baseline,
            focus=proposal.focus,
            space=proposal.space,
            choices=to_plain(proposal.choices),
            candidate=to_plain(proposal.candidate),
            costs=to_plain(proposal.costs),
            over_limit=to_plain(proposal.over_limit),
            nearest_miss=to_plain(proposal.nearest_miss) if proposal.nearest_miss else None,
            known=known,
            others=self._record.steps.others(0, known),
        )
        self._proposed[index] = event
        self._record.results[index] = fold_results([event])[0]

    def _told(self, index: int, known: tuple[int, float] | None) -> Told:
        event, result = self._proposed[index], self._record.results[index]
        fits = frozenset(name for name, cost in result.costs.items() if cost.fits)
        if result.baseline:
            fits = frozenset()  # its choices need not be among those of the run's spaces
        rung, score = known or (0, None)
        return Told(
            space=event["space"], choices=event["choices"], fits=fits, rung=rung, score=score
        )

    def _collect(self, job: Running, outcome: Any) -> None:
        result = self._record.results[job.key]
        again = isinstance(outcome, Died) or (
            isinstance(outcome, GivenUp) and outcome.status == "failed"
        )
        step = next(step for step in self._record.steps.unfinished() if step.index == job.key)
        rung, share = self._rung_and_share(result, step)
        if again and job.attempt < ATTEMPTS and share is not None:
            self._observer.note(f"{result.candidate.id}: {outcome.reason}; trying again.")
            self._start(job.slot, result, rung, share, job.attempt + 1)
        elif isinstance(outcome, Died | Raised | GivenUp):
            if isinstance(outcome, Raised):
                folder = self._record.candidate_folder(job.key)
                write_atomic(folder / "error.log", outcome.traceback)
            status = outcome.status if isinstance(outcome, GivenUp) else "failed"
            self._lose_step(result, rung, status, outcome.reason)
        else:
            self._trained(result, outcome)

    def _trained(self, result: Result, outcome: Mapping[str, Any]) -> None:
        """Note what a step gave; new builds replace what the rung before left."""
        self._record.note(
            "finished" if "status" in outcome else "rung", index=result.index, **outcome
        )
        self._record.refold(result.index)
        jobs.drop_replaced(self._record.candidate_folder(result.index), result.rung, outcome)

    def _lose_step(self, result: Result, rung: int, status: str, reason: str) -> None:
        """A step gave nothing: its candidate ends, with what an earlier rung left it, if any."""
        if result.rung < 0:
            self._finish(result.index, {"status": status, "reason": reason})
            return
        why = (
            f"not trained to rung {rung}: {reason.rstrip('.')}; it is as it was at rung "
            f"{result.rung}, after {result.epochs} epochs, and 'tune select {self._folder.name} "
            f"{result.candidate.id}' and 'tune retrain' train it in full"
        )
        self._finish(
            result.index,
            {
                "status": "stopped",
                "reason": why,
                "rung": result.rung,
                "step_status": status,
                "step_reason": reason,
            },
        )

    def _finish(self, index: int, fields: Mapping[str, Any]) -> None:
        self._record.note("finished", index=index, **fields)
        result = self._record.refold(index)
        self._observer.note(f"{result.candidate.id}: {result.status}: {result.reason}")

    def _stop_the_others(self) -> None:
        """What was not promoted has come to its end."""
        last = len(self._plan.rung_shares) - 1
        for result in list(self._record.results.values()):
            if result.status is None and result.rung >= 0:
                better = sum(
                    other.rung > result.rung or other.status == "ok"
                    for other in self._record.results.values()
                )
                self._record.note(
                    "finished",
                    index=result.index,
                    status="stopped",
                    reason=f"cut at rung {result.rung} of {last}, after {result.epochs} epochs; "
                    f"{better} others went on",
                )
                self._record.refold(result.index)

    def _stop_if_all_fail(self) -> None:
        session = self._record.events[self._record.session_start :]
        ends = [event for event in session if event["event"] in ("rung", "finished")]
        last = ends[-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(
            event["event"] == "finished"
            and event.get("step_status", event["status"]) not in ("ok", "stopped")
            for event in last
        ):
            reason = last[-1].get("step_reason", last[-1]["reason"])
            raise TuneError(
                f"The last {FAILURES_IN_A_ROW} candidates of '{self._folder.name}' failed, the "
                f"latest with: {reason}. Mend the cause, then go on with "
                f"'tune resume {self._folder.name}', or start a new run."
            )

    def _measure_finalists(self) -> None:
        """Measure those that further trainings put among the best."""
        while True:
            for slot in self._work.free_slots():
                if not self._start_measuring_finalist(slot):
                    break
            if not self._work.running:
                return
            for job, outcome in self._work.poll():
                self._measuring.collect(job, outcome)
            self._show("measuring finalists")

    def _start_measuring_finalist(self, slot: Slot) -> bool:
        """Measure one that is a finalist in any case; where they are trained again, then first."""
        may_end = self._may_end()
        yields = may_end and self._plan.final_threads > 1 and self._plan.measuring_seconds
        return self._repeated and self._measuring.start(
            slot, FINALISTS - may_end, self._remaining, yields=bool(yields)
        )

    def _may_end(self) -> int:
        """How many more may be trained to their end, when nothing can be started now.

        With a clock that is not known; then it is what is being trained.
        """
        running = sum(map(self._trains, self._work.running))
        if not running or self._record.spec.budget_seconds is not None:
            return running
        last = len(self._plan.quotas) - 1
        steps = self._record.steps.seen(len(self._record.steps))
        return self._plan.quotas[last] - sum(step.known for step in steps if step.rung == last)

    def _score_on_test(self) -> None:
        """Score each `ok` candidate on the test set, once; nothing reads it but the report."""
        if not self._record.spec.dataset.counts["test"]:
            return

        def collect(result: Result, outcome: Mapping[str, Any]) -> None:
            self._record.note("tested", index=result.index, accuracy=outcome)

        work = [
            self._work_on_builds(index)
            for index, result in self._record.results.items()
            if result.status == "ok" and result.accuracy("int8", "test") is None
        ]
        self._on_each(work, jobs.score_on_test, collect, "scoring on the test set")

    def _work_on_builds(self, index: int, *arguments: Any) -> Work:
        """What a job on a candidate's builds gets, which writes no progress."""
        result = self._record.results[index]
        return Work(
            index=index,
            progress=self._record.candidate_folder(index) / "job.json",
            arguments=(to_plain(result.candidate), to_plain(result.builds), *arguments),
        )

    def _on_each(
        self,
        work: Sequence[Work],
        job: Callable[..., Any],
        collect: Callable[[Result, Mapping[str, Any]], None],
        phase: str,
        starts: Callable[[Result], bool] = lambda result: True,
    ) -> None:
        """Run a job in the slots on each piece of work, as long as `starts` says so."""
        waiting = [(item, 1) for item in work]
        going: dict[int, Work] = {}
        while waiting or self._work.running:
            for slot in self._work.free_slots():
                while waiting:
                    item, attempt = waiting.pop(0)
                    if not starts(self._record.results[item.index]):
                        continue
                    going[slot.number] = item
                    self._work.start(
                        slot,
                        item.index,
                        job,
                        to_plain(self._record.spec),
                        self._record.candidate_folder(item.index),
                        *item.arguments,
                        progress=item.progress,
                        attempt=attempt,
                    )
                    break
            for done, outcome in self._work.poll():
                result = self._record.results[done.key]
                if not isinstance(outcome, Died | Raised | GivenUp):
                    collect(result, outcome)
                    self._record.refold(done.key)
                elif isinstance(outcome, Died) and done.attempt < ATTEMPTS:
                    waiting.append((going[done.slot.number], done.attempt + 1))
                else:
                    self._observer.note(f"{result.candidate.id}: {phase}: {outcome.reason}")
            self._show(phase)

    def _show(self, phase: str) -> None:
        running = []
        busy = {job.key for job in self._work.running}
        for job in self._work.running:
            if job.key in self._record.results:
                epoch = read_json(job.progress) if job.progress.exists() else {}
                running.append((self._record.results[job.key], epoch))
        self._observer.update(
            Progress(
                finished=[
                    result
                    for result in self._record.results.values()
                    if result.status or (result.rung >= 0 and result.index not in busy)
                ],
                running=running if phase != "measuring this machine" else (),
                planned=self._plan.candidates,
                elapsed_seconds=self._record.elapsed,
                budget_seconds=self._record.spec.budget_seconds,
                phase=phase,
            )
        )
