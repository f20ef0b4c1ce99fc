"""The exception tree; the command line turns each into one line and its exit code.

TuneError                 1  something failed while running
├── InputError            2  what the user gave cannot be used
│   ├── UnknownNameError  2  no such target, space, run, candidate, ...
│   ├── DataError         2  images or arrays that cannot be used
│   ├── SpecError         2  a file (target, template, candidate) with a wrong field
│   └── LockedError       2  another process holds this run
├── MachineError          1  this machine failed, not what it was given: a full disk, no memory
├── DivergedError         1  the loss of a training is not a number
├── NothingFitsError      3  finished, but no candidate fits the limits
└── InterruptedRunError 130  stopped by the user; the run can be resumed
"""

from __future__ import annotations

import difflib
import errno
import os
from collections.abc import Iterable, Iterator


class TuneError(Exception):
    """Base of every error that a user may see; the message is complete by itself."""

    exit_code = 1


class InputError(TuneError):
    """What the user gave cannot be used."""

    exit_code = 2


class UnknownNameError(InputError):
    """A name that nothing answers to.

    Args:
        kind: what was looked for, for example ``target``.
        name: what was received.
        known: the names that exist.
        add: how to add one, as the end of a sentence; may be empty.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str], add: str = "") -> None:
        names = sorted(known)
        close = difflib.get_close_matches(name, names, n=3, cutoff=0.5)
        parts = [f"Unknown {kind} '{name}'."]
        if close:
            parts.append("Did you mean " + " or ".join(f"'{match}'" for match in close) + "?")
        parts.append("Known: " + (", ".join(names) if names else "none yet") + ".")
        if add:
            parts.append(add)
        super().__init__(" ".join(parts))


class DataError(InputError):
    """Images, labels or arrays that cannot be used."""


class SpecError(InputError):
    """A spec (target, template, candidate, run) with a missing, unknown or wrong field."""


class LockedError(InputError):
    """Another process holds the lock of this run."""


class MachineError(TuneError):
    """This machine failed, not what it was given; later the same may work."""


class DivergedError(TuneError):
    """The loss of a training is not a number from its first epoch on."""


class NothingFitsError(TuneError):
    """The search ended and no candidate fits the limits."""

    exit_code = 3


class InterruptedRunError(TuneError):
    """The user stopped the run; it can be resumed."""

    exit_code = 130


def causes(error: BaseException | None) -> Iterator[BaseException]:
    """An error and what it was raised from, one after the other."""
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__


def full_disk(error: BaseException) -> str:
    """In words, that the disk is full, or the user's share of it; empty where that is not why.

    TensorFlow says so in words, and numpy's archives hide it behind a ValueError.
    """
    numbers = (errno.ENOSPC, errno.EDQUOT)
    for cause in causes(error):
        if isinstance(cause, OSError) and cause.errno in numbers:
            words = os.strerror(cause.errno)
            return f"{words}: {cause.filename}" if cause.filename else words
        for line in str(cause).splitlines():
            if any(os.strerror(number) in line for number in numbers):
                return line.strip().rstrip(".")
    return ""
