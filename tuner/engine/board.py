"""The board of a run on one of its targets, or any other: ranked candidates, one by its name."""

from __future__ import annotations

import math
import shlex
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any, TypeVar

from tuner import catalog
from tuner.cost.fit import explain
from tuner.engine.builds import PRECISIONS
from tuner.engine.costs import with_target
from tuner.errors import InputError, UnknownNameError
from tuner.propose.proposer import Miss
from tuner.rank.order import Ranked, rank_results
from tuner.spec import (
    RankBy,
    Result,
    RunSpec,
    Target,
    builds_key,
    from_plain,
)
from tuner.store.runs import RunFolder, fold_results, known_runs

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class Board:
    """The ranked candidates of a run for one target.

    Args:
        spec: of the run.
        target: whose costs and limits count.
        rows: in rank order.
        refused: draws for the target that were refused before training, by limit.
        nearest_miss: the one of them that came nearest to fitting, in words; or nothing.
        target_option: what `tune select` and `report` need to take the same target, with a space
            before it; empty for the run's first.
    """

    spec: RunSpec
    target: Target
    rows: list[Ranked]
    refused: Mapping[str, int]
    nearest_miss: str
    target_option: str


def board(
    folder: RunFolder,
    rank_by: RankBy | None = None,
    target_name: str | None = None,
    *,
    in_work: bool = False,
) -> Board:
    """Rank the candidates of a run.

    Args:
        folder: of the run.
        rank_by: which accuracy decides; None for what the run was started with.
        target_name: a target of the run, with the limits it was given there; or any other name
            or file, for which the costs are computed now. None for the run's first.
        in_work: rank what was trained to a rung and may go on as if it stopped there; otherwise
            it is left out.

    Raises:
        UnknownNameError: no such target.
        InputError: nothing fitted it when the run was started.
    """
    spec, events = folder.spec(), folder.events()
    results = fold_results(events)
    if in_work:
        results = [_as_stopped(result) for result in results]
    finished = [result for result in results if result.status is not None]
    own = {target.name: target for target in spec.targets}
    if target_name is None:
        target = spec.targets[0]
    elif target_name in own:
        target = own[target_name]
    else:
        if target_name in spec.left_out:
            raise InputError(f"{target_name} was left out of the run: {spec.left_out[target_name]}")
        target = catalog.load_target(target_name)
        finished = with_target(spec, finished, target)
    finished = [as_seen_by(result, target) for result in finished]
    spec = replace(spec, rank_by=rank_by or spec.rank_by)
    rows = rank_results(finished, target.name, spec.rank_by)
    refused, nearest_miss = _refused(events, target.name)
    is_first = target_name is None or target_name == spec.targets[0].name
    return Board(
        spec=spec,
        target=target,
        rows=rows,
        refused=refused,
        nearest_miss=nearest_miss,
        target_option="" if is_first else f" --target {shlex.quote(str(target_name))}",
    )


def trained_within(board: Board, minutes: float) -> Board:
    """The rows whose full retraining is predicted to take so many minutes; ranks stay.

    Raises:
        InputError: the run did not measure the machine.
    """
    if board.spec.throughput is None:
        raise InputError(
            f"Expected a run that predicts the time of retraining. '{board.spec.name}' does not: "
            "it was started without --time and --train-minutes."
        )

    def takes(row: Ranked) -> float:
        predicted = row.result.costs[board.target.name].train_minutes
        return math.inf if predicted is None else predicted.value

    return replace(board, rows=[row for row in board.rows if takes(row) <= minutes])


def as_seen_by(result: Result, target: Target) -> Result:
    """The result with the builds that count for a target.

    Those that its runtime and kernels scored, where there are such, and as `target` the one that
    its own compiler made.
    """
    run_with = catalog.load_module("runtimes", target.runtime).RUN_WITH

    def seen(found: Mapping[str, T]) -> dict[str, T]:
        return {
            precision: found.get(builds_key(precision, *run_with), found[precision])
            for precision in PRECISIONS
            if precision in found
        }

    builds = seen(result.builds)
    own = result.builds.get(builds_key("int8", target.runtime, target.kernels))
    if own is not None and own.paired:
        builds["target"] = own
    repeated = {number: seen(found) for number, found in result.repeated.items()}
    return replace(result, builds=builds, repeated=repeated)


def _refused(events: Iterable[Mapping[str, Any]], target: str) -> tuple[Counter[str], str]:
    """Refused draws for a target by limit, and the nearest miss in words."""
    counts: Counter[str] = Counter()
    nearest, distance = "", math.inf
    for event in events:
        # Runs of earlier versions name no focus.
        if event["event"] != "proposed" or event.get("focus") != target:
            continue
        counts.update(event["over_limit"])
        if event["nearest_miss"] is None:
            continue
        miss = from_plain(Miss, event["nearest_miss"], "events.jsonl")
        ratio = max(excess.needed / excess.allowed for excess in miss.over)
        if ratio < distance:
            reasons = "; ".join(explain(excess) for excess in miss.over)
            nearest = f"{miss.image}, {reasons}" + (f"; {miss.change}" if miss.change else "")
            if any(excess.limit == "candidate_minutes" for excess in miss.over):
                nearest += "; more --time allows it"
            distance = ratio
    return counts, nearest


def _as_stopped(result: Result) -> Result:
    goes_on = result.status is None and result.rung >= 0
    return replace(result, status="stopped") if goes_on else result


def find_candidate(board: Board, wanted: str) -> Ranked:
    """The row of a board that a rank number, an id or a unique prefix of an id names.

    Raises:
        UnknownNameError: none does.
        InputError: several do, or the board is empty.
    """
    rows, run = board.rows, board.spec.name
    if wanted.isdigit():
        matches = [row for row in rows if row.rank == int(wanted)]
    else:
        matches = [row for row in rows if wanted and row.result.candidate.id.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(row.result.candidate.id for row in matches)
        raise InputError(f"Several candidates begin with '{wanted}': {ids}. Give more letters.")
    if not rows:
        # Events alone: what another run holds need not be readable.
        others = (
            folder.name
            for folder in known_runs()
            if folder.name != run and any(event["event"] == "finished" for event in folder.events())
        )
        other = next(others, "")
        newest = f" The newest run that has some is '{other}'." if other else ""
        raise InputError(
            f"The run '{run}' has no finished candidates; 'tune logs {run}' says what happened."
            f"{newest}"
        )
    raise UnknownNameError(
        f"candidate of the run '{run}'",
        wanted,
        [row.result.candidate.id for row in rows],
        f"Ranks 1 to {len(rows)} name them too; see 'tune report {run}{board.target_option}'.",
    )
