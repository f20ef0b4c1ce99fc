"""Run one tool for its time, then let the referee score what it picked; one JSON a (tool, seed)."""

from __future__ import annotations

import json
import os
import platform
import shutil
import signal
import subprocess
import sys
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.side_by_side.protocol import (
    ARENA_LIMIT_BYTES,
    CORES,
    FILE_LIMIT_BYTES,
    HERE,
    PICKS,
    SPACE,
    TRIALS,
    Data,
    read_lines,
)
from benchmarks.side_by_side.tools import SHARED_PACKAGES, TOOLS

SAMPLE_SECONDS = 1.0


def run_tool(tool: str, seed: int, seconds: float, out: Path, prepared: Path) -> None:
    """Run, referee, write `out/TOOL-SEED.json`; what is there already is left as it is.

    Args:
        tool: one of `TOOLS`.
        seed: of the split and of the tool.
        seconds: from the start of its process to the last pick that counts.
        out: for the JSON, and a folder with all that the tool wrote.
        prepared: for the data.
    """
    result = out / f"{tool}-{seed}.json"
    if result.exists():
        print(f"{result} exists", file=sys.stderr)
        return
    data = Data(prepared)
    data.prepare(seed)
    folder = out / f"{tool}-{seed}"
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    print(f"{tool}, seed {seed}, {seconds / 60:g} minutes", file=sys.stderr)
    timing = _run_process(tool, seed, seconds, folder, data)
    picks = [
        {**pick, "seconds": pick["at"] - timing["started"]} for pick in read_lines(folder / PICKS)
    ]
    picks = [pick for pick in picks if pick["seconds"] <= seconds]
    (folder / "picks.json").write_text(json.dumps(picks), encoding="utf-8")
    _run_referee(folder, data, seed, seconds)
    trials = [
        trial for trial in read_lines(folder / TRIALS) if trial["at"] - timing["started"] <= seconds
    ]
    record = {
        "tool": tool,
        "seed": seed,
        "settings": {
            "seconds": seconds,
            "cores": CORES,
            "space": "AutoKeras' own" if tool == "autokeras" else SPACE,
            "arena_limit_bytes": ARENA_LIMIT_BYTES,
            "file_limit_bytes": FILE_LIMIT_BYTES,
        },
        "machine": machine(),
        "versions": versions((*SHARED_PACKAGES, *TOOLS[tool].packages)),
        **timing,
        "trained": sum(not trial["refused"] for trial in trials),
        "refused": sum(trial["refused"] for trial in trials),
        **_scored(folder),
    }
    _write(result, record)


def score_again(result: Path, prepared: Path) -> None:
    """Let the referee score what a tool has picked again, and judge its trials.

    Args:
        result: the JSON of a run that `run_tool` has measured, beside the folder of its picks.
        prepared: for the data.
    """
    record = json.loads(result.read_text(encoding="utf-8"))
    data = Data(prepared)
    data.prepare(record["seed"])
    folder = result.with_suffix("")
    print(f"{record['tool']}, seed {record['seed']}", file=sys.stderr)
    _run_referee(folder, data, record["seed"], record["settings"]["seconds"])
    _write(result, {**record, **_scored(folder)})


def _scored(folder: Path) -> dict[str, Any]:
    """What the referee found."""
    scored = json.loads((folder / "scored.json").read_text(encoding="utf-8"))
    curve = scored["curve"]
    return {
        "trained_over_limit": scored["trained_over_limit"],
        "curve": curve,
        "final": curve[-1] if curve else None,
    }


def _write(result: Path, record: dict[str, Any]) -> None:
    partial = result.with_suffix(".partial")
    partial.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
    partial.replace(result)


def _run_referee(folder: Path, data: Data, seed: int, seconds: float) -> None:
    log = folder / "referee.txt"
    with log.open("w", encoding="utf-8") as file:
        done = subprocess.run(
            [
                sys.executable, "-m", "benchmarks.side_by_side.referee",
                folder, data.folder, str(seed), str(seconds),
            ],
            env={**_environment(folder), "TF_NUM_INTRAOP_THREADS": "1"},
            stdout=file,
            stderr=file,
        )  # fmt: skip
    if done.returncode:
        raise SystemExit(f"The referee ended with exit code {done.returncode}:\n{_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text(encoding="utf-8", errors="replace")[-2000:]


def _environment(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "CUDA_VISIBLE_DEVICES": "-1",
        "TF_CPP_MIN_LOG_LEVEL": "3",
        "PYTHONPATH": str(HERE.parents[1]),
        "TUNE_HOME": str(folder / "home"),
        "TUNE_PATH": str(HERE),
    }


def _run_process(tool: str, seed: int, seconds: float, folder: Path, data: Data) -> dict[str, Any]:
    """Start the tool, watch its memory, end it when its time is over."""
    cores = sorted(os.sched_getaffinity(0))[:CORES]
    with (folder / "log.txt").open("w", encoding="utf-8") as log:
        started = time.time()
        process = subprocess.Popen(
            [
                sys.executable, "-m", f"benchmarks.side_by_side.{TOOLS[tool].module}",
                tool, folder, data.folder, str(seed), str(seconds),
            ],
            env=_environment(folder),
            stdout=log,
            stderr=log,
            start_new_session=True,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )  # fmt: skip
        limit = seconds + TOOLS[tool].grace_seconds
        peak = 0
        killed = True
        try:
            while time.time() - started < limit:
                if process.poll() is not None:
                    killed = False
                    break
                peak = max(peak, _memory(process.pid))
                time.sleep(SAMPLE_SECONDS)
        finally:
            ended = time.time() - started
            with suppress(ProcessLookupError):  # also what a tool that ended left behind
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        if not killed and process.returncode and not (folder / PICKS).exists():
            raise SystemExit(
                f"{tool} ended with exit code {process.returncode}:\n{_end_of(folder / 'log.txt')}"
            )
    return {
        "started": started,
        "ended_seconds": round(ended, 1),
        "exit_code": None if killed else process.returncode,
        "peak_memory_bytes": peak,
    }


def _memory(pid: int) -> int:
    """Resident memory of a process and all below it; shared pages count in each."""
    total = 0
    try:
        process = psutil.Process(pid)
        for member in [process, *process.children(recursive=True)]:
            total += member.memory_info().rss
    except psutil.NoSuchProcess:
        pass  # it ended while it was looked at
    return total


def machine() -> dict[str, Any]:
    """What the figures were taken on."""
    model = ""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                model = line.partition(":")[2].strip()
                break
    return {
        "cpu": model or platform.processor(),
        "cores": os.cpu_count(),
        "memory_bytes": psutil.virtual_memory().total,
        "system": f"{platform.system()} {platform.release()}",
        "python": platform.python_version(),
    }


def versions(packages: tuple[str, ...]) -> dict[str, str]:
    """Installed versions."""
    found = {}
    for package in packages:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
