"""Two workers beside one: the same search to its last candidate, and the same board.

Each side is a whole search of so many candidates, from the start of the command to its end, alone
on the machine and in turns. The boards are compared byte for byte, as JSON without the seconds that
trainings took, and so are the int8 files of all candidates. Prints JSON; ends with 1 if they
differ. Run it alone:
    .venv/bin/python tests/benchmarks/workers.py --data sample:digits --max-candidates 120
    .venv/bin/python tests/benchmarks/workers.py --data sample:parts --max-candidates 24
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from hashlib import sha256
from pathlib import Path
from typing import Any


def tune(home: Path, *words: str) -> str:
    """What a command prints."""
    return subprocess.run(
        [sys.executable, "-m", "tuner", *words],
        env={**os.environ, "TUNE_HOME": str(home)}, cwd=home, check=True,
        stdout=subprocess.PIPE, text=True,
    ).stdout  # fmt: skip


def board(home: Path, name: str) -> tuple[float, list[dict[str, Any]]]:
    """Seconds of all trainings; rows without them, with the digest of each int8 file."""
    rows = json.loads(tune(home, "report", name, "--format", "json"))
    trained = 0.0
    for row in rows:
        trained += row.pop("train_seconds")
        if path := row["artifacts"].get("int8_tflite"):
            content = (home / "runs" / name / path).read_bytes()
            row["int8_sha256"] = sha256(content).hexdigest()
    return trained, rows


def search(home: Path, workers: int, seed: int, words: tuple[str, ...]) -> dict[str, Any]:
    """Search, and tell how long it took and what it found."""
    home, name = home / f"{workers}-workers-{seed}", "r"
    home.mkdir()
    started = time.monotonic()
    tune(home, *words, "--workers", str(workers), "--seed", str(seed), "--name", name)
    seconds = time.monotonic() - started
    trained, rows = board(home, name)
    return {
        "seconds": round(seconds, 1),
        "train_seconds": round(trained, 1),
        "board": json.dumps(rows, sort_keys=True),
    }


def main() -> None:
    """Search with one and with two workers, in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-candidates", type=int, default=120)
    parser.add_argument("--repeats", type=int, default=1)
    parser.add_argument("--target", default="nano33ble")
    parser.add_argument("--data", default="sample:digits")
    options = parser.parse_args()
    words = ("--target", options.target, "--data", options.data)
    words += ("--max-candidates", str(options.max_candidates))
    sides: dict[int, list[dict[str, Any]]] = {1: [], 2: []}
    with tempfile.TemporaryDirectory() as folder:
        for seed in range(options.repeats):
            for workers in (1, 2) if seed % 2 == 0 else (2, 1):
                sides[workers].append(search(Path(folder), workers, seed, words))
    ratios = [one["seconds"] / two["seconds"] for one, two in zip(*sides.values(), strict=True)]
    same = [one["board"] == two["board"] for one, two in zip(*sides.values(), strict=True)]
    report = {
        "command": words,
        **{
            field: {workers: [row[field] for row in rows] for workers, rows in sides.items()}
            for field in ("seconds", "train_seconds")
        },
        "median_ratio": round(statistics.median(ratios), 3),
        "boards_in_bytes": [len(row["board"]) for row in sides[1]],
        "int8_files": [row["board"].count('"int8_sha256"') for row in sides[1]],
        "same_board": all(same),
    }
    print(json.dumps(report, indent=2))
    sys.exit(not report["same_board"])


if __name__ == "__main__":
    main()
