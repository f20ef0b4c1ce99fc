"""`tune` from the command line, as a user runs it; its event log tells what it has when."""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, NoReturn

from benchmarks.side_by_side.protocol import CORES, RUN, SPACE, TARGET, Data, Recorder
from benchmarks.side_by_side.tools import VARIANTS, arguments
from tuner.spec import Accuracy, from_plain

POLL_SECONDS = 0.5


class Watcher:
    """Follows a run's event log and keeps the int8 file of its best candidate so far.

    Best is int8 accuracy on the validation images, which is what the board ranks by.

    Args:
        run: the run's folder.
        recorder: of the tool's run.
    """

    def __init__(self, run: Path, recorder: Recorder) -> None:
        self._run, self._recorder = run, recorder
        self._read = 0
        self._proposed: dict[int, dict[str, Any]] = {}

    def look(self) -> None:
        """Read what is new in the log."""
        log = self._run / "events.jsonl"
        if not log.exists():
            return
        with log.open("rb") as file:
            file.seek(self._read)
            text = file.read()
        whole = text.rfind(b"\n") + 1
        self._read += whole
        for line in text[:whole].splitlines():
            self._take(json.loads(line))

    def _take(self, event: dict[str, Any]) -> None:
        kind = event["event"]
        if kind == "proposed":
            self._proposed[event["index"]] = event
        elif kind == "started":
            candidate = self._proposed[event["index"]]["candidate"]
            self._recorder.trial(candidate=candidate, rung=event["rung"], refused=False)
        elif kind in ("rung", "finished") and "int8" in event.get("builds", {}):
            build = event["builds"]["int8"]
            accuracy = from_plain(Accuracy, build["accuracy"]["validation"], "events.jsonl")
            proposed = self._proposed[event["index"]]
            pixels = proposed["candidate"]["preprocessing"]

            def save(path: Path) -> None:
                folder = self._run / "candidates" / proposed["id"]
                shutil.copyfile(folder / build["artifact"], path)

            self._recorder.pick(
                accuracy.value, ".tflite", save, side=pixels["height"], scaling=pixels["scaling"]
            )


def watch(command: list[str], folder: Path) -> NoReturn:
    """Run a search named `RUN`, keep its picks, and end as it ends."""
    process = subprocess.Popen(command)
    watcher = Watcher(folder / "home" / "runs" / RUN, Recorder(folder))
    while process.poll() is None:
        watcher.look()
        time.sleep(POLL_SECONDS)
    watcher.look()
    sys.exit(process.returncode)


def search(given: argparse.Namespace) -> None:
    """Search; `tune` plans its own time, and so does a variant of its engine."""
    if given.tool in VARIANTS:
        module = "benchmarks.side_by_side.engine_variant"
        watch([sys.executable, "-m", module, *sys.argv[1:]], given.folder)
    watch(
        [
            sys.executable, "-m", "tuner", "--target", str(TARGET),
            "--data", str(Data(given.data).whole), "--space", SPACE,
            "--time", f"{given.seconds:g}s", "--workers", str(CORES),
            "--seed", str(given.seed), "--name", RUN,
        ],
        given.folder,
    )  # fmt: skip


if __name__ == "__main__":
    search(arguments())
