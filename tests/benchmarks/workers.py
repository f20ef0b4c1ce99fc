"""Two workers beside one: trainings that end in the same minutes, on the CIFAR-10 subset.

Each side is a whole search with a clock, from the start of the command, alone on the machine and
in turns. Prints JSON. Run it alone:
    .venv/bin/python tests/benchmarks/workers.py --time 4m --repeats 3
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

from cifar10_search import DATA, TARGET, TRAINING_IMAGES_PER_CLASS, unpack

from tuner.store.runs import RunFolder


def search(home: Path, workers: int, seed: int, minutes: str) -> dict[str, float]:
    """Search, and count what was trained."""
    name = f"{workers}-workers-{seed}"
    subprocess.run(
        [sys.executable, "-m", "tuner", "--target", TARGET, "--data", str(home / "cifar10"),
         "--time", minutes, "--workers", str(workers), "--seed", str(seed), "--name", name],
        env={**os.environ, "TUNE_HOME": str(home)}, cwd=home, check=True,
        stdout=sys.stderr,
    )  # fmt: skip
    events = RunFolder(home / "runs" / name).events()
    ended = [event for event in events if "train_seconds" in event]
    return {
        "candidates": len({event["index"] for event in ended}),
        "trainings": len(ended),
        "train_seconds": round(sum(event["train_seconds"] for event in ended), 1),
    }


def main() -> None:
    """Search with one and with two workers, in turns."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--time", default="4m")
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        unpack(DATA / "cifar10-train.zip", home / "cifar10" / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", home / "cifar10" / "test", None)
        sides: dict[int, list[dict[str, float]]] = {1: [], 2: []}
        for seed in range(options.repeats):
            for workers in (1, 2) if seed % 2 == 0 else (2, 1):
                sides[workers].append(search(home, workers, seed, options.time))
    ratios = {
        field: [two[field] / one[field] for one, two in zip(sides[1], sides[2], strict=True)]
        for field in ("candidates", "trainings", "train_seconds")
    }
    print(
        json.dumps(
            {
                "one": sides[1],
                "two": sides[2],
                "median_ratio": {
                    name: round(statistics.median(values), 3) for name, values in ratios.items()
                },
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
