"""Runs on disk, made without training anything."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from pathlib import Path

from tests_support import make_result
from tuner import catalog
from tuner.spec import DatasetSpec, Result, RunSpec, to_plain
from tuner.store.runs import RunFolder

TARGET = "nano33ble"


def make_spec(name: str, *, source: str = "sample:digits", **fields: object) -> RunSpec:
    """The spec of a run for one target, without a clock unless one is given."""
    return RunSpec(
        **{
            "name": name,
            "dataset": DatasetSpec(
                source=source,
                fingerprint="f",
                classes=("a", "b"),
                counts={"training": 80, "validation": 20, "test": 0},
                image_height=8,
                image_width=8,
                colour="grey",
                split_seed=0,
            ),
            "targets": (catalog.load_target(TARGET),),
            "task": "classification",
            "spaces": (),
            "seed": 0,
            "workers": 1,
            "budget_seconds": None,
            "max_candidates": 8,
            "created": "2026-11-21T10:00:00.000+00:00",
            **fields,
        }
    )


def make_run(
    home: Path,
    name: str,
    correct: Sequence[int | None] = (),
    *,
    ended: bool = False,
    **fields: object,
) -> RunFolder:
    """A run whose candidates were trained to rung 0, with so many correct images of 20.

    None stands for a candidate that failed.
    """
    folder = RunFolder(home / "runs" / name)
    folder.path.mkdir(parents=True)
    folder.write_spec(make_spec(name, **fields))
    with folder.open_log() as log:
        log.append("opened", elapsed=0.5)
        for index, count in enumerate(correct):
            result = trained(index, count or 0)
            log.append(
                "proposed", elapsed=1.0, index=index, id=result.candidate.id, origin="test",
                focus=TARGET, over_limit={}, nearest_miss=None, known=0,
                candidate=to_plain(result.candidate), costs=to_plain(result.costs),
            )  # fmt: skip
            log.append(
                "started", elapsed=1.0, index=index, rung=0, epochs=2, seconds=None, attempt=1
            )
            if count is None:
                log.append(
                    "finished", elapsed=65.0, index=index, status="failed", reason="no loss today"
                )
                continue
            log.append(
                "rung", elapsed=65.0, index=index, rung=0, builds=to_plain(result.builds),
                epochs=2, best_epoch=2, train_seconds=3.0, curve=[count / 40, count / 20],
            )  # fmt: skip
        if ended:
            for index, count in enumerate(correct):
                if count is not None:
                    cut = "cut at rung 0 of 1"
                    log.append("finished", elapsed=66.0, index=index, status="stopped", reason=cut)
            log.append("ended", elapsed=66.0)
    return folder


def trained(index: int, correct: int) -> Result:
    """A result with costs for the target of `make_run`."""
    result = make_result(index, correct=correct, status="stopped")
    return dataclasses.replace(result, costs={TARGET: result.costs["board"]}, rung=0)
