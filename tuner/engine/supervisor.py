"""The supervisor: holds the run's lock, writes its events, keeps the slots busy."""

from __future__ import annotations

import dataclasses
import json
import signal
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from tuner import catalog
from tuner.cost.fit import check_limits, reasons
from tuner.engine import finalists, jobs
from tuner.engine.baselines import KNOWN_NETS, draw_known_net
from tuner.engine.board import as_seen_by
from tuner.engine.costs import costs_on
from tuner.engine.plan import Plan, Share
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.steps import Steps
from tuner.engine.workplace import GivenUp, Running, Workplace
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
    promotable,
)
from tuner.propose.sampler import Told
from tuner.rank.order import rank_results
from tuner.spec import Quantity, Result, RunSpec, Target, Throughput, from_plain, to_plain
from tuner.store.files import read_json, write_atomic
from tuner.store.lock import locked
from tuner.store.runs import RunFolder, fold_results
from tuner.train.loop import parts_of_batch

LATE_FACTOR = 2.0
LATE_SECONDS = 60.0
"""With a clock, a candidate is given up after its time x factor + seconds."""

FINALISTS = 5
"""So many candidates of each target are trained again, if that is asked for, and measured by its
runtime's own tool, if it has one."""

SIMULATED_SHARE = 0.3
"""Of the budget, in one slot, for running finalists of a target in its simulator."""

