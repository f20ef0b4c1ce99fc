"""Start and resume searches: from what the user asked for to a RunSpec, and on to results."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.engine.baselines import KNOWN_NETS
from tuner.engine.costs import costs_on
from tuner.engine.images import open_data
from tuner.engine.plan import Plan
from tuner.engine.slots import available_workers
from tuner.engine.supervisor import Observer, OnEvent, Supervisor
from tuner.engine.transfer import (
    IMAGENET,
    absolute,
    check_again,
    find_backbones,
    keep_with_run,
    restore,
)
from tuner.errors import DataError, InputError, NothingFitsError
from tuner.propose import edge_impulse
from tuner.propose.bands import size_bands
from tuner.propose.proposer import LARGEST_OF, Proposer
from tuner.propose.survey import survey_space
from tuner.propose.transfer import TRANSFER, TransferSpace
from tuner.spec import (
    Backbone,
    Candidate,
    Context,
    Cost,
    DatasetSpec,
    Extension,
    Limits,
    RankBy,
    Result,
    RunSpec,
    SearchSpace,
    Target,
    suits,
)
from tuner.store.events import now
from tuner.store.files import cache_folder
from tuner.store.lock import locked
from tuner.store.runs import RunFolder, new_run

PACKAGES = ("tensorflow", "keras", "optuna", "numpy", "ai-edge-litert", "pillow")
DEFAULT_BUDGET_SECONDS = 20 * 60.0
DEFAULT_WINDOW = 4
NO_LIMITS = Limits()
TASK = "classification"
FILE_SUFFIX = ".json"
AUTO_SPACES = (
    "mixed_stages", "plain_convolutions", "residual", "inverted_residual", "wide_mobile",
)  # fmt: skip
"""What `auto` chooses from: those that suit one of the targets. Their starting points take turns in
this order, what reached most first, so that short searches begin with it. MobileNets whole are for
trained weights; from scratch they reach less (docs/search.md)."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchRequest:
    """What the user asked for.

    Args:
        targets: names of targets, paths of target files, or targets; `all` stands for every
            known one.
        data: folder, `.npz` file or `sample:NAME`.
        limits: replace those of a single target, field by field; of several targets they only
            tighten. None leaves the target's.
        budget_seconds: wall-clock time; with neither this nor max_candidates, 20 minutes.
        max_candidates: candidates to train.
        workers: slots; None for one a core.
        spaces: search spaces to draw from, by name or as Edge Impulse's JSON file; none, or
            `auto`, for what suits.
        seed: decides splits, proposals and training.
        name: of the run; None names it by target and time.
        rank_by: the accuracy that orders the board.
        repeats: see RunSpec.
        baselines: train the known nets too, first; see `tuner.engine.baselines`.
        window: see RunSpec; at least the number of workers.
        fingerprint: that the data must have; None for any.
        space_files: contents of search-space files that `spaces` names and a run kept.
        weights: trained weights to begin with: `imagenet`, a file, or MODEL@N; then the space is
            `transfer`, beside those of `spaces`. Empty for none.
        backbones: that the weights have to be; none for any.
    """

    targets: tuple[str | Target, ...]
    data: str
    limits: Limits = NO_LIMITS
    budget_seconds: float | None = None
    max_candidates: int | None = None
    workers: int | None = None
    spaces: tuple[str, ...] = ()
    seed: int = 0
    name: str | None = None
    rank_by: RankBy = "target"
    repeats: int = 1
    baselines: bool = False
    group_by: str = ""
    window: int = DEFAULT_WINDOW
    fingerprint: str | None = None
    space_files: Mapping[str, Any] = field(default_factory=dict)
    weights: str = ""
    backbones: tuple[Backbone, ...] = ()


