"""Start and resume searches: from what the user asked for to a RunSpec, and on to results."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import cast

from tuner import catalog
from tuner.cost.fit import check_limits
from tuner.engine import jobs
from tuner.engine.plan import Plan
from tuner.engine.slots import available_workers
from tuner.engine.supervisor import Observer, Supervisor
from tuner.errors import InputError, NothingFitsError
from tuner.propose.proposer import Proposer
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
DEFAULT_SPACE = "mixed_stages"


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What the user asked for.

    Args:
        target: name of a target, or path of a target file.
        data: folder, `.npz` file or `sample:NAME`.
        limits: tighter or looser limits than the target's; None leaves the target's.
        budget_seconds: wall-clock time; with neither this nor max_candidates, 20 minutes.
        max_candidates: candidates to train.
        workers: slots; None for one a core.
        seed: decides splits, proposals and training.
        name: of the run; None names it by target and time.
        rank_by: the accuracy that orders the board.
    """

    target: str
    data: str
    limits: Limits = NO_LIMITS
    budget_seconds: float | None = None
    max_candidates: int | None = None
    workers: int | None = None
    seed: int = 0
    name: str | None = None
    rank_by: RankBy = "target"


def prepare_run(request: SearchRequest) -> RunFolder:
    """Check the request, open the data and write `run.json`.

    Raises:
        InputError: something that was asked for cannot be used.
        NothingFitsError: the smallest candidate exceeds the limits.
    """
    from tuner.data import open_dataset

    target = with_limits(catalog.load_target(request.target), request.limits)
    budget = request.budget_seconds
    if budget is None and request.max_candidates is None:
        budget = DEFAULT_BUDGET_SECONDS
    workers = request.workers or available_workers()
    created = now()
    folder = new_run(request.name, target.name, created)
    dataset = open_dataset(request.data, split_seed=request.seed, cache=cache_folder())
    spec = RunSpec(
        name=folder.name,
        dataset=dataset.spec,
        targets=(target,),
        task="classification",
        spaces=(DEFAULT_SPACE,),
        seed=request.seed,
        window=max(DEFAULT_WINDOW, workers),
        workers=workers,
        budget_seconds=budget,
        max_candidates=request.max_candidates,
        rank_by=request.rank_by,
        versions=_versions(),
        created=created,
    )
    proposer = make_proposer(spec, Plan(spec))
    if not proposer.fits_any():
        raise NothingFitsError(proposer.nothing_fits())
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"A run named '{folder.name}' was started by another process in the meantime; "
            "choose another --name."
        ) from None
    folder.write_spec(spec)
    return folder


def run_search(folder: RunFolder, observer: Observer) -> list[Result]:
    """Run a prepared search, or go on with one that was stopped; see `Supervisor.run`.

    Raises:
        DataError: the data changed since the run began.
    """
    dataset = folder.spec().dataset
    jobs.open_data(dataset.source, dataset.split_seed, dataset.fingerprint)
    return Supervisor(folder, make_proposer, observer).run()


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


def make_proposer(spec: RunSpec, plan: Plan) -> Proposer:
    """The proposer of a run: its spaces, their context and the gate."""
    task = catalog.load_module("tasks", spec.task)
    spaces: dict[str, SearchSpace] = {name: _as_space(name) for name in spec.spaces}
    runtimes = {
        target.name: catalog.load_module("runtimes", target.runtime) for target in spec.targets
    }

    def gate(candidate: Candidate) -> Mapping[str, Cost]:
        costs = {
            target.name: check_limits(
                runtimes[target.name].cost(candidate.architecture, target), target.model_limits
            )
            for target in spec.targets
        }
        return plan.with_training(candidate, costs)

    context = Context(
        limits=_loosest(spec.targets),
        kernels=tuple(target.kernels for target in spec.targets),
        accelerated=any(
            target.accelerator != "none" or target.runtime == "litert" for target in spec.targets
        ),
        image_height=spec.dataset.image_height,
        image_width=spec.dataset.image_width,
        colour=spec.dataset.colour,
        outputs=task.outputs(spec.dataset),
    )
    return Proposer(spaces, context, gate, spec.seed)


def _as_space(name: str) -> SearchSpace:
    module = catalog.load_module("search_spaces", name)
    for function in ("draw", "starting_points"):
        if not hasattr(module, function):
            raise InputError(
                f"Expected the search space '{name}' ({module.__file__}) to define "
                f"'{function}'; see CONTRIBUTING.md."
            )
    return cast(SearchSpace, module)


def _loosest(targets: tuple[Target, ...]) -> Limits:
    limits = [target.model_limits for target in targets]

    def loosest(name: str) -> float | None:
        values = [getattr(limit, name) for limit in limits]
        return None if None in values else max(values)

    ram, flash = loosest("ram_bytes"), loosest("flash_bytes")
    return Limits(
        ram_bytes=None if ram is None else int(ram),
        flash_bytes=None if flash is None else int(flash),
        latency_ms=loosest("latency_ms"),
        train_minutes=loosest("train_minutes"),
    )


def _versions() -> dict[str, str]:
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
