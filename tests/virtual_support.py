"""Searches by a clock that is turned by hand: the whole engine but for its slots."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import untrained_support
from tuner import api
from tuner.engine import jobs, record, supervisor, workplace
from tuner.engine.plan import (
    CORES_EXPONENT,
    OVERHEAD_SECONDS,
    START_SECONDS,
    Plan,
)
from tuner.engine.workplace import Running
from tuner.spec import Candidate, RunSpec, from_plain

TICK_SECONDS = 1.0
MEASURING_SECONDS = 5.0


class Machine:
    """A machine whose steps take the time that they were planned for.

    Args:
        slowness: of its cores, by those of the reference.
    """

    def __init__(self, slowness: float = 100.0) -> None:
        self.slowness = slowness
        self.now = time.monotonic()
        self.hangs: Callable[[int, int], bool] = lambda index, rung: False
        """By index and rung, whether a step never ends."""
        self.pace: Callable[[int], float] = lambda index: 1.0
        """By index, how often as long as planned an epoch takes."""
        self.interrupt_at = math.inf
        """What `now` is when the user stops the search."""

    def monotonic(self) -> float:
        return self.now


class VirtualWorkplace:
    """Does in its poll what workers would do; see `tuner.engine.workplace.Workplace`."""

    def __init__(self, machine: Machine, workers: int) -> None:
        self._machine = machine
        self.slots = [SimpleNamespace(number=number, threads=1) for number in range(workers)]
        self.running: list[Running] = []
        self._ends: dict[int, float] = {}

    def free_slots(self) -> list[SimpleNamespace]:
        busy = {job.slot.number for job in self.running}
        return [slot for slot in self.slots if slot.number not in busy]

    def set_worker(self, slot: Any, threads: int, parts: int, yields: bool = False) -> None:
        slot.threads = threads

    def start(
        self,
        slot: Any,
        key: int,
        job: Callable[..., Any],
        *arguments: Any,
        progress: Path,
        allowed_seconds: float | None = None,
        planned_seconds: float | None = None,
        attempt: int = 1,
    ) -> None:
        future: Future[Any] = Future()
        seconds = self._seconds(key, job, arguments)
        self._ends[slot.number] = self._machine.now + seconds
        if math.isfinite(seconds):
            future.set_result((job, arguments))
        self.running.append(
            Running(
                key=key, slot=slot, future=future, progress=progress,
                allowed_seconds=allowed_seconds, attempt=attempt,
                planned_seconds=planned_seconds, started=self._machine.now,
            )
        )  # fmt: skip

    def _seconds(self, key: int, job: Callable[..., Any], arguments: tuple[Any, ...]) -> float:
        if job is not jobs.train_candidate:
            return MEASURING_SECONDS
        spec, _, candidate, rung, _, epochs, _, seconds, _, _, threads = arguments
        if self._machine.hangs(key, rung):
            return math.inf
        plan = Plan(from_plain(RunSpec, spec, "run.json"))
        epoch = plan.epoch_seconds(from_plain(Candidate, candidate, "candidate"))
        epoch *= self._machine.pace(key)
        training = min(seconds, epochs * epoch / threads**CORES_EXPONENT)
        return training + OVERHEAD_SECONDS + (START_SECONDS if threads > 1 else 0.0)

    def poll(self) -> list[tuple[Running, Any]]:
        machine = self._machine
        ends = min(self._ends[job.slot.number] for job in self.running)
        machine.now = min(max(ends, machine.now), machine.now + TICK_SECONDS)
        if machine.now >= machine.interrupt_at:
            machine.interrupt_at = math.inf
            raise KeyboardInterrupt
        ended: list[tuple[Running, Any]] = []
        for job in list(self.running):
            if job.given_up is not None:
                ended.append((job, job.given_up))
            elif self._ends[job.slot.number] <= machine.now:
                ended.append((job, self._outcome(job)))
            else:
                continue
            self.running.remove(job)
        return ended

    def _outcome(self, job: Running) -> Any:
        function, arguments = job.future.result()
        if function is jobs.measure_machine:
            ratios = ("compute_ratio", "memory_ratio", "overhead_ratio")
            return dict.fromkeys(ratios, self._machine.slowness)
        if function is not jobs.train_candidate:
            return function(*arguments)
        *before, _, last, others, threads = arguments
        given = untrained_support.train_candidate(*before, 0.0, last, others, threads)
        return {**given, "train_seconds": self._machine.now - job.started - OVERHEAD_SECONDS}

    def close(self) -> None:
        self.running.clear()


@pytest.fixture(name="machine")
def virtual_machine(untrained: None, monkeypatch: pytest.MonkeyPatch) -> Machine:
    """What searches run on, in this process."""
    made = Machine()
    monkeypatch.setattr(
        supervisor, "Workplace", lambda workers, threads, logs: VirtualWorkplace(made, workers)
    )
    for module in (api, record, supervisor):
        monkeypatch.setattr(module, "monotonic", made.monotonic)
    monkeypatch.setattr(workplace, "time", made)
    return made
