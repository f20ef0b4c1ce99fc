"""Gather runs and model versions as plain rows, one a line of a list."""

from __future__ import annotations

from typing import Any

from tuner.errors import SpecError
from tuner.rank.order import rank_results, ranking_precision
from tuner.spec import ModelVersion
from tuner.store.runs import RunFolder, fold_results


def run_row(folder: RunFolder) -> dict[str, Any]:
    """A run in a few figures.

    `candidates` counts what was trained, if only to a rung. `best` is what `tune report` ranks
    first, None before anything that fits was trained; its accuracy is a share, 0 to 1, of the
    validation images. A run whose files cannot be read has the state `unreadable` and a `reason`.
    """
    try:
        spec, events = folder.spec(), folder.events()
        results = fold_results(events)
    except (SpecError, KeyError) as error:
        return {"name": folder.name, "state": "unreadable", "reason": str(error)}
    target = spec.targets[0].name
    trained = [item for item in results if item.rung >= 0 or item.status in ("ok", "stopped")]
    precision = ranking_precision(spec.rank_by)
    ranked = rank_results(trained, target, spec.rank_by)
    accuracy = ranked[0].result.accuracy(precision) if ranked and ranked[0].fits else None
    best = None
    if accuracy is not None:
        best = {
            "id": ranked[0].result.candidate.id,
            "target": target,
            "precision": precision,
            "accuracy": accuracy.value,
            "standard_error": accuracy.standard_error,
        }
    return {
        "name": folder.name,
        "state": folder.state(),
        "targets": [item.name for item in spec.targets],
        "data": spec.dataset.source,
        "candidates": len(trained),
        "best": best,
        "budget_seconds": spec.budget_seconds,
        "max_candidates": spec.max_candidates,
        "elapsed_seconds": max((event.get("elapsed", 0.0) for event in events), default=0.0),
        "created": spec.created,
        "changed": events[-1]["at"] if events else spec.created,
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
        "target": version.template.target.name,
        "run": version.template.run,
        "candidate": version.template.as_candidate.id,
        "accuracy": accuracy,
        "epochs": version.epochs,
        "train_seconds": version.train_seconds,
        "created": version.created,
    }
