"""How a full disk is told from other failures."""

from __future__ import annotations

import errno
import os

import pytest

from tuner.errors import full_disk


def behind(error: Exception, cause: Exception) -> Exception:
    """The error as it is raised while the other one is handled."""
    try:
        try:
            raise cause
        except Exception:
            raise error from None
    except Exception as raised:
        return raised


FULL = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (FULL, "No space left on device"),
        (OSError(errno.ENOSPC, "?", "runs/r/a.npz"), "No space left on device: runs/r/a.npz"),
        (OSError(errno.EDQUOT, "?"), "Disk quota exceeded"),
        (behind(ValueError("Can't close the ZIP file"), FULL), "No space left on device"),
        (RuntimeError("Failed.\n  x.h5: Disk quota exceeded."), "x.h5: Disk quota exceeded"),
        (OSError(errno.EACCES, os.strerror(errno.EACCES)), ""),
        (ValueError("no space in the name"), ""),
    ],
)
def test_a_full_disk_is_told_in_words(error: Exception, words: str) -> None:
    assert full_disk(error) == words
