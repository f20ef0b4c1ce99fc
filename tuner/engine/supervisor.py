"""The supervisor: holds the run's lock, writes its events, keeps the slots busy."""

from __future__ import annotations

import dataclasses
import json
import signal
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from time import monotonic
from typing import Any, Protocol

from tuner.engine import jobs
from tuner.engine.deciding import Deciding
from tuner.engine.measuring import Measuring
from tuner.engine.plan import Plan, Share
from tuner.engine.proposing import Proposing
from tuner.engine.record import FINALISTS, Record
from tuner.engine.repeats import repeat_finalists
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.workplace import ATTEMPTS, GivenUp, Running, Work, Workplace
from tuner.errors import InterruptedRunError, MachineError, SpecError, TuneError, full_disk
from tuner.propose.proposer import Proposer
from tuner.spec import Result, RunSpec, Throughput, to_plain
from tuner.store.files import read_json, write_atomic
from tuner.store.lock import locked
from tuner.store.runs import RunFolder
from tuner.train.steps import parts_of_batch

LATE_FACTOR = 2.0
LATE_SECONDS = 60.0
"""With a clock, a candidate is given up after its time x factor + seconds."""

FAILURES_IN_A_ROW = 5
"""So many candidates that fail without one that succeeds have a common cause: the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an observer is shown.

    Args:
        finished: results that are not in work and have been trained, if only to a rung.
        running: results in work, each with its newest epoch as plain data, or nothing yet.
        elapsed_seconds: of the whole run, all sessions together.
        budget_seconds: None without a clock.
        phase: what is going on, in a few words.
    """

    finished: Sequence[Result]
    running: Sequence[tuple[Result, Mapping[str, Any]]]
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
        self._repeated = True

    def run(self) -> list[Result]:
        """Search until the budget is used, then score on the test set.

        Returns:
            All results, in the order of proposals.

        Raises:
            LockedError: another process works on this run.
            InterruptedRunError: the user stopped it; it can be resumed.
            MachineError: the disk is full; it can be resumed.
            NothingFitsError: no candidate fits the limits.
        """
        with (
            locked(self._folder.lock, f"The run '{self._folder.name}'"),
            self._folder.open_log() as log,
        ):
            self._record = Record(self._folder, log, self._started or monotonic(), self._tell)
            self._plan = self._plan_of(self._record.spec)
            self._work = Workplace(self._record.spec.workers, 1, self._folder.path)
            self._measuring = Measuring(self._record, self._work, self._observer.note)
            try:
                self._record.note("opened")
                self._measure()
                proposer = self._proposer_of(self._record.spec, self._plan)
                proposing = Proposing(self._record, self._plan, proposer, self._finish)
                self._deciding = Deciding(self._record, self._plan, proposing)
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
                # Of a callback that stops at every event, and of a full disk.
                with suppress(KeyboardInterrupt, OSError):
                    self._record.note("interrupted")
                raise InterruptedRunError(
                    f"Stopped. Continue with 'tune resume {self._folder.name}'."
                ) from None
            except OSError as error:
                if words := full_disk(error):
                    raise self._full_disk(words) from error
                raise
            finally:
                self._work.close()
        return [self._record.results[index] for index in sorted(self._record.results)]

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
            for job, outcome in self._poll():
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

    def _poll(self) -> Iterator[tuple[Running, Any]]:
        """What ended in the slots.

        Raises:
            MachineError: the disk is full. The steps that it cost are taken again on resuming.
        """
        words = ""
        for job, outcome in self._work.poll():
            if isinstance(outcome, Raised) and outcome.full_disk:
                words = outcome.full_disk
            else:
                yield job, outcome
        if words:
            raise self._full_disk(words)

    def _full_disk(self, words: str) -> MachineError:
        return MachineError(
            f"The disk is full: {words}. '{self._folder.name}' has stopped and keeps "
            f"what it had, in {self._folder.path}. Make room ('tune clean' removes what ended runs "
            f"no longer need), then go on with 'tune resume {self._folder.name}'."
        )

    def _search(self) -> None:
        while True:
            self._stop_if_all_fail()
            self._fill()
            if not self._work.running:
                return
            for job in self._deciding.in_the_way(self._training):
                job.given_up = GivenUp(
                    "timed_out",
                    f"not ready after {job.seconds:.0f} s, of {job.planned_seconds:.0f} s planned, "
                    "while the best waited to be finished",
                )
            for job, outcome in self._poll():
                if self._measuring.is_of(job):
                    self._measuring.collect(job, outcome)
                else:
                    self._collect(job, outcome)
            measures = self._work.running and not self._training
            self._show("measuring finalists" if measures else "searching")

    def _say_what_is_too_short(self) -> None:
        """Where the time of an extension was too short to start anything, how much finishes one.

        So it may be after a search that was much longer.
        """
        extended, steps = self._record.spec.extended, self._record.steps
        index = steps.to_finish(len(self._plan.rung_shares) - 1)
        if self._deciding.remaining_seconds is None or not extended or index is None:
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

    @property
    def _training(self) -> list[Running]:
        """What trains a candidate, beside what measures one that was trained to its end."""
        return [job for job in self._work.running if not self._measuring.is_of(job)]

    def _fill(self) -> None:
        """Start work in every free slot.

        What was left unfinished comes first, then the next step; a slot that has nothing to train
        measures a finalist, if only of what has been trained so far. Beside a training that takes
        the whole machine nothing is started but simulations, which yield to it.
        """
        for slot in self._work.free_slots():
            wide = any(job.slot.threads > 1 for job in self._training)
            if wide and not self._plan.measuring_seconds:
                return
            if not wide and self._start_training(slot):
                continue
            if not self._start_measuring_finalist(slot):
                return

    def _start_training(self, slot: Slot) -> bool:
        step = self._deciding.next_step(self._training)
        if step is None:
            return False
        result = self._record.results[step.index]
        rung, share = self._deciding.rung_and_share(result, step)
        if share is None:
            return False
        self._start(slot, result, rung, share, attempt=1)
        return True

    def _start(self, slot: Slot, result: Result, rung: int, share: Share, attempt: int) -> None:
        folder = self._record.candidate_folder(result.index)
        trained = result.rung
        if trained >= 0 and not (jobs.rung_folder(folder, trained) / jobs.WEIGHTS).exists():
            trained = -1  # it was cut at the end of a session, and 'tune clean' came since
        self._record.note(
            "started",
            index=result.index,
            rung=rung,
            trained=trained,
            epochs=share.epochs,
            most_epochs=share.most_epochs,
            seconds=share.seconds,
            attempt=attempt,
        )
        allowed = None if share.seconds is None else share.seconds * LATE_FACTOR + LATE_SECONDS
        threads = self._deciding.threads(result, rung)
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
            share.most_epochs,
            share.seconds,
            share.last,
            () if share.last else self._record.steps.compared_with(result.index),
            threads,
            progress=folder / "progress.json",
            allowed_seconds=allowed,
            planned_seconds=share.seconds,
            attempt=attempt,
        )

    def _collect(self, job: Running, outcome: Any) -> None:
        result = self._record.results[job.key]
        again = isinstance(outcome, Died) or (
            isinstance(outcome, GivenUp) and outcome.status == "failed"
        )
        step = next(step for step in self._record.steps.unfinished() if step.index == job.key)
        rung, share = self._deciding.rung_and_share(result, step)
        if again and job.attempt < ATTEMPTS and share is not None:
            self._observer.note(f"{result.candidate.id}: {outcome.reason}; trying again.")
            self._start(job.slot, result, rung, share, job.attempt + 1)
        elif isinstance(outcome, Died | Raised | GivenUp):
            if isinstance(outcome, Raised):
                folder = self._record.candidate_folder(job.key)
                write_atomic(folder / "error.log", outcome.traceback)
            status = outcome.status if isinstance(outcome, GivenUp) else "failed"
            # Not the candidate's fault, and none of a common cause.
            given = {"in_the_way": True} if outcome is job.given_up else {}
            self._lose_step(result, rung, status, outcome.reason, given)
        else:
            self._trained(result, outcome)

    def _trained(self, result: Result, outcome: Mapping[str, Any]) -> None:
        """Note what a step gave; new builds replace what the rung before left."""
        self._record.note(
            "finished" if "status" in outcome else "rung", index=result.index, **outcome
        )
        self._record.refold(result.index)
        jobs.drop_replaced(self._record.candidate_folder(result.index), result.rung, outcome)

    def _lose_step(
        self, result: Result, rung: int, status: str, reason: str, given: Mapping[str, Any]
    ) -> None:
        """A step gave nothing: its candidate ends, with what an earlier rung left it, if any."""
        if result.rung < 0:
            self._finish(result.index, {"status": status, "reason": reason, **given})
            return
        first, *more = (target.name for target in self._record.spec.targets)
        fits = (name for name in more if name in result.costs and result.costs[name].fits)
        option = "" if result.costs[first].fits else f" --target {next(fits, first)}"
        why = (
            f"not trained to rung {rung}: {reason.rstrip('.')}; it is as it was at rung "
            f"{result.rung}, after {result.epochs} epochs, and 'tune select {self._folder.name} "
            f"{result.candidate.id}{option}' and 'tune retrain' train it in full"
        )
        self._finish(
            result.index,
            {
                "status": "stopped",
                "reason": why,
                "rung": result.rung,
                "step_status": status,
                "step_reason": reason,
                **given,
            },
        )

    def _finish(self, index: int, fields: Mapping[str, Any]) -> None:
        self._record.note("finished", index=index, **fields)
        result = self._record.refold(index)
        self._observer.note(f"{result.candidate.id}: {result.status}: {result.reason}")

    def _stop_the_others(self) -> None:
        """What was not promoted has come to its end."""
        last = len(self._plan.rung_shares) - 1
        steps = self._record.steps.seen(len(self._record.steps))
        results = list(self._record.results.values())
        finished = {result.index for result in results if result.status == "ok"}
        for result in results:
            if result.status is None and result.rung >= 0:
                better = {step.index for step in steps if step.rung > result.rung} | finished
                better.discard(result.index)  # of which a step was cut
                self._record.note(
                    "finished",
                    index=result.index,
                    status="stopped",
                    reason=f"cut at rung {result.rung} of {last}, after {result.epochs} epochs; "
                    f"{len(better)} others went on",
                )
                self._record.refold(result.index)

    def _stop_if_all_fail(self) -> None:
        session = self._record.events[self._record.session_start :]
        ends = [
            event
            for event in session
            if event["event"] in ("rung", "finished") and not event.get("in_the_way")
        ]
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
            for job, outcome in self._poll():
                self._measuring.collect(job, outcome)
            self._show("measuring finalists")

    def _start_measuring_finalist(self, slot: Slot) -> bool:
        """Measure one that is a finalist in any case; where they are trained again, then first."""
        may_end = self._may_end()
        yields = may_end and self._plan.final_threads > 1 and self._plan.measuring_seconds
        return self._repeated and self._measuring.start(
            slot, FINALISTS - may_end, self._deciding.remaining_seconds, yields=bool(yields)
        )

    def _may_end(self) -> int:
        """How many more may be trained to their end, when nothing can be started now.

        With a clock that is not known; then it is what is being trained.
        """
        running = len(self._training)
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
            for done, outcome in self._poll():
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
                epoch: Mapping[str, Any] = {}
                with suppress(SpecError):  # none yet, or it went with what a repeat left
                    epoch = read_json(job.progress)
                running.append((self._record.results[job.key], epoch))
        self._observer.update(
            Progress(
                finished=[
                    result
                    for result in self._record.results.values()
                    if result.status or (result.rung >= 0 and result.index not in busy)
                ],
                running=running if phase != "measuring this machine" else (),
                elapsed_seconds=self._record.elapsed,
                budget_seconds=self._record.spec.budget_seconds,
                phase=phase,
            )
        )
