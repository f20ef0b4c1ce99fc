"""What an architecture costs on targets, each by its own runtime, against its own limits."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType

from tuner import catalog
from tuner.cost.camera import frames_per_second
from tuner.cost.fit import check_limits
from tuner.cost.latency_calibration import add_measured
from tuner.cost.lower import Graph, lower
from tuner.engine.plan import Plan
from tuner.spec import Architecture, Cost, Result, RunSpec, Target


@functools.cache
def _runtime(name: str) -> ModuleType:
    """Looked up once: the catalog reads its folders each time."""
    return catalog.load_module("runtimes", name)


def cost_on(graph: Graph, target: Target) -> Cost:
    """The costs of a graph on one target, the limits that it exceeds, and why it is refused.

    Raises:
        UnknownNameError: no such runtime.
        SpecError: it does not have the target's kernels.
    """
    runtime = _runtime(target.runtime)
    if target.kernels not in runtime.KERNELS:
        catalog.check_runtime(target, f"target '{target.name}'")
    checked = check_limits(add_measured(runtime.cost(graph, target), target), target.model_limits)
    if target.camera is not None:
        frames = frames_per_second(checked.latency_ms, target.camera)
        checked = replace(checked, frames_per_second=frames)
    return replace(checked, refused=refusals(graph, target.runtime))


def refusals(graph: Graph, name: str) -> tuple[str, ...]:
    """Why a runtime cannot run a net, or would run it wrongly; empty if it can.

    Args:
        graph: the net.
        name: of the runtime.
    """
    runtime = _runtime(name)
    lacking = sorted({item.kind for item in graph.operators} - runtime.OPERATORS)
    lacks = (f"not in {name}: {', '.join(lacking)}",) if lacking else ()
    wrong: tuple[str, ...] = runtime.refusals(graph) if hasattr(runtime, "refusals") else ()
    return (*lacks, *wrong)


def costs_on(architecture: Architecture, targets: Iterable[Target]) -> dict[str, Cost]:
    """The costs of an architecture on each target, by name."""
    graph = lower(architecture)
    return {target.name: cost_on(graph, target) for target in targets}


def with_target(spec: RunSpec, results: Iterable[Result], target: Target) -> list[Result]:
    """Results of a run with their costs on a target that it was not made for.

    What the search had time for limits none of them: they have been trained.
    """
    without_clock = replace(
        spec, targets=(target,), budget_seconds=None, max_candidates=1, extended=()
    )
    plan = Plan(without_clock)
    return [
        replace(
            result,
            costs={
                **result.costs,
                **plan.with_training(
                    result.candidate, costs_on(result.candidate.architecture, (target,))
                ),
            },
        )
        for result in results
    ]
