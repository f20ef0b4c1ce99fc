"""What ends work from outside."""

from __future__ import annotations

import signal


def interrupt_on_signals() -> None:
    """Let a polite kill and a closed terminal end the work as Ctrl-C does."""
    for number in (signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) is signal.SIG_DFL:  # nohup ignores SIGHUP, and so do we then
            signal.signal(number, signal.default_int_handler)
