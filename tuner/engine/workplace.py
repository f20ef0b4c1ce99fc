"""The slots of a run and the jobs in them: started, watched, given up, collected."""

from __future__ import annotations

import time
from collections.abc import Callable
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tuner.engine.slots import Died, Slot, machine_memory_bytes

POLL_SECONDS = 0.2
CHECK_SECONDS = 0.5
MEMORY_SHARE = 0.8
"""Of the machine's memory, divided among the slots: what a job may take."""

GROWTH_BYTES = 2**30
"""A worker that grew by more since its first job is replaced between two jobs. Where memory is
scarce, it is half of what is left to its limit."""

SILENT_SECONDS = 600.0
"""A job that neither computes nor writes progress for so long hangs, and is given up."""

PREPARING_SECONDS = 3600.0
"""A job with a time limit has to show its first progress within this time."""

BUSY_SHARE = 0.01
"""Of a core: a job that uses less does not compute."""


ATTEMPTS = 2
"""A job whose worker died or took too much memory is tried again, once, in a fresh worker."""


@dataclass(frozen=True, slots=True)
class GivenUp:
    """A job that was killed because of a limit."""

    status: str
    reason: str


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


@dataclass(slots=True, kw_only=True)
class Running:
    """A job in a slot.

    Args:
        key: what the caller knows it by.
        slot: where it runs.
        future: its outcome.
        progress: a file that the job writes again and again.
        allowed_seconds: wall-clock time it may take from its first progress on, so that
            preparing images does not count; None for no limit.
        attempt: from 1; a job whose worker died may be tried again.
        planned_seconds: that its work should take; None without a clock.
        given_up: it is killed at the next look, for this reason.
    """

    key: int
    slot: Slot
    future: Future[Any]
    progress: Path
    allowed_seconds: float | None
    attempt: int
    planned_seconds: float | None = None
    given_up: GivenUp | None = None
    started: float = field(default_factory=time.monotonic)
    first_progress: float | None = None
    checked: float = 0.0
    computed_at: float = field(default_factory=time.monotonic)
    computed_seconds: float = 0.0

    @property
    def seconds(self) -> float:
        """Since its start."""
        return time.monotonic() - self.started


class Workplace:
    """Keeps slots and the jobs in them.

    Args:
        workers: slots.
        threads: TensorFlow threads a slot.
        logs: folder that gets `slot-N.log`, what workers and their libraries print.
        parts: see Slot.
    """

    def __init__(self, workers: int, threads: int, logs: Path, parts: int = 1) -> None:
        self.slots = [
            Slot(number, threads, logs / f"slot-{number}.log", parts) for number in range(workers)
        ]
        self.running: list[Running] = []
        self._memory_limit = MEMORY_SHARE * machine_memory_bytes() / workers
        self._first_bytes: dict[int, int] = {}

    def free_slots(self) -> list[Slot]:
        """Slots without a job."""
        busy = {job.slot.number for job in self.running}
        return [slot for slot in self.slots if slot.number not in busy]

    def set_worker(self, slot: Slot, threads: int, parts: int, yields: bool = False) -> None:
        """Give a free slot's next job a worker of so many threads; see `Slot.set_worker`."""
        if slot.set_worker(threads, parts, yields):
            self._first_bytes.pop(slot.number, None)

    def start(
        self,
        slot: Slot,
        key: int,
        job: Callable[..., Any],
        *arguments: Any,
        progress: Path,
        allowed_seconds: float | None = None,
        planned_seconds: float | None = None,
        attempt: int = 1,
    ) -> None:
        """Run `job(*arguments)` in a free slot; see Running."""
        progress.unlink(missing_ok=True)
        self.running.append(
            Running(
                key=key,
                slot=slot,
                future=slot.submit(job, *arguments),
                progress=progress,
                allowed_seconds=allowed_seconds,
                planned_seconds=planned_seconds,
                attempt=attempt,
            )
        )

    def poll(self) -> list[tuple[Running, Any]]:
        """Wait a moment, or for a job to end; those that did, with what came of them.

        That is what a job returned, Raised, Died or GivenUp.
        """
        futures = [job.future for job in self.running]
        wait(futures, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        ended: list[tuple[Running, Any]] = []
        for job in list(self.running):
            given_up = None if job.future.done() else self._exceeded(job)
            if given_up is not None:
                self._replace_worker(job.slot)
                ended.append((job, given_up))
            elif job.future.done():
                outcome = job.slot.outcome()
                if isinstance(outcome, Died) or self._has_grown(job.slot):
                    self._replace_worker(job.slot)
                ended.append((job, outcome))
        for job, _ in ended:
            self.running.remove(job)
        return ended

    def close(self) -> None:
        """Kill all workers; first all of them, so that none outlives a second signal."""
        for slot in self.slots:
            slot.signal_kill()
        for slot in self.slots:
            slot.kill()

    def _replace_worker(self, slot: Slot) -> None:
        """Kill the worker; the slot's next job starts another."""
        slot.kill()
        self._first_bytes.pop(slot.number, None)

    def _has_grown(self, slot: Slot) -> bool:
        """Whether a worker that ended a job holds much more than after its first one."""
        memory, _ = slot.usage()
        first = self._first_bytes.setdefault(slot.number, memory)
        return memory - first > min(GROWTH_BYTES, max(0.0, self._memory_limit - first) / 2)

    def _exceeded(self, job: Running) -> GivenUp | None:
        if job.given_up is not None:
            return job.given_up
        now = time.monotonic()
        if now - job.checked < CHECK_SECONDS:
            return None
        job.checked = now
        if job.first_progress is None and job.progress.exists():
            job.first_progress = now
        if job.allowed_seconds is not None:
            prepared = job.first_progress is not None
            seconds = now - (job.first_progress or job.started)
            allowed = job.allowed_seconds if prepared else PREPARING_SECONDS
            if seconds > allowed:
                return GivenUp(
                    "timed_out", f"not ready after {seconds:.0f} s; {allowed:.0f} s were allowed"
                )
        memory, computed = job.slot.usage()
        if memory > self._memory_limit:
            return GivenUp(
                "failed",
                f"used {memory / 2**30:.1f} GB of memory; "
                f"{self._memory_limit / 2**30:.1f} GB were allowed",
            )
        change = computed - job.computed_seconds
        # A process that ends takes its time out of the sum.
        if change < 0 or change > BUSY_SHARE * (now - job.computed_at):
            job.computed_at, job.computed_seconds = now, computed
        elif now - job.computed_at > SILENT_SECONDS:
            return GivenUp("timed_out", f"computed nothing for {SILENT_SECONDS:.0f} s")
        return None
