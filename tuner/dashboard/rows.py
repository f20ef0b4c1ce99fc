"""Gather the numbers of a run as plain rows; drawing them is somebody else's work."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from tuner.engine.board import Board
from tuner.engine.builds import PRECISIONS
from tuner.rank.majority import Majority, majority_of
from tuner.rank.order import Ranked, precision_accuracy, target_accuracy
from tuner.spec import Accuracy, Build, Cost, Result, to_plain

SPLITS_SHOWN = ("validation", "test")


def the_best(count: int) -> str:
    """So many of the best, in words."""
    return "the best" if count == 1 else f"the {count} best"


def report_rows(board: Board) -> list[dict[str, Any]]:
    """The board in rank order, one plain dict a candidate.

    Accuracies are shares, 0 to 1; `target` is that of the build `target`, which the device's own
    compiler made, as far as it was simulated: the int8 accuracy plus the difference on the images
    that `paired` counts. Without such a build it is the int8 accuracy with the kernels that the
    build names. Paths are relative to the run's folder.

    Where `trainings` is above 1, validation accuracies are means over so many trainings from
    different seeds, and their standard errors those of the means. `repeats` has the accuracies of
    each training, the first one's first; the builds and the test accuracies are the first one's.

    `unmeasured` says by target why a tool of its runtime, such as the device's own compiler,
    refused the candidate.

    `baseline` names the known net that a candidate is, which was trained for comparison.
    `majority` is for comparison, and the same in all rows: what taking every image for the
    largest class gives, by split.
    """
    majority = majority_of(board.spec.dataset)
    return [_row(ranked, majority) for ranked in board.rows]


def _row(ranked: Ranked, majority: Majority | None) -> dict[str, Any]:
    result = ranked.result
    identifier = result.candidate.id
    return {
        "id": identifier,
        "rank": ranked.rank,
        "tied": ranked.tied,
        "status": result.status,
        "reason": result.reason,
        "space": result.space,
        "origin": result.origin,
        "baseline": result.baseline,
        "candidate": to_plain(result.candidate),
        "accuracy": {split: _accuracies(result, split) for split in SPLITS_SHOWN},
        "standard_error": {split: _standard_errors(result, split) for split in SPLITS_SHOWN},
        "trainings": 1 + len(result.repeated),
        "repeats": _repeats(result),
        "majority": to_plain(majority) if majority else None,
        "costs": {target: cost_row(cost) for target, cost in result.costs.items()},
        "measured": {target: to_plain(found) for target, found in result.measured.items()},
        "unmeasured": dict(result.unmeasured),
        "builds": {
            precision: {**to_plain(build), "artifact": _artifact(result, build)}
            for precision, build in result.builds.items()
        },
        "rung": result.rung,
        "epochs": result.epochs,
        "train_seconds": result.train_seconds,
        "curve": list(result.curve),
        "artifacts": {
            f"{precision}_{build.artifact.rpartition('.')[2]}": _artifact(result, build)
            for precision, build in result.builds.items()
        },
    }


def _artifact(result: Result, build: Build) -> str:
    return f"candidates/{result.candidate.id}/{build.artifact}"


def _repeats(result: Result) -> list[dict[str, float]]:
    """Of each training by number, validation accuracies by precision; none if there is one."""
    if not result.repeated:
        return []
    trainings: list[Mapping[str, Accuracy]] = [
        {key: result.builds[key].accuracy["validation"] for key in PRECISIONS},
        *result.repeated.values(),
    ]
    return [{key: found[key].value for key in PRECISIONS} for found in trainings]


def _accuracies(result: Result, split: str) -> dict[str, float]:
    found: dict[str, float] = {
        precision: accuracy.value
        for precision in PRECISIONS
        if (accuracy := precision_accuracy(result, precision, split)) is not None
    }
    own = target_accuracy(result, split)
    if own is not None:
        return {**found, "target": own.value}
    simulated = "target" in result.builds
    return found if simulated or "int8" not in found else {**found, "target": found["int8"]}


def _standard_errors(result: Result, split: str) -> dict[str, float]:
    found: dict[str, float] = {
        precision: accuracy.standard_error
        for precision in PRECISIONS
        if (accuracy := precision_accuracy(result, precision, split)) is not None
    }
    own = target_accuracy(result, split)
    if own is not None:
        return {**found, "target": own.standard_error}
    simulated = "target" in result.builds
    return found if simulated or "int8" not in found else {**found, "target": found["int8"]}


def cost_row(cost: Cost) -> dict[str, Any]:
    """A Cost as the flat fields that reports and profiles share."""
    row: dict[str, Any] = {
        "ram_bytes": cost.ram_bytes.value,
        "ram_low_bytes": cost.ram_bytes.low,
        "ram_high_bytes": cost.ram_bytes.high,
        "ram_kind": cost.ram_bytes.kind,
        "ram_basis": cost.ram_bytes.basis,
        "ram_parts": dict(cost.ram_parts),
        "ram_peak_at": cost.ram_peak_at,
        "flash_bytes": cost.flash_bytes.value,
        "flash_low_bytes": cost.flash_bytes.low,
        "flash_high_bytes": cost.flash_bytes.high,
        "flash_kind": cost.flash_bytes.kind,
        "flash_basis": cost.flash_bytes.basis,
        "flash_parts": dict(cost.flash_parts),
        "macs": cost.macs,
        "latency_ms": cost.latency_ms.value,
        "latency_low_ms": cost.latency_ms.low,
        "latency_high_ms": cost.latency_ms.high,
        "latency_kind": cost.latency_ms.kind,
        "latency_basis": cost.latency_ms.basis,
        "fits": cost.fits,
        "over": to_plain(cost.over),
        "refused": list(cost.refused),
    }
    if cost.frames_per_second is not None:
        row["frames_per_second"] = cost.frames_per_second.value
        row["frames_low_per_second"] = cost.frames_per_second.low
        row["frames_high_per_second"] = cost.frames_per_second.high
        row["frames_basis"] = cost.frames_per_second.basis
    if cost.train_minutes is not None:
        row["train_minutes"] = cost.train_minutes.value
        row["train_low_minutes"] = cost.train_minutes.low
        row["train_high_minutes"] = cost.train_minutes.high
    return row


def csv_rows(board: Board) -> list[dict[str, Any]]:
    """The board flattened for spreadsheets; one line a candidate, costs of the board's target."""
    target = board.target.name
    lines = []
    for row in report_rows(board):
        pixels = row["candidate"]["preprocessing"]
        line = {
            "rank": row["rank"],
            "id": row["id"],
            "status": row["status"],
            "reason": row["reason"],
            "space": row["space"],
            "origin": row["origin"],
            "baseline": row["baseline"],
            "height": pixels["height"],
            "width": pixels["width"],
            "colour": pixels["colour"],
        }
        for split in SPLITS_SHOWN:
            for precision in ("int8", "float32", "target"):
                value = row["accuracy"][split].get(precision)
                line[f"accuracy_{split}_{precision}"] = value
        line["trainings"] = row["trainings"]
        cost = row["costs"].get(target, {})
        line["target"] = target
        for name in ("ram_bytes", "flash_bytes", "macs", "latency_ms", "latency_low_ms",
                     "latency_high_ms", "fits", "train_minutes"):  # fmt: skip
            line[name] = cost.get(name)
        line["epochs"] = row["epochs"]
        line["train_seconds"] = row["train_seconds"]
        lines.append(line)
    return lines
