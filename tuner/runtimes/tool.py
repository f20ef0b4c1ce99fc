"""What the modules that run a vendor's tool share: is it there, a process for it, its tables.

A tool may end its whole process on a model that it does not expect, take long, or hang. So it runs
in a process of its own, which ends with the process that asked for it.
"""

from __future__ import annotations

import contextlib
import importlib.metadata
import importlib.util
import math
import os
import runpy
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence

from tuner.errors import TuneError
from tuner.spec import Tool


def package_tool(distribution: str, modules: Sequence[str], missing: str) -> Tool:
    """A Python package as a tool; it is looked for, not imported.

    Args:
        distribution: its name where it is installed from.
        modules: that have to be there.
        missing: what to say where one of them is not.
    """
    if any(importlib.util.find_spec(module) is None for module in modules):
        return Tool(name=distribution, missing=missing)
    try:
        version = importlib.metadata.version(distribution)
    except importlib.metadata.PackageNotFoundError:  # a copy in the path, not installed
        version = "of unknown version"
    return Tool(name=distribution, version=version)


def require(tools: Iterable[Tool]) -> None:
    """Raise ImportError, in the tool's own words, for the first that cannot be used."""
    for tool in tools:
        if not tool.ready:
            raise ImportError(tool.missing)


def run_tool(
    module: str,
    *arguments: str,
    seconds: float,
    given: bytes = b"",
    environment: Mapping[str, str] | None = None,
) -> subprocess.CompletedProcess[bytes]:
    """Run `python -m module arguments` in a process group of its own, of which nothing is left.

    The process ends with this one: on Linux at once, elsewhere when `seconds` are over. It cannot
    clear up then; files that it leaves in the temporary folder are the system's to remove. It has
    the priority of this one, and its session: Linux compares priorities within a session alone.

    Args:
        module: what to run; it is not imported here.
        arguments: its command line.
        seconds: time limit.
        given: its standard input.
        environment: its environment; None for this process's own.

    Raises:
        subprocess.TimeoutExpired: it took longer; it has been killed.
    """
    limit = math.ceil(seconds) + 1
    command = [sys.executable, "-m", __name__, str(os.getpid()), str(limit), module, *arguments]
    with (
        tempfile.TemporaryFile() as read,
        tempfile.TemporaryFile() as said,
        tempfile.TemporaryFile() as complained,
    ):
        read.write(given)
        read.seek(0)
        process = subprocess.Popen(
            command,
            env=environment,
            stdin=read,
            stdout=said,
            stderr=complained,
            process_group=0,
        )
        try:
            process.wait(timeout=seconds)
        finally:
            # Programs that the tool started are of its group, and may outlive it.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        said.seek(0)
        complained.seek(0)
        return subprocess.CompletedProcess(
            command, process.returncode, said.read(), complained.read()
        )


def figure(row: Mapping[str, str], column: str, tool: str) -> float:
    """A figure of a table that a tool wrote.

    Args:
        row: by column.
        column: the wanted one.
        tool: its name and version.

    Raises:
        TuneError: there is no such column, or no figure in it.
    """
    try:
        return float(row[column])
    except (KeyError, TypeError, ValueError):
        raise TuneError(
            f"expected a figure in the column '{column}' of what {tool} writes; another version "
            f"may name it differently. Received: '{row.get(column, 'no such column')}', among the "
            f"columns {', '.join(map(str, row)) or 'of an empty table'}."
        ) from None


def _main(arguments: Sequence[str]) -> None:
    """What the process does first: see that it ends in time, and with its parent."""
    parent, seconds, module, *rest = arguments
    signal.alarm(int(seconds))
    if sys.platform == "linux":
        import ctypes

        parent_death_signal = 1  # PR_SET_PDEATHSIG of <sys/prctl.h>
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != int(parent):
        sys.exit("the process that asked for the tool is gone")
    sys.argv = [module, *rest]
    runpy.run_module(module, run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main(sys.argv[1:])
