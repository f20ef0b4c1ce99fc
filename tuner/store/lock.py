"""One supervisor per run: an advisory lock that ends with its process."""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from tuner.errors import LockedError


def is_locked(path: Path) -> bool:
    """Whether a process holds the lock file `path`; leaves the file as it is."""
    try:
        with path.open("rb") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return False
    except BlockingIOError:
        return True
    return False


def holder(path: Path) -> int | None:
    """The process that holds the lock file `path`; None if none does."""
    if not is_locked(path):
        return None
    try:
        return int(path.read_text(encoding="utf-8").partition("\n")[0])
    except (OSError, ValueError):  # it is just taken or left
        return None


def is_held_elsewhere(path: Path) -> bool:
    """Whether the number in a lock file is of a process of another machine or container."""
    try:
        place = path.read_text(encoding="utf-8").partition("\n")[2].strip()
    except OSError:
        return False
    return place not in ("", _place())


def _place() -> str:
    """This machine, and the container within which a process's number counts; empty if unknown."""
    try:
        machine = Path("/proc/sys/kernel/random/boot_id").read_text(encoding="utf-8").strip()
        return f"{machine} {os.stat('/proc/self/ns/pid').st_ino}"
    except OSError:  # no Linux
        return ""


ASKED_SECONDS = 0.2
"""A lock that is held for longer is not only being asked for by `is_locked`."""


@contextmanager
def locked(path: Path, what: str) -> Iterator[None]:
    """Hold the lock file `path`.

    Raises:
        LockedError: another process holds it.
    """
    descriptor = _take(path, what)
    try:
        os.ftruncate(descriptor, 0)
        with suppress(OSError):  # of a full disk, which 'tune clean' is to help with
            os.write(descriptor, f"{os.getpid()}\n{_place()}\n".encode())
        yield
    finally:
        os.close(descriptor)


def _take(path: Path, what: str) -> int:
    """Lock the file that lies at `path`, and return its descriptor."""
    end = time.monotonic() + ASKED_SECONDS
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            pid = os.read(descriptor, 32).decode(errors="replace").partition("\n")[0]
            os.close(descriptor)
            if time.monotonic() >= end:
                raise LockedError(
                    f"{what} is being worked on by another process (pid {pid or 'unknown'}); "
                    "wait for it or stop it first."
                ) from None
            time.sleep(ASKED_SECONDS / 10)
            continue
        if _is_at(descriptor, path):
            return descriptor
        os.close(descriptor)  # its holder removed it when it was done


def _is_at(descriptor: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(descriptor), os.stat(path))
    except FileNotFoundError:
        return False
