"""Stand-ins for the jobs of a run: no TensorFlow, and no time but what a clock allows.

They run in the workers of real slots, so each is importable by its name. Search for a target of
whose runtime no tool measures what was built, such as `raspberry-pi-4`.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from tests_support import TOTAL, make_result
from tuner.engine import jobs
from tuner.spec import Candidate, from_plain, to_plain


def train_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    rung: int,
    trained: int,
    epochs: int,
    most_epochs: int,
    seconds: float | None,
    last: bool,
    others: Sequence[float],
    threads: int = 1,
) -> dict[str, Any]:
    """An accuracy that depends on the candidate and grows with the rung; it takes its time.

    Once the run's folder has a file `worse`, no training gives anything.
    """
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    time.sleep(seconds or 0.0)
    digest = hashlib.sha256(candidate.id.encode()).digest()
    correct = 1 + min(TOTAL - 1, digest[0] % (TOTAL - 4) + 2 * rung)
    if (folder.parent.parent / "worse").exists():
        correct = 0
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "trained_from.txt").open("a") as file:
        file.write(f"{rung} from {trained}\n")
    if not last:
        jobs.rung_folder(folder, rung).mkdir(exist_ok=True)
        (jobs.rung_folder(folder, rung) / jobs.WEIGHTS).touch()
    return {
        **({"status": "ok"} if last else {}),
        "rung": rung,
        "epochs": epochs,
        "best_epoch": 1,
        "train_seconds": 0.01,
        "curve": [correct / TOTAL] * epochs,
        "builds": to_plain(make_result(0, correct=correct).builds),
    }


def repeat_candidate(
    run: Mapping[str, Any],
    folder: Path,
    candidate_plain: Mapping[str, Any],
    repeat: int,
    trainings: Sequence[tuple[int, int, int | None, float | None]],
) -> dict[str, Any]:
    """An accuracy that depends on the candidate and the repeat."""
    candidate = from_plain(Candidate, candidate_plain, "candidate")
    digest = hashlib.sha256(f"{candidate.id}/{repeat}".encode()).digest()
    builds = make_result(0, correct=digest[0] % TOTAL).builds
    with (folder / "repeated.txt").open("a") as file:
        file.write(f"{repeat} {[rung for rung, *_ in trainings]}\n")
    return {
        "repeat": repeat,
        "accuracy": {key: to_plain(build.accuracy["validation"]) for key, build in builds.items()},
        "epochs": sum(epochs for _, epochs, *_ in trainings),
        "train_seconds": 0.01,
    }


def measure_machine() -> dict[str, float]:
    """A machine like that of the reference rates."""
    return {"compute_ratio": 1.0, "memory_ratio": 1.0, "overhead_ratio": 1.0}


def score_on_test(*arguments: object) -> dict[str, Any]:
    """All test images are taken for the first class."""
    return {
        precision: {"confusion": [[TOTAL // 2, 0], [TOTAL // 2, 0]]}
        for precision in ("float32", "int8")
    }


@pytest.fixture
def untrained(monkeypatch: pytest.MonkeyPatch) -> None:
    """Runs take these jobs in place of theirs."""
    for job in (train_candidate, repeat_candidate, measure_machine, score_on_test):
        monkeypatch.setattr(jobs, job.__name__, job)