def request_again(spec: RunSpec) -> SearchRequest:
    """What has to be asked for to repeat a run, extensions included."""
    return SearchRequest(
        targets=spec.targets,
        data=spec.dataset.source,
        budget_seconds=spec.budget_seconds,
        max_candidates=spec.max_candidates,
        workers=spec.workers,
        spaces=tuple(name for name in spec.spaces if name != TRANSFER or not spec.weights),
        weights=spec.weights,
        backbones=spec.backbones,
        seed=spec.seed,
        rank_by=spec.rank_by,
        repeats=spec.repeats,
        baselines=bool(spec.baselines),
        window=spec.window,
        fingerprint=spec.dataset.fingerprint,
        space_files=spec.space_files,
        group_by=spec.dataset.group_by,
    )


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
    space_files = {
        name: request.space_files[name] for name in request.spaces if name in request.space_files
    }
    space_files |= _read_space_files([item for item in request.spaces if item not in space_files])
    dataset = open_dataset(
        request.data, split_seed=request.seed, cache=cache_folder(), group_by=request.group_by
    )
    if request.fingerprint not in (None, dataset.spec.fingerprint):
        raise DataError(
            f"The data at {request.data} is not what the run was made with: expected the "
            f"fingerprint {request.fingerprint}. Received: {dataset.spec.fingerprint}. Put that "
            f"data back, or give --data {request.data} to search on what is there now."
        )
    contexts = _contexts(targets, dataset.spec, TASK)
    backbones: tuple[Backbone, ...] = ()
    if request.weights:
        by_name = {target.name: target for target in targets}
        backbones = find_backbones(request.weights, by_name, contexts)
        if request.weights != IMAGENET:  # of those, the targets decide which are taken
            check_again(request.weights, request.backbones, backbones)
    spaces = _load_spaces(request.spaces, contexts) if request.spaces or not backbones else ()
    spec = RunSpec(
        name=folder.name,
        dataset=dataset.spec,
        targets=targets,
        task=TASK,
        spaces=(*spaces, TRANSFER) if backbones else spaces,
        weights=absolute(request.weights) if request.weights else "",
        backbones=backbones,
        space_files=space_files,
        seed=request.seed,
        window=max(request.window, workers),
        workers=workers,
        budget_seconds=budget,
        max_candidates=request.max_candidates,
        rank_by=request.rank_by,
        repeats=request.repeats,
        baselines=tuple(KNOWN_NETS) if request.baselines else (),
        versions=versions(),
        created=created,
    )
    unfit = make_proposer(spec, Plan(spec)).unfit()
    if len(unfit) == len(targets):
        raise NothingFitsError(" ".join(unfit.values()))
    spec = replace(
        spec, targets=tuple(item for item in targets if item.name not in unfit), left_out=unfit
    )
    spec = replace(spec, rungs=Plan(spec).rungs_by_clock)
    try:
        folder.path.mkdir(parents=True)
    except FileExistsError:
        raise InputError(
            f"A run named '{folder.name}' was started by another process in the meantime; "
            "choose another --name."
        ) from None
    try:
        keep_with_run(folder, spec)
        folder.write_spec(spec)
    except BaseException:  # of a full disk, for example; without its spec it is no run
        shutil.rmtree(folder.path, ignore_errors=True)
        raise
    return folder


def run_search(
    folder: RunFolder,
    observer: Observer,
    proposer_of: Callable[[RunSpec, Plan], Proposer] | None = None,
    plan_of: Callable[[RunSpec], Plan] = Plan,
    started: float | None = None,
    on_event: OnEvent | None = None,
) -> list[Result]:
    """Run a prepared search, or go on with one that was stopped; see `Supervisor.run`.

    Args:
        folder: of the run.
        observer: shows progress.
        proposer_of: makes the proposer; None for `make_proposer`.
        plan_of: makes the time plan.
        started: `time.monotonic()` from which the budget counts; None for now.
        on_event: see `Supervisor`.

    Raises:
        DataError: the data changed since the run began, or is gone.
    """
    with locked(folder.lock, f"The run '{folder.name}'"):  # it goes on while its data is read
        _open_data_of(folder)
    make = proposer_of or make_proposer
    return Supervisor(folder, make, observer, plan_of, started, on_event).run()


def _open_data_of(folder: RunFolder) -> None:
    """Open the data and weights of a run, before anything is changed for its sake.

    Raises:
        DataError: the data changed since the run began, or is gone.
        InputError: so did its weights.
    """
    from tuner.data import is_gone

    spec = folder.spec()
    if is_gone(spec.dataset):
        raise DataError(
            f"Expected the data of the run '{folder.name}' at {spec.dataset.source}. There is "
            "nothing. Put it back, or a link to where it lies now."
        )
    open_data(spec.dataset)
    restore(folder, spec)


def extend_run(folder: RunFolder, seconds: float | None, candidates: int | None) -> RunSpec:
    """Give a run more; `run_search` then goes on with it.

    What is not given ends the search no longer: a run extended by time trains as many candidates
    as that allows, and one extended by candidates has no clock. Time counts from the end of what
    the run had, or from what it has used if that is more.

    Args:
        folder: of the run, ended or interrupted.
        seconds: wall-clock time to add.
        candidates: to add to those that were asked for, or proposed if that is more.

    Raises:
        InputError: nothing was given.
        DataError: the data changed since the run began; the run stays as it is.
        LockedError: the run is going on.
    """
    if seconds is None and candidates is None:
        raise InputError(
            "Expected --time or --max-candidates: how much more the run gets. Received: neither."
        )
    _open_data_of(folder)
    with locked(folder.lock, f"The run '{folder.name}'"):
        spec, events = folder.spec(), folder.events()
        used = max((event.get("elapsed", 0.0) for event in events), default=0.0)
        decided = Counter(
            0 if event["event"] == "proposed" else event["rung"]
            for event in events
            if event["event"] in ("proposed", "promoted")
        )
        before = Extension(
            budget_seconds=spec.budget_seconds,
            max_candidates=spec.max_candidates,
            elapsed_seconds=used,
            started=tuple(decided[rung] for rung in range(len(Plan(spec).rung_shares))),
        )
        had_seconds = max(used, spec.budget_seconds or 0.0)
        had_candidates = max(decided[0], spec.max_candidates or 0)
        extended = replace(
            spec,
            budget_seconds=None if seconds is None else had_seconds + seconds,
            max_candidates=None if candidates is None else had_candidates + candidates,
            extended=(*spec.extended, before),
        )
        folder.write_spec(extended)
        try:
            with folder.open_log() as log:
                log.append(
                    "extended",
                    elapsed=used,
                    budget_seconds=extended.budget_seconds,
                    max_candidates=extended.max_candidates,
                )
        except OSError:  # of a full disk, for example
            folder.write_spec(spec)
            raise
    return extended


