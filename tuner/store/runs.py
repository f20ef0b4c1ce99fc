"""Run folders: `run.json`, `events.jsonl`, `run.lock` and a folder per candidate."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from tuner.errors import InputError, SpecError, UnknownNameError
from tuner.spec import (
    Accuracy,
    Build,
    Candidate,
    Cost,
    Excess,
    Quantity,
    Result,
    RunSpec,
    from_plain,
    to_plain,
)
from tuner.store.events import EventLog, read_events
from tuner.store.files import home, read_json, write_json
from tuner.store.lock import is_locked

RunState = Literal["running", "interrupted", "ended"]

NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,99}")


@dataclass(frozen=True, slots=True)
class RunFolder:
    """The files of one run."""

    path: Path

    @property
    def name(self) -> str:
        """The run's name."""
        return self.path.name

    @property
    def lock(self) -> Path:
        """The supervisor's lock file."""
        return self.path / "run.lock"

    def candidate(self, candidate_id: str) -> Path:
        """The folder that a worker writes a candidate's files into."""
        return self.path / "candidates" / candidate_id

    def write_spec(self, spec: RunSpec) -> None:
        """Write `run.json`."""
        write_json(self.path / "run.json", to_plain(spec))

    def spec(self) -> RunSpec:
        """Read `run.json`."""
        path = self.path / "run.json"
        return from_plain(RunSpec, read_json(path), str(path))

    def open_log(self) -> EventLog:
        """Open the event log for appending."""
        return EventLog(self.path / "events.jsonl")

    def events(self) -> list[dict[str, Any]]:
        """Read all events."""
        return read_events(self.path / "events.jsonl")

    def state(self) -> RunState:
        """Whether a process works on the run, it can be resumed, or it used its budget."""
        if is_locked(self.lock):
            return "running"
        events = self.events()
        return "ended" if events and events[-1]["event"] == "ended" else "interrupted"

    def results(self) -> list[Result]:
        """The results so far, in the order of proposals."""
        return fold_results(self.events())


AFTER_PROPOSAL = ("rung", "finished", "repeated", "measured", "tested")
"""Events that change the result of a candidate."""


def fold_results(events: Iterable[Mapping[str, Any]]) -> list[Result]:
    """Fold events into one Result a candidate, in the order of proposals.

    Raises:
        SpecError: an event is of a candidate that was not proposed.
    """
    results: dict[int, Result] = {}
    for event in events:
        kind = event["event"]
        if kind in AFTER_PROPOSAL and event["index"] not in results:
            raise SpecError(
                f"events.jsonl: expected the proposal of candidate {event['index']} before the "
                f"event '{kind}'. There is none. Put the line that was removed back, or start a "
                "new run."
            )
        if kind == "proposed":
            results[event["index"]] = Result(
                index=event["index"],
                candidate=from_plain(Candidate, event["candidate"], "events.jsonl"),
                origin=event["origin"],
                baseline=event.get("baseline", ""),
                space=event.get("space", ""),
                costs={
                    target: from_plain(Cost, cost, "events.jsonl")
                    for target, cost in event["costs"].items()
                },
            )
        elif kind in ("rung", "finished"):
            results[event["index"]] = _trained_on(results[event["index"]], event)
        elif kind == "repeated":
            result = results[event["index"]]
            found = {
                key: from_plain(Accuracy, accuracy, "events.jsonl")
                for key, accuracy in event["accuracy"].items()
            }
            repeated = {**result.repeated, event["repeat"]: found}
            results[event["index"]] = replace(result, repeated=dict(sorted(repeated.items())))
        elif kind == "measured":
            result = results[event["index"]]
            costs = {
                target: replace(
                    result.costs[target],
                    over=tuple(from_plain(Excess, item, "events.jsonl") for item in over),
                )
                for target, over in event["over"].items()
            }
            measured = {
                target: {
                    name: from_plain(Quantity, quantity, "events.jsonl")
                    for name, quantity in quantities.items()
                }
                for target, quantities in event["measured"].items()
            }
            builds = {
                key: from_plain(Build, build, "events.jsonl")
                for key, build in event.get("builds", {}).items()
            }
            results[event["index"]] = replace(
                result,
                measured={**result.measured, **measured},
                unmeasured={**result.unmeasured, **event.get("unmeasured", {})},
                costs={**result.costs, **costs},
                builds={**result.builds, **builds},
            )
        elif kind == "tested":
            result = results[event["index"]]
            builds = dict(result.builds)
            for precision, accuracy in event["accuracy"].items():
                build = builds[precision]
                builds[precision] = replace(
                    build,
                    accuracy={
                        **build.accuracy,
                        "test": from_plain(Accuracy, accuracy, "events.jsonl"),
                    },
                )
            results[event["index"]] = replace(result, builds=builds)
    return [results[index] for index in sorted(results)]


