"""A Run: everything that a search needs to start, resume or be repeated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

from tuner.errors import SpecError
from tuner.spec.backbone import Backbone
from tuner.spec.dataset import DatasetSpec
from tuner.spec.target import Target

RankBy = Literal["target", "int8", "float32"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    """How slowly one slot of this machine trains, measured at the start of the run.

    Each is measured seconds by the seconds of the reference rates in `tuner/cost/training.py`.

    Args:
        compute_ratio: of multiply-accumulates.
        memory_ratio: of reading and writing elements, and of depthwise convolutions.
        overhead_ratio: of what each image, operator and parameter costs beside arithmetic.
    """

    compute_ratio: float
    memory_ratio: float
    overhead_ratio: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Extension:
    """What a run had when it was given more.

    Args:
        budget_seconds: of all sessions until then; None without a clock.
        max_candidates: until then; None where time alone ended the search.
        elapsed_seconds: used until then.
        started: by rung, how many trainings to it had been decided on; the first counts the
            candidates.
    """

    budget_seconds: float | None
    max_candidates: int | None
    elapsed_seconds: float
    started: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class RunSpec:
    """One search.

    Args:
        name: the run's folder below `runs/`.
        dataset: what is learned from.
        targets: the devices; reports are for the first when nothing else is said.
        left_out: targets that were asked for and that nothing fits, each with the reason.
        task: a file of `tuner/tasks`.
        spaces: files of `search_spaces/`, and names of `space_files`.
        space_files: contents of the search-space files that were given, by name.
        seed: decides splits, proposals, weights and the order of images.
        window: proposal i is made when the results 0 to i - window are known.
        workers: slots that train at the same time.
        budget_seconds: wall-clock time of the search, extensions included; None when
            `max_candidates` ends it.
        max_candidates: candidates to train, extensions included; None when time ends the search.
        rungs: of a search that began with a clock, the last one included; None without one, and for
            runs of versions that did not keep it.
        extended: what it had before each extension, the first one first.
        rank_by: the accuracy that orders the board.
        repeats: how often the best candidates are trained, each time from another seed.
        baselines: known nets that are trained first, to their end; see `tuner.engine.baselines`.
        throughput: of this machine; None when no clock limits the search.
        weights: what `--weights` said, an absolute path in place of a relative one; empty for none.
        backbones: layers and weights that came of it, for the space `transfer`.
        versions: of the packages that decide results.
        created: when the run began, ISO 8601, UTC.
    """

    name: str
    dataset: DatasetSpec
    targets: tuple[Target, ...]
    task: str
    spaces: tuple[str, ...]
    seed: int
    window: int = 4
    workers: int
    budget_seconds: float | None
    max_candidates: int | None
    rank_by: RankBy = "target"
    repeats: int = 1
    baselines: tuple[str, ...] = ()
    throughput: Throughput | None = None
    rungs: int | None = None
    left_out: Mapping[str, str] = field(default_factory=dict)
    extended: tuple[Extension, ...] = ()
    space_files: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    backbones: tuple[Backbone, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)
    created: str = ""

    def __post_init__(self) -> None:
        if self.budget_seconds is None and self.max_candidates is None:
            raise SpecError("a search needs a budget of time or a number of candidates.")
        if not self.targets:
            raise SpecError("a search needs at least one target.")
        if self.workers < 1:
            raise SpecError(f"expected workers of 1 or more. Received: workers={self.workers}.")
        if self.repeats < 1:
            raise SpecError(f"expected repeats of 1 or more. Received: repeats={self.repeats}.")
