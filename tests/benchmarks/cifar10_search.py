"""A search on CIFAR-10, 15 minutes for the Arduino Nano 33 BLE Sense, checked by the referee.

Training: the first 1,000 images of each class by file name; test: all 10,000. Every `ok`
candidate's int8 file is loaded by tflite-micro's recording allocator. What the report says to fit
a microcontroller is held against its limits: the arena of this 64-bit host, and the file. Prints
JSON. Run it alone:
    .venv/bin/python tests/benchmarks/cifar10_search.py --time 15m
    .venv/bin/python tests/benchmarks/cifar10_search.py --time 20m --target all
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from pathlib import Path

from tuner.cost.arena import plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.spec import Candidate, Target, from_plain
from tuner.testing.referee import recorded_arena

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TRAINING_IMAGES_PER_CLASS = 1000
TARGET = "nano33ble"


def unpack(archive: Path, folder: Path, per_class: int | None) -> None:
    """Write the first images of each class below `folder`."""
    with zipfile.ZipFile(archive) as source:
        names = defaultdict(list)
        for name in sorted(source.namelist()):
            if name.endswith(".jpg"):
                names[name.split("/")[-2]].append(name)
        for label, members in names.items():
            (folder / label).mkdir(parents=True)
            for member in members[:per_class]:
                (folder / label / Path(member).name).write_bytes(source.read(member))


def main() -> None:
    """Search, measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--time", default="15m")
    parser.add_argument("--target", action="append")
    parser.add_argument("--seed", default="0")
    parser.add_argument("--home", type=Path)
    options = parser.parse_args()
    if not (DATA / "cifar10-train.zip").exists():
        sys.exit(f"cifar10-train.zip and cifar10-test.zip are needed in {DATA}")
    home = options.home or Path(tempfile.mkdtemp())
    images = home / "cifar10"
    if not images.exists():
        unpack(DATA / "cifar10-train.zip", images / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", images / "test", None)
    environment = {**os.environ, "TUNE_HOME": str(home)}
    tune = [sys.executable, "-m", "tuner"]
    started = time.monotonic()
    subprocess.run(
        [*tune, *(word for name in options.target or [TARGET] for word in ("--target", name)),
         "--data", str(images), "--time", options.time, "--workers", "2",
         "--seed", options.seed, "--name", "cifar10"],
        env=environment, cwd=home, check=True, stdout=sys.stderr,
    )  # fmt: skip
    seconds = time.monotonic() - started
    report = json.loads(
        subprocess.run(
            [*tune, "report", "cifar10", "--format", "json"],
            env=environment, cwd=home, check=True, capture_output=True, text=True,
        ).stdout
    )  # fmt: skip
    run = json.loads((home / "runs" / "cifar10" / "run.json").read_text(encoding="utf-8"))
    boards = [from_plain(Target, plain, "run.json") for plain in run["targets"]]
    limits = {board.name: board.model_limits for board in boards if board.runtime == "tflm"}
    rows = []
    for row in report:
        if row["status"] != "ok":
            continue
        model = (home / "runs" / "cifar10" / row["artifacts"]["int8_tflite"]).read_bytes()
        head, tail = recorded_arena(model)
        candidate = from_plain(Candidate, row["candidate"], row["id"])
        reference = plan_arena(lower(candidate.architecture))
        fits = [name for name in limits if row["costs"][name]["fits"]]
        rows.append(
            {
                "id": row["id"],
                "origin": row["origin"],
                "int8_validation": row["accuracy"]["validation"]["int8"],
                "float32_validation": row["accuracy"]["validation"]["float32"],
                "int8_test": row["accuracy"]["test"]["int8"],
                "float32_test": row["accuracy"]["test"]["float32"],
                "epochs": row["epochs"],
                "train_seconds": row["train_seconds"],
                "head_predicted": reference.head_bytes,
                "head_recorded": head,
                "host_total_recorded": head + tail,
                "file_predicted": model_file_bytes(lower(candidate.architecture)).value,
                "file_bytes": len(model),
                "fits": len(fits),
                "over_limit": [
                    name
                    for name in fits
                    if head + tail > limits[name].ram_bytes or len(model) > limits[name].flash_bytes
                ],
            }
        )
    best = rows[0]
    print(
        json.dumps(
            {
                "targets": len(boards),
                "fits_checked": sum(row["fits"] for row in rows),
                "wall_seconds": round(seconds, 1),
                "ok": len(rows),
                "statuses": sorted(row["status"] for row in report),
                "over_limit_measured": sum(bool(row["over_limit"]) for row in rows),
                "best_int8_test": best["int8_test"],
                "best_float32_test": best["float32_test"],
                "best_drop_points": round(100 * (best["float32_test"] - best["int8_test"]), 2),
                "candidates": rows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
