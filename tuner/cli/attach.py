"""`tune attach NAME`: follow what was started with --background."""

from __future__ import annotations

import time
from typing import Annotated

import typer

Name = Annotated[str, typer.Argument(metavar="NAME", help="Name of a run or model, or latest.")]


def attach(name: Name = "latest") -> None:
    """Follow what was started with --background; Ctrl-C leaves it going on."""
    from tuner.errors import InputError
    from tuner.store.lock import is_locked
    from tuner.store.work import POLL_SECONDS, find_works, newest

    work = newest(find_works(name))
    if not is_locked(work.log):
        raise InputError(
            f"Expected work that was started with --background. '{work.name}' has a terminal of "
            "its own; 'tune logs' tells what a run has done."
        )
    with work.log.open(encoding="utf-8", errors="replace") as log:
        while True:
            going = is_locked(work.log)
            print(log.read(), end="", flush=True)
            if not going:
                return
            time.sleep(POLL_SECONDS)
