"""Start and resume searches: from what the user asked for to a RunSpec, and on to results."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, cast

from tuner import catalog
from tuner.engine import jobs
from tuner.engine.costs import costs_on
from tuner.engine.plan import Plan
from tuner.engine.slots import available_workers
from tuner.engine.supervisor import Observer, Supervisor
from tuner.errors import InputError, NothingFitsError
from tuner.propose.bands import size_bands
from tuner.propose.proposer import LARGEST_OF, Proposer
from tuner.spec import (
    Candidate,
    Context,
    Cost,
    Limits,
    RankBy,
    Result,
    RunSpec,
    SearchSpace,
    Target,
)
from tuner.store.events import now
from tuner.store.files import cache_folder
from tuner.store.runs import RunFolder, new_run

PACKAGES = ("tensorflow", "keras", "optuna", "numpy", "ai-edge-litert", "pillow")
DEFAULT_BUDGET_SECONDS = 20 * 60.0
DEFAULT_WINDOW = 4
NO_LIMITS = Limits()
AUTO_SPACES = ("mixed_stages",)
"""What `auto` stands for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What the user asked for.

    Args:
        targets: names of targets or paths of target files; `all` stands for every known one.
        data: folder, `.npz` file or `sample:NAME`.
        limits: replace those of a single target, field by field; of several targets they only
            tighten. None leaves the target's.
        budget_seconds: wall-clock time; with neither this nor max_candidates, 20 minutes.
        max_candidates: candidates to train.
        workers: slots; None for one a core.
        spaces: search spaces to draw from; none, or `auto`, for what suits.
        seed: decides splits, proposals and training.
        name: of the run; None names it by target and time.
        rank_by: the accuracy that orders the board.
    """

    targets: tuple[str, ...]
    data: str
    limits: Limits = NO_LIMITS
    budget_seconds: float | None = None
    max_candidates: int | None = None
    workers: int | None = None
    spaces: tuple[str, ...] = ()
    seed: int = 0
    name: str | None = None
    rank_by: RankBy = "target"
    group_by: str = ""


def prepare_run(request: SearchRequest) -> RunFolder:
    """Check the request, open the data and write `run.json`.

    Of several targets, those that no candidate fits are left out and named in the run.

    Raises:
        InputError: something that was asked for cannot be used.
        NothingFitsError: the smallest candidate exceeds the limits of every target.
    """
    from tuner.data import open_dataset

    targets = load_targets(request.targets, request.limits)
    budget = request.budget_seconds
    if budget is None and request.max_candidates is None:
        budget = DEFAULT_BUDGET_SECONDS
    workers = request.workers or available_workers()
    created = now()
    stem = targets[0].name if len(targets) == 1 else f"{len(targets)}-targets"
    folder = new_run(request.name, stem, created)
    dataset = open_dataset(
        request.data, split_seed=request.seed, cache=cache_folder(), group_by=request.group_by
    )
    spec = RunSpec(
        name=folder.name,
        dataset=dataset.spec,
        targets=targets,
        task="classification",
        spaces=_load_spaces(request.spaces),
        seed=request.seed,
        window=max(DEFAULT_WINDOW, workers),
        workers=workers,
        budget_seconds=budget,
        max_candidates=request.max_candidates,
        rank_by=request.rank_by,
        versions=_versions(),
        created=created,
    )
    unfit = make_proposer(spec, Plan(spec)).unfit()
    if len(unfit) == len(targets):
        raise NothingFitsError(" ".join(unfit.values()))
    spec = replace(
        spec, targets=tuple(item for item in targets if item.name not in unfit), left_out=unfit
    )
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"A run named '{folder.name}' was started by another process in the meantime; "
            "choose another --name."
        ) from None
    folder.write_spec(spec)
    return folder


def run_search(
    folder: RunFolder,
    observer: Observer,
    proposer_of: Callable[[RunSpec, Plan], Proposer] | None = None,
    plan_of: Callable[[RunSpec], Plan] = Plan,
    started: float | None = None,
) -> list[Result]:
    """Run a prepared search, or go on with one that was stopped; see `Supervisor.run`.

    Args:
        folder: of the run.
        observer: shows progress.
        proposer_of: makes the proposer; None for `make_proposer`.
        plan_of: makes the time plan.
        started: `time.monotonic()` from which the budget counts; None for now.

    Raises:
        DataError: the data changed since the run began.
    """
    jobs.open_data(folder.spec().dataset)
    make = proposer_of or make_proposer
    return Supervisor(folder, make, observer, plan_of, started).run()


def load_targets(wanted: Sequence[str], limits: Limits) -> tuple[Target, ...]:
    """The targets that were asked for, in that order, with the user's limits.

    Raises:
        UnknownNameError: no such target.
        InputError: two of one name.
    """
    known: Sequence[str] = tuple(catalog.names("targets")) if "all" in wanted else ()
    loaded = [catalog.load_target(name) for name in (*known, *wanted) if name != "all"]
    by_name: dict[str, Target] = {}
    for target in loaded:
        if by_name.setdefault(target.name, target) != target:
            raise InputError(
                f"Expected targets of different names. Received two named '{target.name}' that "
                "differ; give one of them another name."
            )
    several = len(by_name) > 1
    return tuple(
        with_limits(target, _tightened(target, limits) if several else limits)
        for target in by_name.values()
    )


def _load_spaces(wanted: Sequence[str]) -> tuple[str, ...]:
    """The names of the spaces that were asked for, each one known.

    Raises:
        UnknownNameError: no such space.
        InputError: a file of that name is no space.
    """
    names = [
        name
        for item in wanted or ("auto",)
        for name in (AUTO_SPACES if item == "auto" else (item,))
    ]
    for name in names:
        _as_space(name)
    return tuple(dict.fromkeys(names))


def _tightened(target: Target, limits: Limits) -> Limits:
    """The user's limits, but for those that the target's own are below."""
    own = target.model_limits

    def tighter(name: str) -> Any:
        given, has = getattr(limits, name), getattr(own, name)
        return None if given is not None and has is not None and has <= given else given

    return Limits(**{field.name: tighter(field.name) for field in fields(Limits)})


def with_limits(target: Target, limits: Limits) -> Target:
    """The target with the user's limits in place of its own, field by field."""
    own = target.limits
    changed = Limits(
        ram_bytes=limits.ram_bytes or own.ram_bytes,
        flash_bytes=limits.flash_bytes or own.flash_bytes,
        latency_ms=limits.latency_ms or own.latency_ms,
        train_minutes=limits.train_minutes or own.train_minutes,
    )
    if changed == own:
        return target
    sources = {**target.sources, "limits": "given for this run"}
    return replace(target, limits=changed, sources=sources)


