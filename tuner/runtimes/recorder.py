"""What TensorFlow Lite Micro itself takes for a model. Owns the package tflite-micro.

`recorded_arena` runs the model in this process; `measure_arena` in a process of its own, because
a model that TFLM does not expect can end the whole process.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile

import numpy as np

from tuner.errors import TuneError
from tuner.runtimes.tool import package_tool, require, run_tool
from tuner.spec import Tool

ARENA_BYTES = 32 * 1024 * 1024
MEASURE_SECONDS = 60.0
"""Time limit of `measure_arena`; nets of this tool take under a second."""


def tools() -> tuple[Tool, ...]:
    """The package tflite-micro, whether it is installed or not."""
    return (
        package_tool(
            "tflite-micro",
            ["tflite_micro"],
            "tflite-micro is not installed, so the arena is not measured: "
            "pip install 'edge-tuner[referee]' (Python 3.11 on x86-64).",
        ),
    )


def recorded_arena(model: bytes) -> tuple[int, int]:
    """Run a model once in tflite-micro and read its recording allocator.

    Args:
        model: the TFLite file's bytes.

    Returns:
        Bytes of the arena's head and tail, on this machine's 64-bit build.

    Raises:
        ImportError: tflite-micro is not installed (PyPI, Python 3.10 and 3.11 on x86-64 only).
    """
    from tflite_micro import runtime

    interpreter = runtime.Interpreter.from_bytes(model, arena_size=ARENA_BYTES)
    image = interpreter.get_input_details(0)
    interpreter.set_input(np.zeros(image["shape"], image["dtype"]), 0)
    interpreter.invoke()
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(1), os.dup(2)  # the report is written from C++
        for descriptor in (1, 2):
            os.dup2(sink.fileno(), descriptor)
        try:
            interpreter.print_allocations()
        finally:
            for descriptor, original in zip((1, 2), saved, strict=True):
                os.dup2(original, descriptor)
                os.close(original)
        sink.seek(0)
        report = sink.read().decode()
    head, tail = (
        re.search(rf"Arena allocation {part} (\d+) bytes", report) for part in ("head", "tail")
    )
    if head is None or tail is None:
        raise RuntimeError(f"expected head and tail in tflite-micro's report. Received: {report!r}")
    return int(head[1]), int(tail[1])


def measure_arena(model: bytes) -> tuple[int, int]:
    """`recorded_arena` in a process of its own.

    Args:
        model: the TFLite file's bytes.

    Raises:
        ImportError: tflite-micro is not installed.
        TuneError: TFLM refuses the model, crashes or takes too long.
    """
    require(tools())
    try:
        done = run_tool("tuner.runtimes.recorder", seconds=MEASURE_SECONDS, given=model)
    except subprocess.TimeoutExpired:
        raise TuneError(
            f"tflite-micro took more than {MEASURE_SECONDS:g} s for the model."
        ) from None
    if done.returncode:
        raise TuneError(f"tflite-micro cannot run the model: {_reason(done)}.")
    head, tail = json.loads(done.stdout.splitlines()[-1])
    return int(head), int(tail)


def _reason(done: subprocess.CompletedProcess[bytes]) -> str:
    """What the process wrote before its traceback: TFLM's own words, or how it ended."""
    if done.returncode < 0:
        return f"its process ended by signal {-done.returncode}"
    text = done.stderr.decode(errors="replace")
    said = text.partition("Traceback (most recent call last)")[0].strip()
    lines = (said or text.strip()).splitlines() or ["no reason given"]
    return (lines[0] if said else lines[-1]).strip().rstrip(".")


if __name__ == "__main__":
    print(json.dumps(recorded_arena(sys.stdin.buffer.read())))
