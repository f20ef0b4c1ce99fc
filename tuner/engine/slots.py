"""Slots: each its own one-worker executor, warm for the whole run and restarted alone.

The only module that uses joblib. Workers end with their parent: after a kill of the parent
the kernel (Linux) or the worker's own watch kills the worker too.
"""

from __future__ import annotations

import faulthandler
import os
import signal
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WATCH_SECONDS = 0.5
WORKER_MEMORY_BYTES = 2 * 2**30


@dataclass(frozen=True, slots=True)
class Died:
    """A job whose worker process died, and how."""

    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A job that raised: its message for the user and its traceback for the log."""

    reason: str
    traceback: str


class Slot:
    """One worker process at a time.

    Args:
        number: from 0.
        threads: TensorFlow threads of the worker.
        log: file that gets what the worker and its libraries print.
    """

    def __init__(self, number: int, threads: int, log: Path) -> None:
        self.number = number
        self._threads = threads
        self.log = log
        self._executor: Any = None
        self._future: Future[Any] | None = None

    def submit(self, job: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run `job(*arguments)` in the worker, which is started when needed.

        Call it from the main thread: on Linux a worker dies with the thread that started it.
        """
        from joblib.externals.loky.process_executor import BrokenProcessPool

        try:
            self._future = self._open().submit(_guarded, job, arguments)
        except BrokenProcessPool:  # the worker died while it had nothing to do
            self.kill()
            self._future = self._open().submit(_guarded, job, arguments)
        return self._future

    def _open(self) -> Any:
        if self._executor is None:
            from joblib.externals.loky.process_executor import ProcessPoolExecutor

            self._executor = ProcessPoolExecutor(
                max_workers=1,
                timeout=None,
                env=_environment(self._threads),
                initializer=_start_worker,
                initargs=(os.getpid(), self.log),
            )
        return self._executor

    def outcome(self) -> Any:
        """What the job returned, or Raised, or Died; call it when the future is done."""
        if self._future is None:
            raise RuntimeError("no job was submitted to this slot")
        future, self._future = self._future, None
        error = future.exception()
        if error is None:
            return future.result()
        self.kill()
        return Died(f"its worker process died ({_first_line(error).rstrip('.')})")

    def usage(self) -> tuple[int, float]:
        """Resident memory, bytes, and processor time so far, seconds: worker and its children."""
        import psutil

        memory, seconds = 0, 0.0
        for pid in self._pids():
            try:
                worker = psutil.Process(pid)
                processes = [worker, *worker.children(recursive=True)]
            except psutil.Error:
                continue
            for process in processes:
                try:
                    memory += process.memory_info().rss
                    times = process.cpu_times()
                    seconds += times.user + times.system
                except psutil.Error:
                    continue
        return memory, seconds

    def signal_kill(self) -> None:
        """Send SIGKILL to the worker without waiting for its end."""
        for pid in self._pids():
            try:
                os.kill(pid, signal.SIGKILL)
            except ProcessLookupError:
                continue

    def kill(self) -> None:
        """Kill the worker at once; the next job starts a fresh one."""
        self.signal_kill()
        if self._executor is not None:
            self._executor.shutdown(wait=True, kill_workers=True)
            self._executor = None
        self._future = None

    def _pids(self) -> list[int]:
        processes: Mapping[int, Any] = getattr(self._executor, "_processes", None) or {}
        return list(processes)


def _environment(threads: int) -> dict[str, str]:
    """TensorFlow reads its pools' sizes once, before its first operation."""
    count = str(threads)
    return {
        "TF_NUM_INTRAOP_THREADS": count,
        "TF_NUM_INTEROP_THREADS": count,
        "OMP_NUM_THREADS": count,
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }


def _start_worker(parent: int, log: Path) -> None:
    from joblib.externals.loky import process_executor

    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    faulthandler.enable()
    # Ctrl-C reaches the whole process group; only the supervisor decides what it means.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    # loky would restart a worker after each training because it grew; Slot watches memory.
    process_executor._USE_PSUTIL = False
    if sys.platform == "linux":
        import ctypes

        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _guarded(job: Callable[..., Any], arguments: tuple[Any, ...]) -> Any:
    try:
        return job(*arguments)
    except Exception as error:  # one bad candidate never ends a run
        return Raised(_first_line(error)[:500], traceback.format_exc())


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def available_cores() -> int:
    """Cores that this process may use, as affinity and container limits allow."""
    from joblib import cpu_count

    return int(cpu_count())


def available_workers() -> int:
    """Slots that this machine can keep busy: one a core, and 2 GB of memory each."""
    return max(1, min(available_cores(), machine_memory_bytes() // WORKER_MEMORY_BYTES))


def machine_memory_bytes() -> int:
    """Memory of this machine."""
    import psutil

    return int(psutil.virtual_memory().total)