def make_proposer(
    spec: RunSpec,
    plan: Plan,
    *,
    starting_points: bool = True,
    sampler: bool = True,
    largest_of: int | None = None,
) -> Proposer:
    """The proposer of a run: its spaces, their contexts and the gate.

    Args:
        spec: of the run.
        plan: adds training time to costs.
        starting_points: see Proposer.
        sampler: see Proposer.
        largest_of: see Proposer; None for its default where a clock keeps nets from growing
            beyond what can be trained, and 1 where none does.
    """
    task = catalog.load_module("tasks", spec.task)
    spaces: dict[str, SearchSpace] = {name: _as_space(name) for name in spec.spaces}
    targets = {target.name: target for target in spec.targets}

    def gate(candidate: Candidate, names: Sequence[str]) -> Mapping[str, Cost]:
        costs = costs_on(candidate.architecture, (targets[name] for name in names))
        return plan.with_training(candidate, costs)

    contexts = {
        target.name: Context(
            limits=target.model_limits,
            kernels=target.kernels,
            accelerated=target.accelerator != "none" or target.runtime == "litert",
            image_height=spec.dataset.image_height,
            image_width=spec.dataset.image_width,
            colour=spec.dataset.colour,
            outputs=task.outputs(spec.dataset),
        )
        for target in spec.targets
    }
    return Proposer(
        spaces,
        contexts,
        size_bands(spec.targets),
        gate,
        spec.seed,
        starting_points=starting_points,
        sampler=sampler,
        largest_of=largest_of or (LARGEST_OF if spec.budget_seconds else 1),
    )


def _as_space(name: str) -> SearchSpace:
    module = catalog.load_module("search_spaces", name)
    for function in ("draw", "starting_points"):
        if not hasattr(module, function):
            raise InputError(
                f"Expected the search space '{name}' ({module.__file__}) to define "
                f"'{function}'; see CONTRIBUTING.md."
            )
    return cast(SearchSpace, module)


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
