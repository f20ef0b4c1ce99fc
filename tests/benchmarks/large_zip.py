"""The first epochs on a zip of more than 2 GB: memory of each process, and how soon they end.

Makes a zip of class folders with noisy 640 x 480 JPEG files, starts a search on it, and stops it
when the first candidates have been trained for their first epochs, converted and scored. Prints
JSON. By process, in MB of 2**20 bytes: the most
resident memory (RSS), of it the most that is its own (anonymous) and the most that is of files
(libraries, some 400 MB of TensorFlow's, and prepared images, a memory map); and the most of its
proportional share (PSS), in which what several processes have mapped is divided among them. Ends
with 1 if the RSS of one exceeds `--most-mb`. Needs 4 GB of free disk; run it alone:
    .venv/bin/python tests/benchmarks/large_zip.py --gigabytes 2.05
"""

from __future__ import annotations

import argparse
import io
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
import zipfile
from pathlib import Path

import numpy as np
from memory import MB, processes
from PIL import Image

from tuner.store.runs import RunFolder

NAME, CLASSES, WORKERS = "large-zip", 4, 2
POLL_SECONDS = 0.3


def make_zip(path: Path, size_bytes: float) -> int:
    """Write the zip and return its number of images; a class is a brighter colour channel."""
    generator = np.random.default_rng(0)
    noise = generator.integers(0, 200, (1024, 1280, 3)).astype(np.uint8)
    count = written = 0
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as packed:
        while written < size_bytes:
            label = count % CLASSES
            top, left = generator.integers(0, (1024 - 480, 1280 - 640))
            pixels = noise[top : top + 480, left : left + 640].copy()
            pixels[..., label % 3] += 50 if label < 3 else 25
            content = io.BytesIO()
            Image.fromarray(pixels).save(content, "JPEG", quality=75)
            packed.writestr(f"class-{label}/{count:06}.jpg", content.getvalue())
            written += content.tell()
            count += 1
    return count


def watch(process: subprocess.Popen[bytes], folder: Path) -> dict[str, dict[str, float]]:
    """The most memory of each process, until the first candidates are scored."""
    import psutil

    most: dict[str, dict[str, float]] = {}
    started = time.monotonic()
    supervisor = psutil.Process(process.pid)
    while process.poll() is None:
        for name, member in processes(supervisor):
            try:
                status = "".join(
                    Path(f"/proc/{member.pid}/{name}").read_text(encoding="utf-8")
                    for name in ("status", "smaps_rollup")
                )
            except OSError:
                continue
            fields = dict(line.split(":", 1) for line in status.splitlines() if "kB" in line)
            if "Pss" not in fields:  # it has just ended
                continue
            row = most.setdefault(name, {})
            for label, field in (
                ("most_rss_mb", "VmHWM"),
                ("most_pss_mb", "Pss"),
                ("own_mb", "RssAnon"),
                ("of_files_mb", "RssFile"),
            ):
                kilobytes = int(fields[field].split()[0])
                row[label] = max(row.get(label, 0.0), round(kilobytes * 1024 / MB, 1))
        scored = [event for event in _events(folder) if event["event"] in ("rung", "finished")]
        if len(scored) >= WORKERS:
            most["first_rungs"] = {"seconds": round(time.monotonic() - started, 1)}
            break
        time.sleep(POLL_SECONDS)
    return most


def _events(folder: Path) -> list[dict[str, object]]:
    return list(RunFolder(folder).events()) if (folder / "events.jsonl").exists() else []


def main() -> None:
    """Make the zip, search until the first candidates are scored, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--gigabytes", type=float, default=2.05)
    parser.add_argument("--most-mb", type=float, default=1024.0)
    parser.add_argument("--target", default="raspberry-pi-4")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        path = home / "images.zip"
        images = make_zip(path, options.gigabytes * 2**30)
        with (home / "log.txt").open("wb") as log:
            process = subprocess.Popen(
                [sys.executable, "-m", "tuner", "--target", options.target, "--data", str(path),
                 "--time", "20m", "--workers", str(WORKERS), "--name", NAME],
                env={**os.environ, "TUNE_HOME": str(home)}, cwd=home, stdout=log, stderr=log,
            )  # fmt: skip
            most = watch(process, home / "runs" / NAME)
            ended = process.poll()
            process.send_signal(signal.SIGTERM)
            process.wait(timeout=60)
        if "first_rungs" not in most:
            raise SystemExit(
                f"The search ended with exit code {ended} before its first rungs:\n"
                + (home / "log.txt").read_text(encoding="utf-8")[-2000:]
            )
        result = {
            "zip_bytes": path.stat().st_size,
            "images": images,
            "first_rungs_seconds": most.pop("first_rungs")["seconds"],
            "prepared_bytes": sum(
                file.stat().st_size for file in (home / "runs" / ".cache").rglob("*.npy")
            ),
            "processes": most,
        }
    print(json.dumps(result, indent=2))
    if any(row["most_rss_mb"] > options.most_mb for row in most.values()):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
