"""Gather runs and model versions as plain rows, one a line of a list."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from tuner.dashboard.rows import report_rows
from tuner.engine.board import Board, board
from tuner.errors import TuneError
from tuner.spec import ModelVersion, to_plain
from tuner.store.models import ModelFolder
from tuner.store.runs import RunFolder


def run_row(folder: RunFolder) -> dict[str, Any]:
    """A run in a few figures.

    `candidates` counts what was trained, if only to a rung. `best` is what ranks first so far, or
    None; its accuracy, of the validation images, is a share, 0 to 1, and the one that the run ranks
    by. A run whose files cannot be read has the state `unreadable` and a `reason`.
    """
    try:
        ranked, events = board(folder, in_work=True), folder.events()
    except (TuneError, KeyError) as error:
        return {"name": folder.name, "state": "unreadable", "reason": str(error)}
    spec = ranked.spec
    return {
        "name": folder.name,
        "state": folder.state(),
        "targets": [target.name for target in spec.targets],
        "data": spec.dataset.source,
        "candidates": sum(row.result.status in ("ok", "stopped") for row in ranked.rows),
        "best": _best(ranked),
        "budget_seconds": spec.budget_seconds,
        "max_candidates": spec.max_candidates,
        "elapsed_seconds": max((event.get("elapsed", 0.0) for event in events), default=0.0),
        "created": spec.created,
        "changed": events[-1]["at"] if events else spec.created,
    }


def _best(ranked: Board) -> dict[str, Any] | None:
    rows = report_rows(replace(ranked, rows=ranked.rows[:1]))
    accuracy = rows[0]["accuracy"]["validation"] if rows and ranked.rows[0].fits else {}
    if not accuracy:
        return None
    by = ranked.spec.rank_by
    return {
        "id": rows[0]["id"],
        "target": ranked.target.name,
        "rank_by": by,
        "accuracy": accuracy.get(by, accuracy["int8"]),
    }


def version_row(folder: ModelFolder) -> dict[str, Any]:
    """`model_row`; of a version that cannot be read its name, `state` and `reason`."""
    try:
        return model_row(folder.read())
    except TuneError as error:
        name, _, number = folder.reference.partition("@")
        return {
            "name": name,
            "version": int(number),
            "state": "unreadable",
            "reason": str(error),
        }


def model_row(version: ModelVersion) -> dict[str, Any]:
    """A model version in a few figures; accuracies are shares, 0 to 1."""
    accuracy: dict[str, dict[str, float]] = {"validation": {}, "test": {}}
    for precision, build in version.builds.items():
        for split, value in build.accuracy.items():
            accuracy[split][precision] = value.value
            if precision == "int8":
                accuracy[split]["target"] = value.value
    return {
        "name": version.name,
        "version": version.version,
        "parent": version.parent,
        "origin": to_plain(version.origin) if version.origin else None,
        "target": version.template.target.name,
        "run": version.template.run,
        "candidate": version.template.as_candidate.id,
        "accuracy": accuracy,
        "epochs": version.epochs,
        "best_epoch": version.best_epoch,
        "keep": version.retraining.keep if version.retraining else "best",
        "metric": version.retraining.metric if version.retraining else "accuracy",
        "scored": to_plain(version.scored),
        "train_seconds": version.train_seconds,
        "created": version.created,
    }
