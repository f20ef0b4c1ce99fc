"""Gather from the events of a run what changed with time, and what the choices did."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from tuner import catalog
from tuner.engine.board import Board
from tuner.propose.sampler import importances
from tuner.spec import Accuracy, Precision, builds_key, from_plain

Event = Mapping[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scored:
    """A validation accuracy that became known while a run went on.

    Args:
        elapsed_seconds: of the run, all sessions together.
        candidate_id: whose it is.
        accuracy: share of correct images, 0 to 1.
        best: the highest accuracy so far of a candidate that fits the target.
    """

    elapsed_seconds: float
    candidate_id: str
    accuracy: float
    best: float


def best_so_far(board: Board, events: Iterable[Event], precision: Precision) -> list[Scored]:
    """Each accuracy of a candidate that fits the board's target, in the order of time.

    Args:
        board: says what fits.
        events: of the run; candidates still in work count too.
        precision: of the builds.
    """
    run_with = catalog.load_module("runtimes", board.target.runtime).RUN_WITH
    fits = {row.result.index: row.fits for row in board.rows}
    ids: dict[int, str] = {}
    found: list[Scored] = []
    for event in events:
        if event["event"] == "proposed":
            ids[event["index"]] = event["id"]
            if board.target.name in event["costs"]:
                cost = event["costs"][board.target.name]
                fits.setdefault(event["index"], not cost["over"] and not cost.get("refused"))
        elif event["event"] in ("rung", "finished") and fits.get(event["index"]):
            builds = event.get("builds", {})
            plain = builds.get(builds_key(precision, *run_with), builds.get(precision))
            if plain is not None:
                accuracy = _validation_accuracy(plain)
                found.append(
                    Scored(
                        elapsed_seconds=event.get("elapsed", 0.0),
                        candidate_id=ids[event["index"]],
                        accuracy=accuracy,
                        best=max(accuracy, found[-1].best if found else 0.0),
                    )
                )
    return found


def choice_importances(events: Iterable[Event], precision: Precision) -> dict[str, float]:
    """How much each choice, and the space, decides how far a candidate gets in the first rung.

    Later rungs are left out, because only the best are trained for so long, and so are known
    nets, which no choice made.

    Args:
        events: of the run.
        precision: of the builds whose validation accuracy counts.

    Returns:
        Shares that sum to 1, the largest first; see `tuner.propose.sampler.importances`.
    """
    made: dict[int, dict[str, Any]] = {}
    scores: dict[int, float] = {}
    for event in events:
        if event["event"] == "proposed" and not event.get("baseline"):
            made[event["index"]] = {"space": event["space"], **event["choices"]}
        elif (
            event["event"] in ("rung", "finished")
            and event["index"] in made
            and event["index"] not in scores
        ):
            plain = event.get("builds", {}).get(precision)
            if plain is not None:
                scores[event["index"]] = _validation_accuracy(plain)
            elif event.get("curve"):  # far behind the others, and never built
                scores[event["index"]] = max(event["curve"])
    known = sorted(scores)
    return importances([made[index] for index in known], [scores[index] for index in known])


def _validation_accuracy(plain: Mapping[str, Any]) -> float:
    return from_plain(Accuracy, plain["accuracy"]["validation"], "events.jsonl").value
