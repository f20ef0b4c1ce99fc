"""What became of a candidate: its Result, Builds and accuracies."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tuner.spec.candidate import Candidate
from tuner.spec.cost import Cost, Quantity

Status = Literal["ok", "stopped", "over_limit", "failed", "timed_out"]
Precision = Literal["int8", "float32"]
FilePrecision = Literal["int8", "float32", "int16x8"]
"""Of a file that is exported; int16x8 has activations of 16 bits and weights of 8."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Accuracy:
    """Top-1 accuracy on one split.

    Args:
        confusion: confusion[true][predicted] counts images.
    """

    confusion: tuple[tuple[int, ...], ...]

    @property
    def total(self) -> int:
        """Images counted."""
        return sum(map(sum, self.confusion))

    @property
    def correct(self) -> int:
        """Images classified correctly."""
        return sum(row[index] for index, row in enumerate(self.confusion))

    @property
    def value(self) -> float:
        """The share of correct images, 0 to 1."""
        return self.correct / self.total

    @property
    def standard_error(self) -> float:
        """Standard error of `value`, by the binomial distribution."""
        return math.sqrt(self.value * (1 - self.value) / self.total)


@dataclass(frozen=True, slots=True, kw_only=True)
class Paired:
    """How a build did beside another one of the same candidate, on the same images.

    Args:
        images: that both were run on.
        gained: of them right in this build alone.
        lost: right in the other one alone.
    """

    images: int
    gained: int
    lost: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Build:
    """A trained candidate compiled for one runtime.

    Args:
        runtime: what ran the artifact for the accuracies.
        kernels: the kernels it was run with.
        precision: of weights and activations.
        recipe: choices made after training, in words.
        artifact: path relative to the folder of the run or model version.
        size_bytes: of the artifact.
        accuracy: by split; the test split is filled in once, after the search.
        paired: by split, beside the int8 build, where a slow simulator ran the images, or a part of
            them that was drawn at random; `accuracy` is of that part.
        beside_float32: by split, of int8 that was made by a chosen recipe, or by a target's own
            compiler.
        snr_db: likewise, the signal-to-noise of each operator in the file's order, int8 beside
            float32, decibels.
    """

    runtime: str
    kernels: str
    precision: Precision
    recipe: str
    artifact: str
    size_bytes: int
    accuracy: Mapping[str, Accuracy]
    paired: Mapping[str, Paired] = field(default_factory=dict)
    beside_float32: Mapping[str, Paired] = field(default_factory=dict)
    snr_db: tuple[float, ...] = ()


def builds_key(precision: Precision, runtime: str, kernels: str) -> str:
    """The key of a Build that was scored with other kernels than the run's first target has."""
    return f"{precision} {runtime} {kernels}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """The fold of a candidate's events.

    Args:
        index: place in the order of proposals, from 0.
        candidate: what was trained.
        origin: where it came from: a starting point, a random draw or the sampler.
        baseline: the name of the known net that it is, trained to its end for comparison.
        space: the search space that it was drawn from.
        status: what became of it; None while it waits or runs.
        reason: why it is not `ok`.
        costs: by target.
        builds: by precision, as scored for the run's first target; by `builds_key` where other
            targets run with something else, or what a target's own compiler made was simulated;
            `target` where such a build is the board's target's own.
        rung: the last rung that it was trained to, from 0; -1 before.
        epochs: epochs trained, over all rungs.
        train_seconds: seconds of training, over all rungs.
        curve: validation accuracy (float32) after each epoch, one rung after another.
        measured: by target, what a tool of its runtime measured of the builds: a field of Cost,
            or `arena_head_bytes` and `arena_tail_bytes`. Finalists alone have it.
        unmeasured: by target, why a tool of its runtime refused the builds or failed on them;
            it is not asked again. A tool or a machine that could not work is no such reason.
        repeated: by the number of a further training, from 1, the validation accuracies of its
            builds, by their keys. `builds` are those of the first training.
    """

    index: int
    candidate: Candidate
    origin: str
    baseline: str = ""
    space: str = ""
    status: Status | None = None
    reason: str = ""
    costs: Mapping[str, Cost] = field(default_factory=dict)
    builds: Mapping[str, Build] = field(default_factory=dict)
    rung: int = -1
    epochs: int = 0
    train_seconds: float = 0.0
    curve: tuple[float, ...] = ()
    measured: Mapping[str, Mapping[str, Quantity]] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    repeated: Mapping[int, Mapping[str, Accuracy]] = field(default_factory=dict)

    def accuracy(self, precision: Precision, split: str = "validation") -> Accuracy | None:
        """The accuracy of one build on one split, if there is one."""
        build = self.builds.get(precision)
        return build.accuracy.get(split) if build else None
