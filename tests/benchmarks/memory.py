"""Memory of the supervisor and its slots over a long search of tiny nets.

A real search on `sample:digits`. After each training that ends, the resident memory (RSS) and
the proportional share (PSS, where the kernel tells it) of the supervisor and of each worker are
read, in MB of 2**20 bytes. Prints JSON: by process the slope in MB a candidate, by least squares
after the first candidates, first and last figures, and the workers that a slot has had. Ends
with 1 if a slope is above `--most`. Run it alone:
    .venv/bin/python tests/benchmarks/memory.py --max-candidates 300
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from pathlib import Path

import numpy as np
import psutil

from tuner.store.runs import RunFolder

NAME = "memory"
WARM_UP = 10
"""Candidates before the slope counts: kernels, caches and the allocator's pools settle."""

MB = 2.0**20
POLL_SECONDS = 0.5
WORKER_BYTES = 2**28
"""Children below this are joblib's resource tracker and workers that still import."""


def processes(supervisor: psutil.Process) -> Iterator[tuple[str, psutil.Process]]:
    """The supervisor and its workers, by the number of the slot whose log they write."""
    yield "supervisor", supervisor
    for child in supervisor.children(recursive=True):
        try:
            if child.memory_info().rss > WORKER_BYTES:
                log = Path(os.readlink(f"/proc/{child.pid}/fd/1"))
                yield log.stem, child
        except (psutil.Error, OSError):
            continue


def figures(process: psutil.Process) -> dict[str, float]:
    """Memory of a process in MB."""
    full = process.memory_full_info()
    return {
        "pid": process.pid,
        "rss": full.rss / MB,
        "pss": getattr(full, "pss", float("nan")) / MB,
        "uss": full.uss / MB,
    }


def ended(folder: RunFolder) -> tuple[int, int]:
    """Trainings that have ended, at a rung or for good, and candidates that they were of."""
    indexes = [
        event["index"] for event in folder.events() if event["event"] in ("rung", "finished")
    ]
    return len(indexes), len(set(indexes))


def slope(rows: list[Mapping[str, float]], name: str) -> float:
    """MB a candidate, least squares after the warm-up."""
    late = [(row["candidates"], row[name]) for row in rows if row["candidates"] > WARM_UP]
    count, values = np.array(late, float).T
    return float(np.polyfit(count, values, 1)[0])


def summary(rows: list[Mapping[str, float]]) -> dict[str, object]:
    """What a process' figures come to."""
    late = [row for row in rows if row["candidates"] > WARM_UP]
    told = {
        name: {
            "slope_mb_a_candidate": round(slope(rows, name), 4),
            "first_mb": round(late[0][name], 1),
            "last_mb": round(late[-1][name], 1),
            "most_mb": round(max(row[name] for row in rows), 1),
        }
        for name in ("rss", "pss", "uss")
    }
    return {**told, "workers": len({row["pid"] for row in rows}), "readings": len(rows)}


def main() -> None:
    """Search, sample, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--max-candidates", type=int, default=300)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--target", default="nano33ble")
    parser.add_argument("--ram-kb", default="8", help="keeps the nets tiny")
    parser.add_argument("--most", type=float, default=0.5, help="MB of RSS a candidate")
    parser.add_argument("--samples", type=Path, help="file that gets every reading, as JSON")
    options = parser.parse_args()
    if options.max_candidates < WARM_UP + 5:
        sys.exit(f"a slope needs --max-candidates of at least {WARM_UP + 5}")
    home = Path(tempfile.mkdtemp())
    command = [sys.executable, "-m", "tuner", "--target", options.target]
    command += ["--data", "sample:digits", "--name", NAME, "--ram-kb", options.ram_kb]
    command += ["--max-candidates", str(options.max_candidates), "--workers", str(options.workers)]
    started = time.monotonic()
    rows: dict[str, list[dict[str, float]]] = {}
    with open(home / "output.log", "wb") as output:
        search = subprocess.Popen(
            command,
            cwd=home,
            env={**os.environ, "TUNE_HOME": str(home)},
            stdout=output,
            stderr=subprocess.STDOUT,
        )
        folder, seen = RunFolder(home / "runs" / NAME), 0
        supervisor = psutil.Process(search.pid)
        while search.poll() is None:
            time.sleep(POLL_SECONDS)
            trainings, candidates = ended(folder)
            if trainings == seen:
                continue
            seen = trainings
            try:
                for name, process in processes(supervisor):
                    reading = {"candidates": candidates, **figures(process)}
                    rows.setdefault(name, []).append(reading)
            except psutil.Error:  # it ended while it was read
                continue
    if search.returncode:
        sys.exit(f"the search failed:\n{(home / 'output.log').read_text()[-2000:]}")
    if options.samples:
        options.samples.write_text(json.dumps(rows))
    told = {name: summary(part) for name, part in sorted(rows.items())}
    slopes = {name: slope(part, "rss") for name, part in rows.items()}
    report = {
        "command": command[3:],
        "machine": f"{platform.machine()}, {os.cpu_count()} cores, Python "
        f"{platform.python_version()}",
        "seconds": round(time.monotonic() - started, 1),
        "trainings": seen,
        "warm_up": WARM_UP,
        "processes": told,
        "most_mb_a_candidate": options.most,
        "passed": all(value < options.most for value in slopes.values()),
    }
    print(json.dumps(report, indent=2))
    sys.exit(not report["passed"])


if __name__ == "__main__":
    main()
