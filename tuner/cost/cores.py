"""The family of a core, from what a target calls its CPU."""

from __future__ import annotations

import functools


@functools.lru_cache(maxsize=256)
def core_of(cpu: str) -> str:
    """The core's family, lower-case: `Cortex-M4F` -> `cortex-m4`; the first word where unknown."""
    words = cpu.lower().replace("(", " ").replace(")", " ").replace(",", " ").split()
    for word in words:
        if word.startswith("cortex-m"):
            return word.rstrip("f")
        if word in ("lx6", "lx7"):
            return f"xtensa-{word}"
        if word.startswith(("rv32", "rv64")):
            return word[:4]
    if "risc-v" in words:
        return "rv32"
    return words[0] if words else ""
