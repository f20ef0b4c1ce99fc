"""One search for several boards beside a search for each: what is lost, what it costs.

`loss`, on CIFAR-10: for each seed, a search for four boards of four sizes and a search for each
of them alone, all of the same time. What is lost on a board is the test accuracy (int8) of the
best of its own search less that of the best of the shared one; the best is chosen by validation.
`overhead`, on sample:digits: the wall-clock of a search for 20 boards beside searches for one
board of each size, at an equal number of candidates.

Training: the first 1,000 images of each class by file name; test: the first 300. Searches whose
results are in `--home` are not repeated, so it can be stopped and started again. Prints JSON. Run
it alone:
    .venv/bin/python tests/benchmarks/many_targets.py loss --home FOLDER --time 3m --seeds 3
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from cifar10_search import DATA, unpack

from tuner.catalog import names

BOARDS = ("stm32g0b1-32k", "nano33ble", "stm32h743", "k230")
TWENTY = 20


def small_board(home: Path) -> None:
    """A board of the smallest size: the STM32G0B1 with a model held to 32 KB of RAM."""
    text = names("targets")["stm32g0b1"].read_text(encoding="utf-8")
    (home / "targets").mkdir(exist_ok=True)
    (home / "targets" / "stm32g0b1-32k.toml").write_text(
        text.replace('name = "stm32g0b1"', 'name = "stm32g0b1-32k"')
        + '\nlimits = "given by this benchmark"\n\n[limits]\nram_bytes = 32_768\n',
        encoding="utf-8",
    )


def search(home: Path, data: str, name: str, targets: list[str], *options: str) -> float:
    """Search unless it was done before; wall-clock seconds, with test scoring."""
    folder, seconds = home / "runs" / name, home / f"{name}.seconds"
    if seconds.exists():
        return float(seconds.read_text())
    shutil.rmtree(folder, ignore_errors=True)
    started = time.monotonic()
    subprocess.run(
        [sys.executable, "-m", "tuner", "--data", data, "--name", name,
         "--workers", "2", *(word for target in targets for word in ("--target", target)),
         *options],
        env={**os.environ, "TUNE_HOME": str(home)}, cwd=home, check=True, stdout=sys.stderr,
    )  # fmt: skip
    seconds.write_text(f"{time.monotonic() - started:.1f}")
    return float(seconds.read_text())


def best(home: Path, name: str, target: str) -> dict[str, Any]:
    """The best candidate of a run on a board, and how many of the trained ones fit it."""
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "report", name, "--target", target, "--format", "json"],
        env={**os.environ, "TUNE_HOME": str(home)}, cwd=home, check=True, capture_output=True,
        text=True,
    )  # fmt: skip
    rows = [row for row in json.loads(done.stdout) if row["status"] == "ok"]
    fitting = [row for row in rows if row["costs"][target]["fits"]]
    if not fitting:
        return {"int8_test": 0.0, "fit": 0, "trained": len(rows)}
    return {
        "id": fitting[0]["id"],
        "origin": fitting[0]["origin"],
        "epochs": fitting[0]["epochs"],
        "int8_test": fitting[0]["accuracy"]["test"]["int8"],
        "fit": len(fitting),
        "trained": len(rows),
    }


def loss(home: Path, seconds: str, seeds: int) -> dict[str, Any]:
    """Points lost on each board and seed."""
    rows = []
    for seed in range(seeds):
        options = ("--time", seconds, "--seed", str(seed))
        data = str(home / "cifar10")
        search(home, data, f"shared-{seed}", list(BOARDS), *options)
        for board in BOARDS:
            search(home, data, f"{board}-{seed}", [board], *options)
            own, shared = best(home, f"{board}-{seed}", board), best(home, f"shared-{seed}", board)
            lost = 100 * (own["int8_test"] - shared["int8_test"])
            rows.append(
                {"board": board, "seed": seed, "lost_points": round(lost, 2), "own": own,
                 "shared": shared}
            )  # fmt: skip
            print(json.dumps(rows[-1]), file=sys.stderr)
    by_board = {
        board: round(
            statistics.mean(row["lost_points"] for row in rows if row["board"] == board), 2
        )
        for board in BOARDS
    }
    return {
        "time": seconds,
        "median_lost_points": round(statistics.median(row["lost_points"] for row in rows), 2),
        "mean_lost_points_by_board": by_board,
        "median_over_boards_of_means": round(statistics.median(by_board.values()), 2),
        "rows": rows,
    }


def overhead(home: Path, candidates: int) -> dict[str, Any]:
    """Wall-clock of 20 boards by that of one, at an equal number of candidates.

    A board that takes larger nets trains longer, so the 20 stand beside one board of each size.
    """
    data, options = "sample:digits", ("--max-candidates", str(candidates), "--seed", "0")
    twenty = [*BOARDS[1:], *(name for name in names("targets") if name not in BOARDS)][:TWENTY]
    many = search(home, data, "overhead-many", twenty, *options)
    alone = {board: search(home, data, f"overhead-{board}", [board], *options) for board in BOARDS}
    return {
        "candidates": candidates,
        "targets": twenty,
        "seconds": many,
        "seconds_alone": alone,
        "ratio": {board: round(many / seconds, 3) for board, seconds in alone.items()},
        "ratio_to_mean": round(many / statistics.mean(alone.values()), 3),
    }


def main() -> None:
    """Search, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("what", choices=["loss", "overhead"])
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--time", default="3m")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--candidates", type=int, default=8)
    options = parser.parse_args()
    home = options.home.resolve()
    home.mkdir(parents=True, exist_ok=True)
    small_board(home)
    if options.what == "loss":
        if not (home / "cifar10").exists():
            unpack(DATA / "cifar10-train.zip", home / "cifar10" / "train", 1000)
            unpack(DATA / "cifar10-test.zip", home / "cifar10" / "test", 300)
        result = loss(home, options.time, options.seeds)
    else:
        result = overhead(home, options.candidates)
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
