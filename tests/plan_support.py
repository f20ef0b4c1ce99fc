"""Plans of made-up runs, and searches that follow them."""

from __future__ import annotations

import dataclasses
import math

from tuner import catalog
from tuner.engine.plan import Plan
from tuner.propose.rungs import Step, decide_on_clock
from tuner.spec import DatasetSpec, Extension, RunSpec, Throughput


def spec(
    budget_seconds: float | None = 900.0,
    *,
    workers: int = 2,
    max_candidates: int | None = None,
    images: int = 8000,
    ratio: float = 1.0,
) -> RunSpec:
    made = RunSpec(
        name="r",
        dataset=DatasetSpec(
            source="x",
            fingerprint="f",
            classes=("a", "b"),
            counts={"training": images, "validation": images // 4, "test": 0},
            image_height=8,
            image_width=8,
            colour="grey",
            split_seed=0,
        ),
        targets=(catalog.load_target("nano33ble"),),
        task="classification",
        spaces=(),
        seed=0,
        workers=workers,
        budget_seconds=budget_seconds,
        max_candidates=max_candidates,
        throughput=Throughput(compute_ratio=ratio, memory_ratio=ratio, overhead_ratio=ratio),
    )
    return dataclasses.replace(made, rungs=Plan(made).rungs_by_clock)


def extended(
    run: RunSpec, started: tuple[int, ...], *, elapsed: float = 600.0, **more: float | None
) -> RunSpec:
    before = Extension(
        budget_seconds=run.budget_seconds,
        max_candidates=run.max_candidates,
        elapsed_seconds=elapsed,
        started=started,
    )
    changed = {"budget_seconds": None, "max_candidates": None, **more}
    return dataclasses.replace(run, **changed, extended=(*run.extended, before))


def search_on_clock(
    steps: list[Step],
    plan: Plan,
    clock: float,
    promoted_seconds: float = math.inf,
    final_seconds: float | None = None,
) -> tuple[list[Step], float]:
    """One worker's search with a clock, every step as long as planned; the later, the better.

    Promotions below the last rung may take less, and so may what is left for finishing.
    """
    steps = list(steps)
    last = len(plan.rung_shares) - 1
    final = plan.final_seconds if final_seconds is None else final_seconds
    first, *between = plan.rung_seconds[:-1]
    seconds = [first, *(min(promoted_seconds, rung) for rung in between), final]
    while True:
        remaining = plan.spec.budget_seconds - clock
        decision = decide_on_clock(
            steps,
            seconds[:-1],
            lambda _, rung: seconds[rung],
            remaining_seconds=remaining,
            final_seconds=final,
            exhausted=False,
        )
        rung = decision.rung if decision.action == "promote" else 0
        if not plan.starts(rung, remaining, seconds[rung]):
            return steps, clock
        index = (
            decision.index
            if decision.action == "promote"
            else sum(step.rung == 0 for step in steps)
        )
        steps.append(
            Step(index=index, rung=rung, known=True, score=index / 100, ended=rung == last)
        )
        clock += min(remaining, seconds[rung])
