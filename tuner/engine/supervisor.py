"""The supervisor: holds the run's lock, writes its events, keeps the slots busy."""

from __future__ import annotations

import dataclasses
import signal
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import monotonic
from typing import Any, Protocol

from tuner.cost.fit import check_limits
from tuner.engine import jobs
from tuner.engine.plan import Plan, Share
from tuner.engine.slots import Died, Raised, Slot
from tuner.engine.workplace import GivenUp, Running, Workplace
from tuner.errors import InterruptedRunError, NothingFitsError, TuneError
from tuner.propose.proposer import Proposal, Proposer
from tuner.propose.sampler import Told
from tuner.rank.order import rank_results, ranking_precision
from tuner.spec import Quantity, Result, RunSpec, Throughput, from_plain, to_plain
from tuner.store.files import read_json, write_atomic
from tuner.store.lock import locked
from tuner.store.runs import RunFolder, fold_results

LATE_FACTOR = 2.0
LATE_SECONDS = 60.0
"""With a clock, a candidate is given up after its time x factor + seconds."""

FINALISTS = 5
"""So many candidates of each target are measured by its runtime's own tool, if it has one."""

ATTEMPTS = 2
"""A job whose worker died or took too much memory is tried again, once, in a fresh worker."""

FAILURES_IN_A_ROW = 5
"""So many candidates that fail without one that succeeds have a common cause: the run ends."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """What an observer is shown.

    Args:
        finished: results that have a status.
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
            self._spec = self._folder.spec()
            self._plan = Plan(self._spec)
            with self._folder.open_log() as log:
                self._log = log
                self._events = self._folder.events()
                self._results = {result.index: result for result in fold_results(self._events)}
                self._proposed = {
                    event["index"]: event for event in self._events if event["event"] == "proposed"
                }
                self._session_start = len(self._events)
                used = max((event.get("elapsed", 0.0) for event in self._events), default=0.0)
                self._opened = monotonic() - used
                self._work = Workplace(self._spec.workers, 1, self._folder.path)
                try:
                    self._note("opened")
                    self._measure()
                    self._proposer = self._proposer_of(self._spec, self._plan)
                    self._search()
                    self._measure_finalists()
                    self._score_on_test()
                    self._note("ended")
                except KeyboardInterrupt:
                    ignore_signals()
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
        budget = self._spec.budget_seconds
        return None if budget is None else budget - self._elapsed

    def _note(self, event: str, **fields: Any) -> dict[str, Any]:
        record = self._log.append(event, elapsed=round(self._elapsed, 2), **fields)
        self._events.append(record)
        return record

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
        self._plan = Plan(self._spec)
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
                self._collect(job, outcome)
            self._show("searching")

    def _fill(self) -> None:
        """Start work in every free slot: what was left unfinished first, then proposals."""
        for slot in self._work.free_slots():
            result = self._waiting() or self._propose()
            if result is None:
                return
            share = self._plan.share(result.candidate, self._remaining)
            if share is None:
                return
            self._start(slot, result, share, attempt=1)

    def _start(self, slot: Slot, result: Result, share: Share, attempt: int) -> None:
        self._note(
            "started",
            index=result.index,
            epochs=share.epochs,
            seconds=share.seconds,
            attempt=attempt,
        )
        folder = self._candidate_folder(result.index)
        allowed = None if share.seconds is None else share.seconds * LATE_FACTOR + LATE_SECONDS
        self._work.start(
            slot,
            result.index,
            jobs.train_candidate,
            to_plain(self._spec),
            folder,
            to_plain(result.candidate),
            share.epochs,
            share.seconds,
            progress=folder / "progress.json",
            allowed_seconds=allowed,
            attempt=attempt,
        )

    def _waiting(self) -> Result | None:
        """The first proposal that is neither finished nor running."""
        busy = {job.key for job in self._work.running}
        for index in sorted(self._results):
            if self._results[index].status is None and index not in busy:
                return self._results[index]
        return None

    def _propose(self) -> Result | None:
        """The next proposal, once the results that it may depend on are known."""
        index = len(self._results)
        limit = self._spec.max_candidates
        if self._exhausted or (limit is not None and index >= limit):
            return None
        known = index - self._spec.window
        if any(self._results[i].status is None for i in range(max(0, known + 1))):
            return None
        if not self._plan.starts_another(self._remaining):
            return None
        history = [self._told(i, told=i <= known) for i in range(index)]
        ids = frozenset(result.candidate.id for result in self._results.values())
        proposal = self._proposer.propose(history, ids)
        if proposal is None:
            self._exhausted = True
            if not self._results:
                reasons = self._proposer.unfit().values()
                raise NothingFitsError(" ".join(reasons) or "No draw of the spaces fits.")
            return None
        return self._note_proposal(index, proposal)

    def _note_proposal(self, index: int, proposal: Proposal) -> Result:
        self._proposed[index] = self._note(
            "proposed",
            index=index,
            id=proposal.candidate.id,
            origin=proposal.origin,
            focus=proposal.focus,
            space=proposal.space,
            choices=to_plain(proposal.choices),
            candidate=to_plain(proposal.candidate),
            costs=to_plain(proposal.costs),
            over_limit=to_plain(proposal.over_limit),
            nearest_miss=to_plain(proposal.nearest_miss) if proposal.nearest_miss else None,
        )
        self._results[index] = fold_results([self._proposed[index]])[0]
        return self._results[index]

    def _told(self, index: int, *, told: bool) -> Told:
        event, result = self._proposed[index], self._results[index]
        score = None
        if told:
            accuracy = result.accuracy(ranking_precision(self._spec.rank_by))
            # A failure is a result too: the sampler should go elsewhere.
            score = accuracy.value if accuracy else 0.0
        fits = frozenset(name for name, cost in result.costs.items() if cost.fits)
        return Told(space=event["space"], choices=event["choices"], fits=fits, score=score)

    def _collect(self, job: Running, outcome: Any) -> None:
        result = self._results[job.key]
        again = isinstance(outcome, Died) or (
            isinstance(outcome, GivenUp) and outcome.status == "failed"
        )
        share = self._plan.share(result.candidate, self._remaining)
        if again and job.attempt < ATTEMPTS and share is not None:
            self._observer.note(f"{result.candidate.id}: {outcome.reason}; trying again.")
            self._start(job.slot, result, share, job.attempt + 1)
        elif isinstance(outcome, Died):
            self._finish(job.key, {"status": "failed", "reason": outcome.reason})
        elif isinstance(outcome, Raised):
            write_atomic(self._candidate_folder(job.key) / "error.log", outcome.traceback)
            self._finish(job.key, {"status": "failed", "reason": outcome.reason})
        elif isinstance(outcome, GivenUp):
            self._finish(job.key, {"status": outcome.status, "reason": outcome.reason})
        else:
            self._finish(job.key, outcome)

    def _finish(self, index: int, fields: Mapping[str, Any]) -> None:
        self._note("finished", index=index, **fields)
        result = self._refold(index)
        if result.status != "ok":
            self._observer.note(f"{result.candidate.id}: {result.status}: {result.reason}")

    def _stop_if_all_fail(self) -> None:
        session = self._events[self._session_start :]
        last = [event for event in session if event["event"] == "finished"][-FAILURES_IN_A_ROW:]
        if len(last) == FAILURES_IN_A_ROW and all(event["status"] != "ok" for event in last):
            raise TuneError(
                f"The last {FAILURES_IN_A_ROW} candidates of '{self._folder.name}' failed, the "
                f"latest with: {last[-1]['reason']}. Mend the cause, then go on with "
                f"'tune resume {self._folder.name}', or start a new run."
            )

    def _refold(self, index: int) -> Result:
        events = [event for event in self._events if event.get("index") == index]
        self._results[index] = fold_results(events)[0]
        return self._results[index]

    def _measure_finalists(self) -> None:
        """Where a runtime has a tool that measures, ask it about the best of each target.

        What a measurement puts over a limit makes way for others, which are measured in turn.
        """
        asked: set[tuple[int, str]] = set()
        reasons: set[str] = set()

        def collect(result: Result, outcome: Mapping[str, Any]) -> None:
            for reason in set(outcome["missing"]) - reasons:
                self._observer.note(reason)
                reasons.add(reason)
            if outcome["measured"]:
                over = self._over_when_measured(result, outcome["measured"])
                self._note("measured", index=result.index, measured=outcome["measured"], over=over)

        while wanted := self._unmeasured_finalists(asked):
            asked.update((index, name) for index, names in wanted.items() for name in names)
            arguments = {
                index: (to_plain(self._results[index].builds), names)
                for index, names in wanted.items()
            }
            self._on_each(arguments, jobs.measure_builds, collect, "measuring finalists")

    def _unmeasured_finalists(self, asked: Collection[tuple[int, str]]) -> dict[int, list[str]]:
        """Finalists that have not been measured, and for which targets."""
        wanted: dict[int, list[str]] = {}
        for target in self._spec.targets:
            if not jobs.can_measure(target):
                continue
            rows = rank_results(self._results.values(), target.name, self._spec.rank_by)
            best = [row.result for row in rows if row.fits and row.result.status == "ok"]
            for result in best[:FINALISTS]:
                if target.name not in result.measured and (result.index, target.name) not in asked:
                    wanted.setdefault(result.index, []).append(target.name)
        return wanted

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

        arguments = {
            index: (to_plain(result.candidate), to_plain(result.builds))
            for index, result in self._results.items()
            if result.status == "ok" and result.accuracy("int8", "test") is None
        }
        self._on_each(arguments, jobs.score_on_test, collect, "scoring on the test set")

    def _on_each(
        self,
        arguments: Mapping[int, tuple[Any, ...]],
        job: Callable[..., Any],
        collect: Callable[[Result, Mapping[str, Any]], None],
        phase: str,
    ) -> None:
        """Run a job in the slots on results, given by index with the job's last arguments."""
        waiting = [(self._results[index], 1) for index in arguments]
        while waiting or self._work.running:
            for slot in self._work.free_slots():
                if waiting:
                    result, attempt = waiting.pop(0)
                    folder = self._candidate_folder(result.index)
                    self._work.start(
                        slot,
                        result.index,
                        job,
                        to_plain(self._spec),
                        folder,
                        *arguments[result.index],
                        progress=folder / f"{phase.split()[0]}.json",
                        attempt=attempt,
                    )
            for done, outcome in self._work.poll():
                result = self._results[done.key]
                if not isinstance(outcome, Died | Raised | GivenUp):
                    collect(result, outcome)
                    self._refold(done.key)
                elif isinstance(outcome, Died) and done.attempt < ATTEMPTS:
                    waiting.append((result, done.attempt + 1))
                else:
                    self._observer.note(f"{result.candidate.id}: {phase}: {outcome.reason}")
            self._show(phase)

    def _show(self, phase: str) -> None:
        running = []
        for job in self._work.running:
            if job.key in self._results:
                epoch = read_json(job.progress) if job.progress.exists() else {}
                running.append((self._results[job.key], epoch))
        self._observer.update(
            Progress(
                finished=[result for result in self._results.values() if result.status],
                running=running if phase != "measuring this machine" else (),
                planned=self._plan.candidates,
                elapsed_seconds=self._elapsed,
                budget_seconds=self._spec.budget_seconds,
                phase=phase,
            )
        )
