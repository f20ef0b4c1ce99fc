"""The command line, called in this process."""

from __future__ import annotations

import signal
import sys
from collections.abc import Callable, Iterator

import pytest

from tuner.cli.main import run


@pytest.fixture
def cli(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> Iterator[Callable[..., tuple[int, str, str]]]:
    """Calls `tune` with arguments: its exit code, stdout and stderr."""
    # A command has its process to itself; the handlers it sets are not those of the next test.
    handlers = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP)}

    def call(*arguments: object) -> tuple[int, str, str]:
        monkeypatch.setattr(sys, "argv", ["tune", *map(str, arguments)])
        try:
            run()
            code = 0
        except SystemExit as end:
            code = int(end.code or 0)
        output = capsys.readouterr()
        return code, output.out, output.err

    yield call
    for number, handler in handlers.items():
        signal.signal(number, handler)