def load_targets(wanted: Sequence[str | Target], limits: Limits) -> tuple[Target, ...]:
    """The targets that were asked for, in that order, with the user's limits.

    Raises:
        UnknownNameError: no such target.
        SpecError: a target's file is broken.
        InputError: two of one name.
    """
    known = tuple(catalog.names("targets")) if "all" in wanted else ()
    loaded = [
        item if isinstance(item, Target) else catalog.load_runnable_target(item)
        for item in (*known, *wanted)
        if item != "all"
    ]
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


def _read_space_files(wanted: Sequence[str]) -> dict[str, Any]:
    """The contents of the search-space files among what was asked for, by file name.

    Raises:
        SpecError: a file cannot be read, or nothing in it can be searched.
        InputError: two of one name.
    """
    files: dict[str, Any] = {}
    for path in dict.fromkeys(item for item in wanted if item.endswith(FILE_SUFFIX)):
        name = Path(path).name
        if name in files:
            raise InputError(
                f"Expected search-space files of different names. Received two named '{name}'."
            )
        files[name] = edge_impulse.read_file(path)
        edge_impulse.make_space(files[name], path)
    return files


def _load_spaces(wanted: Sequence[str], contexts: Mapping[str, Context]) -> tuple[str, ...]:
    """The names of the spaces that were asked for, each one known.

    Args:
        wanted: names and paths of files; none, or `auto` among them, for the `AUTO_SPACES` that
            suit a target.
        contexts: what the spaces may know, by target.

    Raises:
        UnknownNameError: no such space.
        InputError: a file of that name is no space.
        SpecError: `survey_space` refuses one that was asked for by name.
    """
    names: dict[str, None] = {}
    for item in wanted or ("auto",):
        if item.endswith(FILE_SUFFIX):
            names[Path(item).name] = None
            continue
        auto = item == "auto"
        for name in AUTO_SPACES if auto else (item,):
            space = catalog.load_space(name)
            suited = [context for context in contexts.values() if suits(space, context)]
            if not auto:
                _check_space(name, space, suited or list(contexts.values()))
            if suited or not auto:
                names[name] = None
    return tuple(names) or AUTO_SPACES


def _check_space(name: str, space: SearchSpace, contexts: Sequence[Context]) -> None:
    """Refuse what `tune spaces show` refuses, but for the devices of this search.

    The images are taken for coloured and not square, else choices that starting points may name
    are not asked for.
    """
    survey_space(
        name,
        space,
        [
            replace(context, colour="rgb", image_width=context.image_height + 1)
            for context in contexts
        ],
    )


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
    spaces: dict[str, SearchSpace] = {
        name: edge_impulse.make_space(spec.space_files[name], name)
        if name in spec.space_files
        else catalog.load_space(name)
        for name in spec.spaces
        if name != TRANSFER or not spec.backbones
    }
    if spec.backbones:
        spaces[TRANSFER] = TransferSpace(spec.backbones)
    targets = {target.name: target for target in spec.targets}

    def gate(candidate: Candidate, names: Sequence[str]) -> Mapping[str, Cost]:
        costs = costs_on(candidate.architecture, (targets[name] for name in names))
        return plan.with_training(candidate, costs)

    return Proposer(
        spaces,
        _contexts(spec.targets, spec.dataset, spec.task),
        size_bands(spec.targets),
        gate,
        spec.seed,
        starting_points=starting_points,
        sampler=sampler,
        largest_of=largest_of or (LARGEST_OF if spec.budget_seconds else 1),
    )


def _contexts(targets: Sequence[Target], dataset: DatasetSpec, task: str) -> dict[str, Context]:
    """What spaces may know of a search, by target."""
    outputs: int = catalog.load_module("tasks", task).outputs(dataset)
    return {
        target.name: Context(
            limits=target.model_limits,
            kernels=target.kernels,
            accelerated=target.accelerator != "none" or target.runtime == "litert",
            image_height=dataset.image_height,
            image_width=dataset.image_width,
            colour=dataset.colour,
            outputs=outputs,
        )
        for target in targets
    }


def versions() -> dict[str, str]:
    """Of the packages that decide results, as installed here."""
    from importlib.metadata import PackageNotFoundError, version

    found = {}
    for package in PACKAGES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "not installed"
    return found
