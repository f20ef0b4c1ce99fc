"""Slots: each its own one-worker executor, warm for the whole run and restarted alone.

The only module that uses joblib. Workers end with their parent: after a kill of the parent
the kernel (Linux) or the worker's own watch kills the worker too.
"""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import math
import os
import pickle
import shutil
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

from tuner.errors import full_disk

WATCH_SECONDS = 0.5
WORKER_MEMORY_BYTES = 2 * 2**30

PIPED_BYTES = 8 * 2**10
"""A longer outcome goes through a file. What fits a pipe's buffer is there or not; of more, a
worker that is killed leaves a part, and the supervisor waits for the rest for ever."""

OUT_OF_MEMORY_SCORE = 500
"""Of workers, -1000 to 1000: the kernel, out of memory, ends them and not the supervisor."""

YIELDING_NICENESS = 10
"""Of a worker that yields: a tenth of a core, or what is idle (docs/search.md). With 19 it would
be a sixty-eighth, and a compiler could run into its time limit beside a long training."""

CGROUPS = Path("/sys/fs/cgroup")
OWN_CGROUPS = Path("/proc/self/cgroup")


@dataclass(frozen=True, slots=True)
class Died:
    """A job whose worker process died, and how."""

    reason: str


@dataclass(frozen=True, slots=True)
class Raised:
    """A job that raised.

    Args:
        reason: its message for the user.
        traceback: for the log.
        full_disk: says that the disk is full, which is no fault of the job; else empty.
    """

    reason: str
    traceback: str
    full_disk: str = ""


@dataclass(frozen=True, slots=True)
class _Kept:
    """An outcome that lies pickled in a file."""

    path: Path


class Slot:
    """One worker process at a time.

    Args:
        number: from 0.
        threads: TensorFlow threads of the worker.
        log: file that gets what the worker and its libraries print.
        parts: operations that run side by side; each gets its part of the threads.
    """

    def __init__(self, number: int, threads: int, log: Path, parts: int = 1) -> None:
        self.number = number
        self.threads, self._parts, self._yields = threads, parts, False
        self.log = log
        self._kept = log.with_suffix(".outcome")
        self._temporary = log.with_suffix(".tmp")
        self._executor: Any = None
        self._future: Future[Any] | None = None

    def set_worker(self, threads: int, parts: int, yields: bool) -> bool:
        """Give the next job a worker of so many threads; whether a worker had to go for it.

        One that yields has a low priority, and the programs that it starts too.
        """
        if (threads, parts, yields) == (self.threads, self._parts, self._yields):
            return False
        self.kill()
        self.threads, self._parts, self._yields = threads, parts, yields
        return True

    def submit(self, job: Callable[..., Any], *arguments: Any) -> Future[Any]:
        """Run `job(*arguments)` in the worker, which is started when needed.

        Call it from the main thread: on Linux a worker dies with the thread that started it.
        """
        from joblib.externals.loky.process_executor import BrokenProcessPool

        try:
            self._future = self._open().submit(_guarded, job, arguments, self._kept)
        except BrokenProcessPool:  # the worker died while it had nothing to do
            self.kill()
            self._future = self._open().submit(_guarded, job, arguments, self._kept)
        return self._future

    def _open(self) -> Any:
        if self._executor is None:
            from joblib.externals.loky.process_executor import ProcessPoolExecutor

            # A killed worker leaves temporary files: TensorFlow's, and those of compilers.
            self._temporary.mkdir(parents=True, exist_ok=True)
            self._executor = ProcessPoolExecutor(
                max_workers=1,
                timeout=None,
                env={
                    **_environment(self.threads, self._parts),
                    "TMPDIR": str(self._temporary.absolute()),
                },
                initializer=_start_worker,
                initargs=(os.getpid(), self.log, YIELDING_NICENESS if self._yields else 0),
            )
        return self._executor

    def outcome(self) -> Any:
        """What the job returned, or Raised, or Died; call it when the future is done."""
        if self._future is None:
            raise RuntimeError("no job was submitted to this slot")
        future, self._future = self._future, None
        error = future.exception()
        if error is None:
            result = future.result()
            if isinstance(result, _Kept):
                content = result.path.read_bytes()
                result.path.unlink()
                return pickle.loads(content)
            return result
        self.kill()
        return Died(f"its worker process died ({_first_line(error).rstrip('.')})")

    def usage(self) -> tuple[int, float]:
        """Memory, bytes, and processor time so far, seconds: worker and its children.

        The memory is what is resident but for mapped files, which the system takes back when it
        needs them.
        """
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
                    info = process.memory_info()
                    memory += info.rss - getattr(info, "shared", 0)
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
            self._kept.unlink(missing_ok=True)
            shutil.rmtree(self._temporary, ignore_errors=True)
        self._future = None

    def _pids(self) -> list[int]:
        processes: Mapping[int, Any] = getattr(self._executor, "_processes", None) or {}
        return list(processes)


