"""Jobs for slots that train and simulate at once, and wait for each other; workers import them."""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from tests_support import quantity
from tuner.spec import Build, Paired, to_plain
from untrained_support import train_candidate

WAITED_SECONDS = 60.0


def train_briefly(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """Leaves time for others."""
    *before, seconds, last, others = rest[:8]
    given = train_candidate(run, folder, *before, min(seconds, 0.1), last, others)
    if "status" in given:
        (folder / "ended").touch()
    return given


def train_until_another_is_measured(run: Any, folder: Path, *rest: Any) -> dict[str, Any]:
    """Once one was trained to its end, the next waits until something was measured."""
    last, candidates = rest[6], folder.parent
    if last and any(candidates.glob("*/ended")):
        until = time.monotonic() + WAITED_SECONDS
        events = candidates.parent / "events.jsonl"
        while '"event":"measured"' not in events.read_text():
            if time.monotonic() > until:
                raise TimeoutError("nothing was measured beside this training")
            time.sleep(0.05)
    return train_briefly(run, folder, *rest)


def measure_builds(
    run: dict[str, Any], folder: Path, candidate: Any, builds: Any, names: Any,
    images: int | None, seconds: float | None, processes: int,
) -> dict[str, Any]:  # fmt: skip
    """The build's recipe tells the priority of what simulates it."""
    count = run["dataset"]["counts"]["validation"]
    paired = {"validation": Paired(images=min(count, images or count), gained=0, lost=0)}
    build = Build(
        runtime="nncase", kernels="kpu", precision="int8", recipe=str(os.nice(0)),
        artifact="nncase.kmodel", size_bytes=9, accuracy={}, paired=paired,
    )  # fmt: skip
    return {
        "measured": {"k230": {"latency_ms": to_plain(quantity(1.5))}},
        "builds": {"int8 nncase kpu": to_plain(build)},
        "unmeasured": {},
        "prevented": [],
    }