ATTEMPTS = 2
"""A job whose worker died or took too much memory is tried again, once, in a fresh worker."""

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """A job on a candidate that has been trained.

    Args:
        index: of the candidate.
        progress: a file that the job may write again and again.
        arguments: of the job, after the run and the candidate's folder.
    """

    index: int
    progress: Path
    arguments: tuple[Any, ...]


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
        self._asked: set[tuple[int, str]] = set()
        self._missing: set[str] = set()
        self._all_measured_at = -1
        self._repeated = True
        self._measured_now: set[int] = set()

    def run(self) -> list[Result]:
        """Search until the budget is used, then score on the test set.

        Returns:
            All results, in the order of proposals.

        Raises:
            LockedError: another process works on this run.
            InterruptedRunError: the user stopped it; it can be resumed.
            NothingFitsError: no candidate fits the limits.
        """
        with locked(self._folder.lock, f"The run '{self._folder.name}'"):
            self._spec = self._folder.spec()
            self._plan = self._plan_of(self._spec)
            with self._folder.open_log() as log:
                self._log = log
                self._events = self._folder.events()
                self._results = {result.index: result for result in fold_results(self._events)}
                self._proposed = {
                    event["index"]: event for event in self._events if event["event"] == "proposed"
                }
                self._steps = Steps(self._spec)
                for event in self._events:
                    self._steps.take(event)
                self._session_start = len(self._events)
                used = max((event.get("elapsed", 0.0) for event in self._events), default=0.0)
                self._opened = (self._started or monotonic()) - used
                self._work = Workplace(self._spec.workers, 1, self._folder.path)
                try:
                    self._note("opened")
                    self._measure()
                    self._proposer = self._proposer_of(self._spec, self._plan)
                    self._repeated = self._spec.repeats == 1
                    self._search()
                    self._stop_the_others()
                    if self._spec.repeats > 1:
                        self._repeat_finalists()
                        self._repeated = True
                        self._measure_finalists()
                    self._score_on_test()
                    self._note("ended")
                except KeyboardInterrupt:
                    ignore_signals()
                    with suppress(KeyboardInterrupt):  # of a callback that stops at every event
                        self._note("interrupted")
                    raise InterruptedRunError(
                        f"Stopped. Continue with 'tune resume {self._folder.name}'."
                    ) from None
                finally:
                    self._work.close()
        return [self._results[index] for index in sorted(self._results)]

    @property
    def _elapsed(self) -> float:
        return monotonic() - self._opened

    @property
    def _remaining(self) -> float | None:
        """With a clock, seconds until the search ends and the best are trained again."""
        ends = self._plan.search_ends_seconds
        return None if ends is None else ends - self._elapsed

    def _note(self, event: str, **fields: Any) -> dict[str, Any]:
        record = self._log.append(event, elapsed=round(self._elapsed, 2), **fields)
        self._events.append(record)
        self._steps.take(record)
        self._tell(record)
        return record

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

    def _candidate_folder(self, index: int) -> Path:
        return self._folder.candidate(self._results[index].candidate.id)

    def _measure(self) -> None:
        """Where a clock matters, measure the throughput, on all slots at once."""
        timed = any(target.limits.train_minutes for target in self._spec.targets)
        if self._spec.throughput or not (self._spec.budget_seconds or timed):
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
        self._spec = dataclasses.replace(self._spec, throughput=Throughput(**mean))
        self._plan = self._plan_of(self._spec)
        self._folder.write_spec(self._spec)

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
            for job, outcome in self._work.poll():
                if self._trains(job):
                    self._collect(job, outcome)
                else:
                    self._collect_measured(job, outcome)
            measures = self._work.running and not any(map(self._trains, self._work.running))
            self._show("measuring finalists" if measures else "searching")

    def _trains(self, job: Running) -> bool:
        """Whether a job trains a candidate, or measures one that was trained to its end."""
        return job.key not in self._measured_now

    def _fill(self) -> None:
        """Start work in every free slot.

        What was left unfinished comes first, then the next step; a slot that has nothing to train
        measures a finalist, if only of what has been trained so far. A training that takes the
        whole machine has nothing beside it.
        """
        for slot in self._work.free_slots():
            if any(job.slot.threads > 1 and self._trains(job) for job in self._work.running):
                return
            if not self._start_training(slot) and not self._start_measuring_finalist(slot):
                return

    def _start_training(self, slot: Slot) -> bool:
        step = self._waiting() or self._next_step()
        if step is None:
            return False
        result = self._results[step.index]
        rung, share = self._rung_and_share(result, step)
        if share is None:
            return False
        self._start(slot, result, rung, share, attempt=1)
        return True

    def _rung_and_share(self, result: Result, step: Step) -> tuple[int, Share | None]:
        """What a step trains to, and with what; a known net goes to its end at once."""
        left = self._remaining
        if not result.baseline:
            return step.rung, self._plan.share(result.candidate, step.rung, left)
        last, final = len(self._plan.rung_shares) - 1, self._plan.final_seconds
        if left is not None and final is not None:
            left = min(left, final)
        return last, self._plan.share(result.candidate, last, left)

    def _threads(self, result: Result, rung: int) -> int:
        """That a training to this rung gets; known nets are trained beside others."""
        ends = rung > 0 and rung == len(self._plan.rung_shares) - 1 and not result.baseline
        return self._plan.final_threads if ends else 1

    def _start(self, slot: Slot, result: Result, rung: int, share: Share, attempt: int) -> None:
        self._note(
            "started",
            index=result.index,
            rung=rung,
            epochs=share.epochs,
            seconds=share.seconds,
            attempt=attempt,
        )
        folder = self._candidate_folder(result.index)
        trained = result.rung
        if trained >= 0 and not (jobs.rung_folder(folder, trained) / jobs.WEIGHTS).exists():
            trained = -1  # it was cut at the end of a session, and 'tune clean' came since
        allowed = None if share.seconds is None else share.seconds * LATE_FACTOR + LATE_SECONDS
        threads = self._threads(result, rung)
        parts = parts_of_batch(result.candidate.training.batch_size, threads)
        self._work.set_threads(slot, threads, parts)
        self._work.start(
            slot,
            result.index,
            jobs.train_candidate,
            to_plain(self._spec),
            folder,
            to_plain(result.candidate),
            rung,
            trained,
            share.epochs,
            share.seconds,
            share.last,
            () if share.last else self._steps.compared_with(result.index),
            threads,
            progress=folder / "progress.json",
            allowed_seconds=allowed,
            attempt=attempt,
        )

    def _waiting(self) -> Step | None:
        """The first step that is neither done nor running."""
        busy = {job.key for job in self._work.running}
        return next((step for step in self._steps.unfinished() if step.index not in busy), None)

    def _next_step(self) -> Step | None:
        """Decide on the next step, if it can be decided now, and note it."""
        while True:
            known, decision = self._decide()
            if decision.action in ("wait", "stop") or not self._plan.starts(
                decision.rung, self._remaining
            ):
                return None
            if decision.action == "promote":
                self._note(
                    "promoted",
                    index=decision.index,
                    rung=decision.rung,
                    known=known,
                    others=self._steps.others(decision.rung, known),
                )
                return self._steps.unfinished()[-1]
            if self._propose(known):
                return self._steps.unfinished()[-1]

    def _decide(self) -> tuple[int, Decision]:
        """How many steps the next decision knows, and the decision.

        With a clock all that is known counts. Without one, step i knows the steps 0 to i - window
        and no others, so that any number of workers up to the window decides alike.
        """
        steps, groups = self._steps, self._plan.groups
        limit = self._spec.max_candidates
        exhausted = self._exhausted or (limit is not None and len(self._results) >= limit)
        if self._remaining is not None:
            known = len(steps)
            if len(self._plan.rung_shares) == 1:
                return known, STOP if exhausted else PROPOSE
            seen = steps.seen(known)
            before_last = range(len(self._plan.rung_shares) - 1)
            best = promotable(seen, before_last)[: self._spec.workers]
            return known, decide_on_clock(
                seen,
                self._plan.rung_seconds[:-1],
                remaining_seconds=self._remaining,
                final_seconds=self._plan.finishing_seconds(
                    self._results[step.index].candidate for step in best
                ),
                groups=groups,
                alone=self._plan.final_threads > 1,
                exhausted=exhausted,
            )
        known = max(steps.surely_known, len(steps) - self._spec.window + 1)
        if not steps.done(known):
            return known, WAIT
        decision = decide(steps.seen(known), self._plan.quotas, groups=groups, exhausted=exhausted)
        if decision == WAIT and steps.done(len(steps)):
            known = len(steps)
            seen = steps.seen(known)
            decision = decide(seen, self._plan.quotas, groups=groups, exhausted=exhausted)
        return known, decision

    def _propose(self, known: int) -> bool:
        """Propose a candidate from what the first `known` steps gave; False if there is none.

        Known nets come first, where they are asked for.
        """
        if len(self._results) < len(self._spec.baselines):
            return self._propose_known_net(self._spec.baselines[len(self._results)])
        scores: dict[int, tuple[int, float]] = {}
        for step in self._steps.seen(known):
            if step.known:  # a failure is a result too: the sampler should go elsewhere
                scores[step.index] = (step.rung, step.score or 0.0)
        history = [self._told(index, scores.get(index)) for index in range(len(self._results))]
        ids = frozenset(result.candidate.id for result in self._results.values())
        proposal = self._proposer.propose(history, ids)
        if proposal is None:
            self._exhausted = True
            if not self._results:
                unfit = self._proposer.unfit().values()
                raise NothingFitsError(" ".join(unfit) or "No draw of the spaces fits.")
            return False
        self._note_proposal(len(self._results), known, proposal)
        return True

    def _propose_known_net(self, name: str) -> bool:
        """Note a known net as a candidate; False if no target has room for it, and it ends so."""
        dataset = self._spec.dataset
        outputs = catalog.load_module("tasks", self._spec.task).outputs(dataset)
        candidate, choices = draw_known_net(name, dataset, outputs)
        costs = self._plan.with_training(
            candidate, costs_on(candidate.architecture, self._spec.targets)
        )
        focus = next((target for target, cost in costs.items() if cost.fits), next(iter(costs)))
        index = len(self._results)
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
        event = self._note(
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
            others=self._steps.others(0, known),
        )
        self._proposed[index] = event
        self._results[index] = fold_results([event])[0]

    def _told(self, index: int, known: tuple[int, float] | None) -> Told:
        event, result = self._proposed[index], self._results[index]
        fits = frozenset(name for name, cost in result.costs.items() if cost.fits)
        if result.baseline:
            fits = frozenset()  # its choices need not be among those of the run's spaces
        rung, score = known or (0, None)
        return Told(
            space=event["space"], choices=event["choices"], fits=fits, rung=rung, score=score
        )

    def _collect(self, job: Running, outcome: Any) -> None:
        result = self._results[job.key]
        again = isinstance(outcome, Died) or (
            isinstance(outcome, GivenUp) and outcome.status == "failed"
        )
        step = next(step for step in self._steps.unfinished() if step.index == job.key)
        rung, share = self._rung_and_share(result, step)
        if again and job.attempt < ATTEMPTS and share is not None:
            self._observer.note(f"{result.candidate.id}: {outcome.reason}; trying again.")
            self._start(job.slot, result, rung, share, job.attempt + 1)
        elif isinstance(outcome, Died):
            self._finish(job.key, {"status": "failed", "reason": outcome.reason})
        elif isinstance(outcome, Raised):
            write_atomic(self._candidate_folder(job.key) / "error.log", outcome.traceback)
            self._finish(job.key, {"status": "failed", "reason": outcome.reason})
        elif isinstance(outcome, GivenUp):
            self._finish(job.key, {"status": outcome.status, "reason": outcome.reason})
        else:
            self._trained(result, outcome)

    def _trained(self, result: Result, outcome: Mapping[str, Any]) -> None:
        """Note what a step gave; new builds replace what the rung before left."""
        self._note("finished" if "status" in outcome else "rung", index=result.index, **outcome)
        self._refold(result.index)
        jobs.drop_replaced(self._candidate_folder(result.index), result.rung, outcome)

    def _finish(self, index: int, fields: Mapping[str, Any]) -> None:
        self._note("finished", index=index, **fields)
        result = self._refold(index)
        self._observer.note(f"{result.candidate.id}: {result.status}: {result.reason}")

    def _stop_the_others(self) -> None:
        """What was not promoted has come to its end."""
        last = len(self._plan.rung_shares) - 1
        for result in list(self._results.values()):
            if result.status is None and result.rung >= 0:
                better = sum(
                    other.rung > result.rung or other.status == "ok"
                    for other in self._results.values()
                )
                self._note(
                    "finished",
                    index=result.index,
                    status="stopped",
                    reason=f"cut at rung {result.rung} of {last}, after {result.epochs} epochs; "
                    f"{better} others went on",
                )
                self._refold(result.index)

    def _stop_if_all_fail(self) -> None:
        session = self._events[self._session_start :]
        ends = [event for event in session if event["event"] in ("rung", "finished")]
        last = ends[-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(
            event["event"] == "finished" and event["status"] not in ("ok", "stopped")
            for event in last
        ):
            raise TuneError(
                f"The last {FAILURES_IN_A_ROW} candidates of '{self._folder.name}' failed, the "
                f"latest with: {last[-1]['reason']}. Mend the cause, then go on with "
                f"'tune resume {self._folder.name}', or start a new run."
            )

    def _refold(self, index: int) -> Result:
        events = [event for event in self._events if event.get("index") == index]
        self._results[index] = fold_results(events)[0]
        return self._results[index]

    def _repeat_finalists(self) -> None:
        """Train each target's best again, from other seeds, until none of them is without that.

        Means put others in front, which are trained again in turn. Where a clock runs, a training
        starts if the time left is enough for it.
        """
        asked: set[tuple[int, int]] = set()
        late = 0

        def collect(result: Result, outcome: Mapping[str, Any]) -> None:
            self._note("repeated", index=result.index, **outcome)

        def in_time(result: Result) -> bool:
            nonlocal late
            budget = self._spec.budget_seconds
            left = None if budget is None else budget - self._elapsed
            starts = self._plan.repeats_in_time(result, left)
            late += not starts
            return starts

        while wanted := [item for item in self._unrepeated_finalists() if item not in asked]:
            asked.update(wanted)
            work = [
                Work(
                    index=index,
                    progress=jobs.repeat_folder(self._candidate_folder(index), repeat)
                    / jobs.PROGRESS,
                    arguments=(
                        to_plain(self._results[index].candidate),
                        repeat,
                        self._trainings(index),
                    ),
                )
                for index, repeat in wanted
            ]
            self._on_each(work, jobs.repeat_candidate, collect, "training finalists again", in_time)
        if late:
            self._observer.note(
                f"The time was not enough for {late} of {len(asked)} further trainings of "
                "finalists; the board says how many each has."
            )

    def _unrepeated_finalists(self) -> list[tuple[int, int]]:
        """Trainings that finalists lack, by index and number, the second of each first."""
        wanted: dict[tuple[int, int], None] = {}
        for target in self._spec.targets:
            for result in self._finalists(target):
                for repeat in range(1, self._spec.repeats):
                    if repeat not in result.repeated:
                        wanted[result.index, repeat] = None
        return sorted(wanted, key=lambda item: item[1])

    def _trainings(self, index: int) -> list[tuple[int, int, float | None]]:
        """Rung, epochs and seconds of each training that a candidate was taken through."""
        planned = {
            event["rung"]: (event["rung"], event["epochs"], event["seconds"])
            for event in self._events
            if event["event"] == "started" and event["index"] == index
        }
        return [planned[rung] for rung in sorted(planned)]

    def _measure_finalists(self) -> None:
        """Measure those that further trainings put among the best."""
        while True:
            for slot in self._work.free_slots():
                if not self._start_measuring_finalist(slot):
                    break
            if not self._work.running:
                return
            for job, outcome in self._work.poll():
                self._collect_measured(job, outcome)
            self._show("measuring finalists")

    def _start_measuring_finalist(self, slot: Slot) -> bool:
        """Where a runtime has a tool that measures or simulates, ask it about a target's best.

        What a measurement puts over a limit, or a simulation below others, makes way for others,
        which are measured in turn.
        """
        room = FINALISTS - self._may_end()
        if not self._repeated or room <= 0 or self._all_measured_at == len(self._events):
            return False
        wanted: dict[int, list[str]] = {}
        for target in filter(finalists.can_measure, self._spec.targets):
            for result in self._finalists(target, room):
                asked = (result.index, target.name) in self._asked
                if not asked and target.name not in result.measured:
                    wanted.setdefault(result.index, []).append(target.name)
        if not wanted:
            self._all_measured_at = len(self._events)
            return False
        busy = {job.key for job in self._work.running}
        index = next((index for index in wanted if index not in busy), None)
        if index is None:
            return False
        names = wanted[index]
        self._asked.update((index, name) for name in names)
        self._measure_on(slot, self._results[index], names, attempt=1)
        return True

    def _measure_on(self, slot: Slot, result: Result, names: Sequence[str], attempt: int) -> None:
        budget = self._spec.budget_seconds
        folder = self._candidate_folder(result.index)
        self._measured_now.add(result.index)
        self._work.start(
            slot,
            result.index,
            finalists.measure_builds,
            to_plain(self._spec),
            folder,
            to_plain(result.candidate),
            to_plain(result.builds),
            names,
            None if budget is None else SIMULATED_SHARE * budget / FINALISTS,
            progress=folder / "measuring.json",
            attempt=attempt,
        )

    def _collect_measured(self, job: Running, outcome: Any) -> None:
        result = self._results[job.key]
        self._measured_now.discard(job.key)
        if isinstance(outcome, Died) and job.attempt < ATTEMPTS:
            asked = [name for index, name in self._asked if index == job.key]
            names = sorted(set(asked) - set(result.measured))
            self._measure_on(job.slot, result, names, job.attempt + 1)
        elif isinstance(outcome, Died | Raised | GivenUp):
            self._observer.note(f"{result.candidate.id}: measuring: {outcome.reason}")
        else:
            for reason in set(outcome["missing"]) - self._missing:
                self._observer.note(reason)
                self._missing.add(reason)
            if outcome["measured"]:
                self._note(
                    "measured",
                    index=result.index,
                    measured=outcome["measured"],
                    over=self._over_when_measured(result, outcome["measured"]),
                    builds=outcome["builds"],
                )
                self._refold(result.index)

    def _finalists(self, target: Target, room: int = FINALISTS) -> list[Result]:
        """The best for a target of those trained to their end.

        With room for those that may still end as better ones, these are among the best in any
        case: the same ones are measured whenever slots have time for it.
        """
        ended = [result for result in self._results.values() if result.status == "ok"]
        seen = [as_seen_by(result, target) for result in ended]
        rows = rank_results(seen, target.name, self._spec.rank_by) if seen else []
        return [row.result for row in rows if row.fits][:room]

    def _may_end(self) -> int:
        """How many more may be trained to their end, when nothing can be started now.

        With a clock that is not known; then it is what is being trained.
        """
        running = sum(map(self._trains, self._work.running))
        if not running or self._spec.budget_seconds is not None:
            return running
        last = len(self._plan.quotas) - 1
        steps = self._steps.seen(len(self._steps))
        return self._plan.quotas[last] - sum(step.known for step in steps if step.rung == last)

    def _over_when_measured(
        self, result: Result, measured: Mapping[str, Mapping[str, Any]]
    ) -> dict[str, Any]:
        """Limits that candidates exceed by what was measured in place of what was estimated."""
        over = {}
        for target in self._spec.targets:
            known = {
                name: from_plain(Quantity, quantity, "measured")
                for name, quantity in measured.get(target.name, {}).items()
            }
            if known:
                cost = result.costs[target.name]
                cost = dataclasses.replace(
                    cost,
                    ram_bytes=known.get("ram_bytes", cost.ram_bytes),
                    flash_bytes=known.get("flash_bytes", cost.flash_bytes),
                    latency_ms=known.get("latency_ms", cost.latency_ms),
                )
                over[target.name] = to_plain(check_limits(cost, target.model_limits).over)
        return over

    def _score_on_test(self) -> None:
        """Score each `ok` candidate on the test set, once; nothing reads it but the report."""
        if not self._spec.dataset.counts["test"]:
            return

        def collect(result: Result, outcome: Mapping[str, Any]) -> None:
            self._note("tested", index=result.index, accuracy=outcome)

        work = [
            self._work_on_builds(index)
            for index, result in self._results.items()
            if result.status == "ok" and result.accuracy("int8", "test") is None
        ]
        self._on_each(work, jobs.score_on_test, collect, "scoring on the test set")

    def _work_on_builds(self, index: int, *arguments: Any) -> Work:
        """What a job on a candidate's builds gets, which writes no progress."""
        result = self._results[index]
        return Work(
            index=index,
            progress=self._candidate_folder(index) / "job.json",
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
                    if not starts(self._results[item.index]):
                        continue
                    going[slot.number] = item
                    self._work.start(
                        slot,
                        item.index,
                        job,
                        to_plain(self._spec),
                        self._candidate_folder(item.index),
                        *item.arguments,
                        progress=item.progress,
                        attempt=attempt,
                    )
                    break
            for done, outcome in self._work.poll():
                result = self._results[done.key]
                if not isinstance(outcome, Died | Raised | GivenUp):
                    collect(result, outcome)
                    self._refold(done.key)
                elif isinstance(outcome, Died) and done.attempt < ATTEMPTS:
                    waiting.append((going[done.slot.number], done.attempt + 1))
                else:
                    self._observer.note(f"{result.candidate.id}: {phase}: {outcome.reason}")
            self._show(phase)

    def _show(self, phase: str) -> None:
        running = []
        busy = {job.key for job in self._work.running}
        for job in self._work.running:
            if job.key in self._results:
                epoch = read_json(job.progress) if job.progress.exists() else {}
                running.append((self._results[job.key], epoch))
        self._observer.update(
            Progress(
                finished=[
                    result
                    for result in self._results.values()
                    if result.status or (result.rung >= 0 and result.index not in busy)
                ],
                running=running if phase != "measuring this machine" else (),
                planned=self._plan.candidates,
                elapsed_seconds=self._elapsed,
                budget_seconds=self._spec.budget_seconds,
                phase=phase,
            )
        )
