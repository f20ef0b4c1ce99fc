"""What TensorFlow Lite Micro itself says a model takes: the referee of the arena's plan."""

from __future__ import annotations

import os
import re
import tempfile

import numpy as np

ARENA_BYTES = 32 * 1024 * 1024


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