def _trained_on(result: Result, event: Mapping[str, Any]) -> Result:
    """A result after one more rung, or after its end.

    What trained no further, or was ended within a rung, keeps the builds and the rung before.
    """
    builds = {
        precision: from_plain(Build, build, "events.jsonl")
        for precision, build in event.get("builds", {}).items()
    }
    return replace(
        result,
        status=event.get("status"),
        reason=event.get("reason", ""),
        builds=builds or result.builds,
        rung=result.rung if result.builds and not builds else event.get("rung", result.rung),
        epochs=result.epochs + event.get("epochs", 0),
        train_seconds=result.train_seconds + event.get("train_seconds", 0.0),
        curve=(*result.curve, *event.get("curve", ())),
    )


def runs_folder() -> Path:
    """The folder that holds all runs."""
    return home() / "runs"


def known_runs() -> list[RunFolder]:
    """All runs, the newest first."""
    paths = [path.parent for path in runs_folder().glob("*/run.json")]
    return [
        RunFolder(path)
        for path in sorted(paths, key=lambda path: (path / "run.json").stat().st_mtime_ns)[::-1]
    ]


def check_name(kind: str, name: str) -> str:
    """Return `name` if it can name a folder.

    Raises:
        InputError: it cannot.
    """
    if not NAME.fullmatch(name) or name == "latest":
        raise InputError(
            f"Expected a {kind} name of letters, digits, '.', '_' and '-', not 'latest'. "
            f"Received: {name!r}."
        )
    return name


def new_run(name: str | None, target: str, created: str) -> RunFolder:
    """The folder of a run that does not exist yet; named by target and time unless named.

    Raises:
        InputError: the name is taken or cannot be used.
    """
    if name is not None:
        folder = RunFolder(runs_folder() / check_name("run", name))
        if (folder.path / "run.json").exists():
            raise InputError(
                f"A run named '{name}' exists in {runs_folder()}. Continue it with "
                f"'tune resume {name}', or choose another --name."
            )
        if folder.path.exists():
            raise InputError(
                f"{folder.path} exists and is no run: it has no run.json. Choose another --name, "
                "or remove that folder, if no search is just starting in it."
            )
        return folder
    stem = f"{target}-{re.sub(r'[^0-9]', '', created)[:14]}"
    path = runs_folder() / stem
    number = 2
    while path.exists():
        path = runs_folder() / f"{stem}-{number}"
        number += 1
    return RunFolder(path)


def find_run(name: str) -> RunFolder:
    """The run of that name, `latest` for the newest.

    Raises:
        UnknownNameError: there is none.
    """
    runs = known_runs()
    if name == "latest" and runs:
        return runs[0]
    for run in runs:
        if run.name == name:
            return run
    raise UnknownNameError(
        "run",
        name,
        [run.name for run in runs],
        f"Runs lie in {runs_folder()}; start one with 'tune --target NAME --data DIR'.",
    )
