"""RAM and flash as planned against what TFLM and the converter give, and the speed of planning.

    python tests/benchmarks/costs.py --nets 200 -o costs.json

Draws random candidates of every search space and takes the MLPerf Tiny models. It first sizes them
in this process without TensorFlow, then converts each and asks tflite-micro's recording allocator.
JSON goes to the file or stdout, the table to stderr.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from tuner import catalog
from tuner.cost.lower import lower
from tuner.runtimes import tflm
from tuner.spec import Architecture
from tuner.testing.mlperf_tiny import MLPERF_TINY
from tuner.testing.referee import Comparison, compare, space_architectures

TARGET = "nano33ble"


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--nets", type=int, default=200, help="candidates of each space")
    parser.add_argument("-o", "--output", type=Path)
    options = parser.parse_args(arguments)
    groups = {
        space: list(space_architectures(space, options.nets))
        for space in sorted(catalog.names("search_spaces"))
    }
    groups["mlperf_tiny"] = [build() for build in MLPERF_TINY.values()]
    sized = {name: candidates_a_second(nets) for name, nets in groups.items()}
    without_tensorflow = not any(name in sys.modules for name in ("tensorflow", "keras"))
    report = []
    for name, nets in groups.items():
        rows = [compare(net, seed) for seed, net in enumerate(nets)]
        report.append(summary(name, rows, sized[name]) | {"no_tensorflow": without_tensorflow})
        print(line(report[-1]), file=sys.stderr, flush=True)
    text = json.dumps(report, indent=1)
    if options.output:
        options.output.write_text(text + "\n")
    else:
        print(text)
    return 0


def candidates_a_second(nets: Sequence[Architecture]) -> float:
    """How many of `nets` one core sizes a second: graph, RAM, flash and latency, nothing cached."""
    target = catalog.load_target(TARGET)
    tflm.cost(lower(nets[0]), target)  # imports and tables
    started, count = time.process_time(), 0
    while time.process_time() - started < 1.0:
        lower.cache_clear()
        for net in nets:
            tflm.cost(lower(net), target)
        count += len(nets)
    return count / (time.process_time() - started)


def summary(name: str, rows: Sequence[Comparison], a_second: float) -> dict[str, object]:
    """One group's figures; the ratio is the median conversion against one sizing."""
    residuals = [row.file_residual_bytes for row in rows]
    seconds = statistics.median(row.seconds for row in rows)
    return {
        "group": name,
        "nets": len(rows),
        "heads_equal": sum(row.head_bytes == row.planned_head_bytes for row in rows),
        "tails_equal": sum(row.tail_bytes == row.planned_tail_bytes for row in rows),
        "worst_total_error_percent": max((100 * row.total_error for row in rows), key=abs),
        "file_residual_bytes": {
            "min": min(residuals),
            "median": statistics.median(residuals),
            "max": max(residuals),
        },
        "files_within": sum(row.file_is_within for row in rows),
        "sized_a_second": round(a_second),
        "convert_and_ask_seconds": seconds,
        "times_faster": round(seconds * a_second),
    }


def line(row: dict[str, object]) -> str:
    """A row of the table."""
    return "  ".join(f"{key}={value}" for key, value in row.items())


if __name__ == "__main__":
    sys.exit(main())
