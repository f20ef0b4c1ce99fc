"""Compiles int8 TFLite models for Arm's Ethos-U with Vela. Owns the program ethosu.vela.

Vela (PyPI ethos-u-vela) is a program with a compiler in C++. It runs in a process of its own, with
a folder and a time limit, and writes a table of what its performance model expects; that is read
here (version 5.2: `model_summary_*.csv`).
"""

from __future__ import annotations

import csv
import re
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from tuner.errors import TuneError
from tuner.runtimes.tool import figure, package_tool, require, run_tool
from tuner.spec import Tool

COMPILE_SECONDS = 300.0
"""Time limit of one compilation; nets of this tool take 0.2 to 2 seconds."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """What Vela says of a compiled model.

    Args:
        sram_bytes: what it places there.
        dram_bytes: likewise, without the weights, which the file has.
        file_bytes: the compiled file.
        cycles: one inference, by its performance model.
        left_on_cpu: kinds of operators that it leaves to the CPU.
        version: of Vela.
    """

    sram_bytes: int
    dram_bytes: int
    file_bytes: int
    cycles: float
    left_on_cpu: tuple[str, ...]
    version: str


def compile_ethos_u(
    model: bytes, *, accelerator: str, system_config: str, memory_mode: str, arena_bytes: int
) -> Compiled:
    """Compile a net for one configuration of `Arm/vela.ini`.

    Args:
        model: bytes of an int8 TFLite file.
        accelerator: for example `ethos-u55-128`.
        system_config: clock and memories.
        memory_mode: what lies in which memory.
        arena_bytes: what Vela may fill of the SRAM.

    Raises:
        ImportError: Vela is not installed; says how to.
        TuneError: Vela refuses the model, takes too long, or writes another table.
    """
    (vela,) = tools()
    require([vela])
    with tempfile.TemporaryDirectory(prefix="vela-") as name:
        folder = Path(name)
        source = folder / "model.tflite"
        source.write_bytes(model)
        options = [
            "--accelerator-config", accelerator, "--config", "Arm/vela.ini",
            "--system-config", system_config, "--memory-mode", memory_mode,
            "--arena-cache-size", str(arena_bytes), "--show-cpu-operations",
        ]  # fmt: skip
        try:
            done = run_tool(
                "ethosu.vela", str(source), "--output-dir", name, *options, seconds=COMPILE_SECONDS
            )
        except subprocess.TimeoutExpired:
            raise TuneError(
                f"expected Vela to compile the model within {COMPILE_SECONDS:g} seconds; it was "
                "stopped. A smaller model compiles sooner."
            ) from None
        said = (done.stdout + done.stderr).decode(errors="replace")
        summaries, compiled = list(folder.glob("model_summary_*.csv")), folder / "model_vela.tflite"
        if done.returncode or len(summaries) != 1 or not compiled.is_file():
            raise TuneError(f"Vela refuses the model: {_reason(said, done.returncode)}")
        return _read(summaries[0].read_text(), compiled.stat().st_size, said, vela.version)


def tools() -> tuple[Tool, ...]:
    """Vela, whether it is installed or not."""
    return (
        package_tool(
            "ethos-u-vela",
            ["ethosu"],
            "Vela is not installed, so nothing is compiled for the Ethos-U: "
            "pip install 'edge-tuner[ethos-u]' (x86-64).",
        ),
    )


def _reason(said: str, code: int) -> str:
    """Vela's own words: the last lines that are not part of a stack; a crash may follow them."""
    lines = [
        line
        for line in said.splitlines()
        if line.strip() and not line.startswith((" ", "Traceback"))
    ]
    if not lines and code < 0:
        return f"its process ended by signal {-code}."
    return " ".join(lines[-2:]) or f"it ended with status {code} and gave no reason."


def _read(summary: str, file_bytes: int, said: str, version: str) -> Compiled:
    """What the table says, and which operators Vela named."""
    row = next(csv.DictReader(summary.splitlines()), {})

    def read(column: str) -> float:
        return figure(row, column, f"Vela {version}")

    return Compiled(
        sram_bytes=round(1024 * read("sram_memory_used")),
        dram_bytes=max(
            0, round(1024 * read("dram_memory_used") - read("total_npu_encoded_weights"))
        ),
        file_bytes=file_bytes,
        cycles=read("cycles_total"),
        left_on_cpu=_left_on_cpu(said),
        version=version,
    )


def _left_on_cpu(said: str) -> tuple[str, ...]:
    """Kinds of operators that Vela leaves to the CPU; how many, if it does not name them."""
    count = re.search(r"CPU operators = (\d+)", said)
    if count is not None and int(count[1]) == 0:
        return ()
    kinds = set(re.findall(r"\(supported operators\) operator: (\w+),", said))
    return tuple(sorted(kinds)) or (f"{count[1] if count else 'some'} operators",)
