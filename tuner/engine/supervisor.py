"""The supervisor: holds the run's lock, writes its events, keeps the slots busy."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import wait
from dataclasses import dataclass, field
from typing import Any, Protocol

from tuner.engine import jobs
from tuner.engine.plan import Plan
from tuner.engine.slots import Died, Raised, Slot
from tuner.errors import InterruptedRunError, NothingFitsError
from tuner.propose.proposer import Gate, Proposer
from tuner.propose.sampler import Told
from tuner.rank.order import ranking_precision
from tuner.spec import Result, RunSpec, to_plain
from tuner.store.events import EventLog
from tuner.store.files import read_json, write_atomic
from tuner.store.lock import locked
from tuner.store.runs import RunFolder, fold_results

POLL_SECONDS = 0.2
MEMORY_POLL_SECONDS = 1.0
MEMORY_SHARE = 0.8
"""Of the machine's memory, divided among the slots: what a candidate may take."""

SILENT_SECONDS = 600.0
"""A candidate that finishes no epoch for so long is given up."""

LATE_FACTOR = 2.0
LATE_SECONDS = 60.0
"""With a clock, a candidate is given up after its time x factor + seconds."""

ATTEMPTS = 2


@dataclass(slots=True)
class Running:
    """A job in a slot."""

    slot: Slot
    index: int
    purpose: str
    started: float
    allowed_seconds: float | None
    epochs: int
    attempt: int = 1
    future: Any = None
    ended: str = ""
    memory_checked: float = field(default=0.0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an observer is shown."""

    finished: Sequence[Result]
    running: Sequence[tuple[Result, Mapping[str, Any]]]
    planned: int
    elapsed_seconds: float
    budget_seconds: float | None
    phase: str


class Observer(Protocol):
    """Shows a run while it goes on; must not raise."""

    def update(self, progress: Progress) -> None:
        """Called several times a second."""

    def note(self, text: str) -> None:
        """One line worth keeping."""


class Supervisor:
    """Runs one search from its spec and its events, whether new or resumed.

    Args:
        folder: of the run, with `run.json`.
        proposer_of: makes the proposer once the spec is whole (throughput measured).
        observer: shows progress.
    """

    def __init__(
        self,
        folder: RunFolder,
        proposer_of: Callable[[RunSpec, Plan], Proposer],
        observer: Observer,
    ) -> None:
        self._folder = folder
        self._proposer_of = proposer_of
        self._observer = observer
        self._spec = folder.spec()
        self._plan = Plan(self._spec)
        self._running: list[Running] = []
        self._exhausted = False

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
            self._events = self._folder.events()
            self._results = {result.index: result for result in fold_results(self._events)}
            self._told_choices = {
                event["index"]: event for event in self._events if event["event"] == "proposed"
            }
            used = max((event.get("elapsed", 0.0) for event in self._events), default=0.0)
            self._opened = time.monotonic() - used
            slots = [Slot(number, threads=1) for number in range(self._spec.workers)]
            self._slots = slots
            with self._folder.open_log() as log:
                self._log = log
                try:
                    self._note("opened")
                    self._measure()
                    self._proposer = self._proposer_of(self._spec, self._plan)
                    self._search()
                    self._score_on_test()
                    self._note("ended")
                except KeyboardInterrupt:
                    self._note("interrupted")
                    raise InterruptedRunError(
                        f"Stopped. Continue with 'tune resume {self._folder.name}'."
                    ) from None
                finally:
                    for slot in slots:
                        slot.kill()
        return [self._results[index] for index in sorted(self._results)]

    def _note(self, event: str, **fields: Any) -> None:
        record = self._log.append(event, elapsed=round(self._elapsed, 2), **fields)
        self._events.append(record)

    @property
    def _elapsed(self) -> float:
        return time.monotonic() - self._opened

    @property
    def _remaining(self) -> float | None:
        budget = self._spec.budget_seconds
        return None if budget is None else budget - self._elapsed

    def _measure(self) -> None:
        """Warm the slots; with a clock, measure the throughput on all of them at once."""
        import dataclasses

        from tuner.spec import Throughput

        timed = any(target.limits.train_minutes for target in self._spec.targets)
        clock = self._spec.budget_seconds is not None
        if self._spec.throughput is not None or not (clock or timed):
            return
        self._observer.note("Measuring this machine ...")
        futures = [slot.submit(jobs.measure_machine) for slot in self._slots]
        while not all(future.done() for future in futures):
            wait(futures, timeout=POLL_SECONDS)
            self._show("measuring")
        outcomes = [slot.outcome() for slot in self._slots]
        for outcome in outcomes:
            if isinstance(outcome, Died | Raised):
                raise RuntimeError(f"The machine could not be measured: {outcome.reason}")
        mean = {
            name: sum(outcome[name] for outcome in outcomes) / len(outcomes) for name in outcomes[0]
        }
        self._spec = dataclasses.replace(self._spec, throughput=Throughput(**mean))
        self._plan = Plan(self._spec)
        self._folder.write_spec(self._spec)

    def _search(self) -> None:
        while True:
            self._fill()
            if not self._running:
                return
            wait([job.future for job in self._running], timeout=POLL_SECONDS)
            self._collect()
            self._watch()
            self._show("searching")

    def _fill(self) -> None:
        """Start work in every free slot: what was left unfinished first, then proposals."""
        free = [s for s in self._slots if all(job.slot is not s for job in self._running)]
        for slot in free:
            result = self._next_waiting() or self._propose()
            if result is None:
                return
            share = self._plan.share(result.candidate, self._remaining)
            if share is None:
                return
            self._start(slot, result, share.epochs, share.seconds, attempt=1)

    def _start(
        self, slot: Slot, result: Result, epochs: int, seconds: float | None, attempt: int
    ) -> None:
        folder = self._folder.candidate(result.candidate.id)
        (folder / "progress.json").unlink(missing_ok=True)
        future = slot.submit(
            jobs.train_candidate,
            to_plain(self._spec),
            folder,
            to_plain(result.candidate),
            epochs,
            seconds,
        )
        allowed = None if seconds is None else seconds * LATE_FACTOR + LATE_SECONDS
        self._running.append(
            Running(
                slot=slot,
                index=result.index,
                purpose="training",
                started=time.monotonic(),
                allowed_seconds=allowed,
                epochs=epochs,
                attempt=attempt,
                future=future,
            )
        )
        self._note("started", index=result.index, epochs=epochs, seconds=seconds, attempt=attempt)

    def _next_waiting(self) -> Result | None:
        busy = {job.index for job in self._running}
        for index in sorted(self._results):
            if self._results[index].status is None and index not in busy:
                return self._results[index]
        return None

    def _propose(self) -> Result | None:
        """Ask for the next proposal, when the results that it may depend on are known."""
        index = len(self._results)
        limit = self._spec.max_candidates
        if self._exhausted or (limit is not None and index >= limit):
            return None
        known = index - self._spec.window
        if any(self._results[i].status is None for i in range(max(0, known + 1))):
            return None
        remaining = self._remaining
        if remaining is not None and remaining < 1.0:
            return None
        history = [self._told(i, told=i <= known) for i in range(index)]
        ids = frozenset(result.candidate.id for result in self._results.values())
        proposal = self._proposer.propose(history, ids)
        if proposal is None:
            self._exhausted = True
            if not self._results:
                raise NothingFitsError(
                    "Every candidate that fits the target takes too long to train in the time "
                    f"given ({self._plan.candidates} candidates planned). Give more --time, or "
                    "fewer --max-candidates."
                )
            return None
        result = Result(
            index=index,
            candidate=proposal.candidate,
            origin=proposal.origin,
            costs=proposal.costs,
        )
        self._results[index] = result
        self._note(
            "proposed",
            index=index,
            id=proposal.candidate.id,
            origin=proposal.origin,
            space=proposal.space,
            choices=to_plain(proposal.choices),
            candidate=to_plain(proposal.candidate),
            costs=to_plain(proposal.costs),
            over_limit=to_plain(proposal.over_limit),
            nearest_miss=to_plain(proposal.nearest_miss),
        )
        self._told_choices[index] = self._events[-1]
        return result

    def _told(self, index: int, *, told: bool) -> Told:
        event, result = self._told_choices[index], self._results[index]
        accuracy = result.accuracy(ranking_precision(self._spec.rank_by))
        score = accuracy.value if accuracy and told else None
        if told and result.status is not None and accuracy is None:
            score = 0.0  # a failure is a result too: the sampler should go elsewhere
        return Told(space=event["space"], choices=event["choices"], score=score)

    def _collect(self) -> None:
        for job in [job for job in self._running if job.future.done() or job.ended]:
            self._running.remove(job)
            if job.ended:
                status = "timed_out" if job.ended.startswith("time") else "failed"
                self._finish(job, {"status": status, "reason": job.ended})
                continue
            outcome = job.slot.outcome()
            if isinstance(outcome, Died):
                result = self._results[job.index]
                if job.attempt < ATTEMPTS:
                    self._observer.note(f"{result.candidate.id}: {outcome.reason}; trying again.")
                    share = self._plan.share(result.candidate, self._remaining)
                    if share is None:
                        continue  # it stays waiting; `resume` or `extend` trains it
                    self._start(job.slot, result, share.epochs, share.seconds, job.attempt + 1)
                else:
                    self._finish(job, {"status": "failed", "reason": f"twice {outcome.reason}"})
            elif isinstance(outcome, Raised):
                folder = self._folder.candidate(self._results[job.index].candidate.id)
                write_atomic(folder / "error.log", outcome.traceback)
                self._finish(job, {"status": "failed", "reason": outcome.reason})
            else:
                self._finish(job, outcome)

    def _finish(self, job: Running, fields: Mapping[str, Any]) -> None:
        self._note("finished", index=job.index, **fields)
        self._refold(job.index)
        result = self._results[job.index]
        if result.status != "ok":
            self._observer.note(f"{result.candidate.id}: {result.status}: {result.reason}")

    def _refold(self, index: int) -> None:
        events = [event for event in self._events if event.get("index") == index]
        self._results[index] = fold_results(events)[0]

    def _watch(self) -> None:
        """Give up candidates that take too long, say nothing or eat memory."""
        import psutil

        now = time.monotonic()
        memory_limit = MEMORY_SHARE * psutil.virtual_memory().total / len(self._slots)
        for job in self._running:
            if job.future.done():
                continue
            since = now - job.started
            if job.allowed_seconds is not None and since > job.allowed_seconds:
                job.ended = (
                    f"time: not ready after {since:.0f} s, {job.allowed_seconds:.0f} s allowed"
                )
            elif since > SILENT_SECONDS and now - self._last_sign(job) > SILENT_SECONDS:
                job.ended = f"time: no epoch ended within {SILENT_SECONDS:.0f} s"
            elif now - job.memory_checked > MEMORY_POLL_SECONDS:
                job.memory_checked = now
                used = job.slot.memory_bytes
                if used > memory_limit:
                    job.ended = (
                        f"memory: used {used / 2**30:.1f} GB, {memory_limit / 2**30:.1f} GB allowed"
                    )
            if job.ended:
                job.slot.kill()

    def _last_sign(self, job: Running) -> float:
        """When the job last wrote its progress, on the monotonic clock."""
        path = self._folder.candidate(self._results[job.index].candidate.id) / "progress.json"
        try:
            return time.monotonic() - (time.time() - path.stat().st_mtime)
        except FileNotFoundError:
            return job.started

    def _score_on_test(self) -> None:
        """Score each `ok` candidate on the test set, once; nothing reads it but the report."""
        if not self._spec.dataset.counts["test"]:
            return
        waiting = [
            result
            for result in self._results.values()
            if result.status == "ok" and result.accuracy("int8", "test") is None
        ]
        attempts = dict.fromkeys((result.index for result in waiting), 0)
        while waiting or self._running:
            for slot in self._slots:
                if waiting and all(job.slot is not slot for job in self._running):
                    self._start_test(slot, waiting.pop(0))
            wait([job.future for job in self._running], timeout=POLL_SECONDS)
            for job in [job for job in self._running if job.future.done()]:
                self._running.remove(job)
                outcome = job.slot.outcome()
                result = self._results[job.index]
                if isinstance(outcome, Died | Raised):
                    attempts[job.index] += 1
                    if attempts[job.index] < ATTEMPTS:
                        waiting.append(result)
                    else:
                        self._observer.note(f"{result.candidate.id}: no test: {outcome.reason}")
                    continue
                self._note("tested", index=job.index, accuracy=outcome)
                self._refold(job.index)
            self._show("scoring on the test set")

    def _start_test(self, slot: Slot, result: Result) -> None:
        future = slot.submit(
            jobs.score_on_test,
            to_plain(self._spec),
            self._folder.candidate(result.candidate.id),
            to_plain(result.candidate),
            to_plain(result.builds),
        )
        self._running.append(
            Running(
                slot=slot,
                index=result.index,
                purpose="testing",
                started=time.monotonic(),
                allowed_seconds=None,
                epochs=0,
                future=future,
            )
        )

    def _show(self, phase: str) -> None:
        running = []
        for job in self._running:
            result = self._results[job.index]
            path = self._folder.candidate(result.candidate.id) / "progress.json"
            running.append((result, read_json(path) if path.exists() else {}))
        planned = self._plan.candidates if self._spec.throughput or not self._remaining else 0
        self._observer.update(
            Progress(
                finished=[result for result in self._results.values() if result.status],
                running=running,
                planned=planned,
                elapsed_seconds=self._elapsed,
                budget_seconds=self._spec.budget_seconds,
                phase=phase,
            )
        )
