"""The tools by name, and what the process of one is started with."""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from pathlib import Path

from tuner.propose.proposer import LARGEST_OF

SHARED_PACKAGES = ("tensorflow", "keras", "numpy", "ai-edge-litert", "tflite-micro")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """One side of the comparison.

    Args:
        module: in this folder, whose process searches.
        title: as the report calls it.
        packages: whose versions are noted beside `SHARED_PACKAGES`.
        grace_seconds: after the budget, in which the tool may end by itself; no pick made in
            it counts.
    """

    module: str
    title: str
    packages: tuple[str, ...]
    grace_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Variant:
    """Our engine with parts of the search left out."""

    starting_points: bool = False
    sampler: bool = False
    rungs: bool = False
    largest_of: int = 1


VARIANTS = {
    "random": Variant(),
    "random-rungs": Variant(rungs=True),
    "large-rungs": Variant(rungs=True, largest_of=LARGEST_OF),
    "sampler-rungs": Variant(rungs=True, sampler=True, largest_of=LARGEST_OF),
    "points-rungs": Variant(rungs=True, starting_points=True, largest_of=LARGEST_OF),
    "points-sampler": Variant(starting_points=True, sampler=True, largest_of=LARGEST_OF),
}
"""The first is the random search of the comparison; the others tell what each part gives."""

_OURS = ("edge-tuner", "optuna", "joblib")
_GRACE_SECONDS = 90.0

TOOLS = {
    "optuna": Tool(module="tool_optuna", title="Optuna and fit", packages=("optuna",)),
    "keras-tuner": Tool(
        module="tool_keras_tuner", title="KerasTuner Hyperband", packages=("keras-tuner",)
    ),
    "autokeras": Tool(
        module="tool_autokeras", title="AutoKeras", packages=("autokeras", "keras-tuner")
    ),
    "ours": Tool(module="tool_ours", title="tune", packages=_OURS, grace_seconds=_GRACE_SECONDS),
    **{
        name: Tool(
            module="tool_ours",
            title=f"our engine: {name}",
            packages=_OURS,
            grace_seconds=_GRACE_SECONDS,
        )
        for name in VARIANTS
    },
}

COMPARED = ("optuna", "keras-tuner", "autokeras", "random", "ours")
"""What is measured unless told otherwise."""


def arguments() -> argparse.Namespace:
    """`tool`, `folder` of its run, `data` folder, `seed`, and `seconds` for who plans its time."""
    parser = argparse.ArgumentParser()
    parser.add_argument("tool", choices=list(TOOLS))
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    return parser.parse_args()
