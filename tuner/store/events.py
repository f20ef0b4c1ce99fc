"""A run's event log: one JSON object a line, written by the supervisor alone."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

from tuner.errors import SpecError

Event = Mapping[str, Any]


def now() -> str:
    """The time in ISO 8601, UTC."""
    return datetime.now(UTC).isoformat(timespec="milliseconds")


class EventLog:
    """Appends events; a torn last line, left by a kill, is cut off when it is opened."""

    def __init__(self, path: Path) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._file: BinaryIO = open(path, "a+b")  # noqa: SIM115 - closed by close()
        self._drop_torn_line()

    def _drop_torn_line(self) -> None:
        self._file.seek(0)
        content = self._file.read()
        whole = content.rfind(b"\n") + 1
        if whole < len(content):
            self._file.truncate(whole)

    def append(self, event: str, **fields: Any) -> dict[str, Any]:
        """Write one event and return it; it is on disk when this returns."""
        record = {"event": event, "at": now(), **fields}
        self._file.write(json.dumps(record, separators=(",", ":")).encode() + b"\n")
        self._file.flush()
        os.fsync(self._file.fileno())
        return record

    def close(self) -> None:
        """Close the file."""
        with suppress(OSError):  # of an event that a full disk refused, as `append` has said
            self._file.close()

    def __enter__(self) -> EventLog:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def read_events(path: Path) -> list[dict[str, Any]]:
    """All whole events of a log, in order; none when there is no log yet.

    Raises:
        SpecError: a whole line is not an event: somebody else wrote into the file.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    events = []
    for number, line in enumerate(content.split(b"\n")[:-1], start=1):
        try:
            events.append(json.loads(line))
        except ValueError:
            raise SpecError(
                f"{path}, line {number}: expected an event as JSON. Received: {line[:60]!r}. "
                "Remove the line, or start a new run."
            ) from None
    return events
