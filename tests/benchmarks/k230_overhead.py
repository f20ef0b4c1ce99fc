"""What compiling and simulating adds to a search for the K230: wall-clock with by without.

Two searches on `sample:parts`, one after the other, of the same seed, candidates and epochs; the
first finds no .NET and ranks by LiteRT int8. A limit on latency keeps the nets small, so that both
take minutes; larger nets train longer and simulate hardly longer. Searches whose seconds are in
`--home` are not repeated. Prints JSON; ends with 1 where the ratio is above 1.3. Run it alone, with
nncase and .NET installed:
    .venv/bin/python tests/benchmarks/k230_overhead.py --home FOLDER
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

from tuner.runtimes.kmodel import nncase_version
from tuner.store.runs import RunFolder

ALLOWED_RATIO = 1.3


def search(home: Path, name: str, options: list[str], **environment: str) -> float:
    """Search, unless it was done before; wall-clock seconds."""
    seconds = home / f"{name}.seconds"
    if not seconds.exists():
        started = time.monotonic()
        subprocess.run(
            [sys.executable, "-m", "tuner", "--target", "k230", "--data", "sample:parts",
             "--name", name, *options],
            env={**os.environ, "TUNE_HOME": str(home), **environment}, check=True,
            stdout=sys.stderr,
        )  # fmt: skip
        seconds.write_text(f"{time.monotonic() - started:.1f}")
    return float(seconds.read_text())


def main() -> int:
    """Search twice, print; 1 if simulating takes more than it may."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path, required=True, help="a folder for the runs")
    parser.add_argument("--max-candidates", type=int, default=6)
    parser.add_argument("--latency-ms", type=float, default=0.03)
    parser.add_argument("--seed", type=int, default=0)
    given = parser.parse_args()
    nncase_version()  # raises where there is nothing to measure
    home = given.home.resolve()
    empty = home / "no-dotnet"
    empty.mkdir(parents=True, exist_ok=True)
    options = [
        f"--{name.replace('_', '-')}={value}" for name, value in vars(given).items()
        if name != "home"
    ]  # fmt: skip
    without = search(home, "without", options, DOTNET_ROOT=str(empty))
    simulated = search(home, "simulated", options)
    results = {name: RunFolder(home / "runs" / name).results() for name in ("without", "simulated")}
    trained = {
        name: [(result.candidate.id, result.status, result.epochs) for result in found]
        for name, found in results.items()
    }
    images = [
        build.paired["validation"].images
        for result in results["simulated"]
        for build in result.builds.values()
        if build.paired
    ]
    ratio = simulated / without
    same = trained["without"] == trained["simulated"]
    summary = {
        "options": options,
        "seconds_without": without,
        "seconds_simulated": simulated,
        "ratio": round(ratio, 3),
        "same_candidates_and_epochs": same,
        "candidates_simulated": len(images),
        "images_each": images,
        "unmeasured": [dict(result.unmeasured) for result in results["simulated"]
                       if result.unmeasured],
    }  # fmt: skip
    print(json.dumps(summary, indent=2))
    return 0 if ratio <= ALLOWED_RATIO and same and images else 1


if __name__ == "__main__":
    sys.exit(main())