def _environment(threads: int, parts: int) -> dict[str, str]:
    """TensorFlow reads its pools' sizes once, before its first operation."""
    return {
        "TF_NUM_INTRAOP_THREADS": str(threads // parts),
        "TF_NUM_INTEROP_THREADS": str(parts),
        "OMP_NUM_THREADS": str(threads // parts),
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "CUDA_VISIBLE_DEVICES": "-1",
        "KERAS_BACKEND": "tensorflow",
    }


def _start_worker(parent: int, log: Path, niceness: int) -> None:
    from joblib.externals.loky import process_executor

    os.nice(niceness)

    log.parent.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o666)
    for stream in (1, 2):
        os.dup2(descriptor, stream)
    faulthandler.enable()
    # Ctrl-C, a closed terminal and a service's stop reach the whole process group; only the
    # supervisor decides what they mean. Programs that a job starts still end by the latter two.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    for number in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: None)
    # loky would restart a worker after each training because it grew; Slot watches memory.
    process_executor._USE_PSUTIL = False
    if sys.platform == "linux":
        import ctypes

        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)
        with contextlib.suppress(OSError):
            Path("/proc/self/oom_score_adj").write_text(str(OUT_OF_MEMORY_SCORE))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(WATCH_SECONDS)
    os._exit(1)


def _guarded(job: Callable[..., Any], arguments: tuple[Any, ...], kept: Path) -> Any:
    try:
        outcome = job(*arguments)
    except Exception as error:  # one bad candidate never ends a run
        outcome = _raised(error)
    content = pickle.dumps(outcome)
    if len(content) <= PIPED_BYTES:
        return outcome
    try:
        kept.write_bytes(content)  # nobody reads it before this job has ended
    except OSError as error:
        if not full_disk(error):
            raise
        return _raised(error)
    return _Kept(kept)


def _raised(error: Exception) -> Raised:
    return Raised(_first_line(error)[:500], traceback.format_exc(), full_disk(error))


def _first_line(error: BaseException) -> str:
    return (str(error).strip() or type(error).__name__).splitlines()[0]


@functools.cache  # asked for each candidate, .07 ms
def available_cores() -> int:
    """Cores that this process may use, as affinity and container limits allow."""
    from joblib import cpu_count

    return int(cpu_count())


def available_workers() -> int:
    """Slots that this machine can keep busy: one a core, and 2 GB of memory each."""
    return max(1, min(available_cores(), machine_memory_bytes() // WORKER_MEMORY_BYTES))


def machine_memory_bytes() -> int:
    """Memory of this machine, or of the container that this process runs in."""
    import psutil

    return int(min(psutil.virtual_memory().total, *_cgroup_limits(CGROUPS, OWN_CGROUPS)))


def _cgroup_limits(root: Path, own: Path) -> list[float]:
    """Memory limits, bytes, of this process's control groups and all above them; infinity last.

    Source of the files' names: the kernel's documentation, admin-guide/cgroup-v2.rst and
    admin-guide/cgroup-v1/memory.rst.
    """
    limits = []
    try:
        lines = own.read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    for line in lines:
        _, controllers, group = line.split(":", 2)
        if controllers == "":
            top, name = root, "memory.max"
        elif "memory" in controllers.split(","):
            top, name = root / "memory", "memory.limit_in_bytes"
        else:
            continue
        folder = top / group.lstrip("/")
        for level in (folder, *folder.parents):
            with contextlib.suppress(OSError, ValueError):  # no such file, or "max"
                limits.append(float((level / name).read_text()))
            if level == top:
                break
    return [*limits, math.inf]
