"""MLPerf Tiny's image classification: search and retraining on CIFAR-10's 50,000 images.

The last 500 of each class by file name validate, the others train.
The limits are those of the closed division's net, ResNet-8: 64 KB of arena and a file of 100 KB,
which the referee measures (tflite-micro's recording allocator on this 64-bit machine; bytes of the
file). The closed division asks 85 % of the int8 model. Prints JSON. Run it alone; called again with
the same --home after it was killed, it goes on:
    .venv/bin/python tests/benchmarks/mlperf_tiny.py --home FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from cifar10_search import DATA, unpack

import tuner
from tuner.store.models import find_model
from tuner.testing.referee import recorded_arena

TARGET = Path(__file__).resolve().parent / "side_by_side" / "targets" / "bench-64k.toml"
ARENA_BYTES = 64 * 1024
FILE_BYTES = 100 * 1024
RUNTIME_BYTES = 52_429
"""The least upper bound of the interpreter's code, which the gate adds to the file."""


def main() -> None:
    """Search, retrain the best, measure, print."""
    parser = argparse.ArgumentParser()
    # ResNet-8 trains 30 epochs on one core in half of the search, and so is among what it draws.
    parser.add_argument("--time", default="48m", help="of the search")
    parser.add_argument("--minutes", default="60", help="of the retraining")
    parser.add_argument("--space", action="append", default=[])
    parser.add_argument("--seed", default="0")
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    home = options.home or Path(tempfile.mkdtemp())
    images = home / "cifar10-all"
    if not images.exists():
        unpack(DATA / "cifar10-train.zip", images / "train", None)
        for folder in sorted((images / "train").iterdir()):
            held_back = images / "validation" / folder.name
            held_back.mkdir(parents=True)
            for image in sorted(folder.iterdir())[-500:]:
                image.rename(held_back / image.name)
        unpack(DATA / "cifar10-test.zip", images / "test", None)
    os.environ["TUNE_HOME"] = str(home)

    def tune(*words: str) -> float:
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tuner", *words], cwd=home, check=True, stdout=sys.stderr
        )
        return round(time.monotonic() - started, 1)

    spaces = (word for name in options.space for word in ("--space", name))
    limit_kb = str((FILE_BYTES + RUNTIME_BYTES) / 1024)
    if not (home / "runs" / "mlperf").exists():
        tune("--target", str(TARGET), "--data", str(images), "--time", options.time,
             "--flash-kb", limit_kb, "--seed", options.seed, "--name", "mlperf",
             *spaces)  # fmt: skip
    if not (home / "mlperf.toml").exists():
        built = (row for row in tuner.Run("mlperf").candidates if "int8" in row["builds"])
        best = next(row for row in built if row["builds"]["int8"]["size_bytes"] <= FILE_BYTES)
        tune("select", "mlperf", best["id"], "-o", str(home / "mlperf.toml"))
    retrained = tune("retrain", str(home / "mlperf.toml"), "--name", "mlperf", "--minutes",
                     options.minutes, "--patience-percent", "100")  # fmt: skip
    folder = find_model("mlperf")
    version = folder.read()
    file = (folder.path / version.builds["int8"].artifact).read_bytes()
    arena_bytes = sum(recorded_arena(file))
    print(
        json.dumps(
            {
                "search": options.time,
                "retrain_seconds": retrained,
                "epochs": version.epochs,
                "test": {
                    precision: build.accuracy["test"].value
                    for precision, build in version.builds.items()
                },
                "file_bytes": len(file),
                "arena_bytes": arena_bytes,
                "within_limits": len(file) <= FILE_BYTES and arena_bytes <= ARENA_BYTES,
                "template": (home / "mlperf.toml").read_text(encoding="utf-8"),
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
