"""What an architecture costs on targets, each by its own runtime, against its own limits."""

from __future__ import annotations

import functools
from collections.abc import Iterable
from dataclasses import replace
from types import ModuleType

from tuner import catalog
from tuner.cost.fit import check_limits
from tuner.cost.latency_calibration import add_measured
from tuner.cost.lower import Graph, lower
from tuner.engine.plan import Plan
from tuner.errors import SpecError
from tuner.spec import Architecture, Cost, Result, RunSpec, Target


@functools.cache
def _runtime(name: str, kernels: str) -> ModuleType:
    """A runtime with these kernels; looked up once, for the catalog reads its folders each time."""
    runtime = catalog.load_module("runtimes", name)
    if kernels not in runtime.KERNELS:
        raise SpecError(
            f"Expected kernels of the runtime '{name}': {', '.join(sorted(runtime.KERNELS))}. "
            f"Received: kernels='{kernels}'."
        )
    return runtime


def cost_on(graph: Graph, target: Target) -> Cost:
    """The costs of a graph on one target, with the limits that it exceeds.

    Raises:
        UnknownNameError: no such runtime.
        SpecError: it does not have the target's kernels.
    """
    cost = _runtime(target.runtime, target.kernels).cost(graph, target)
    return check_limits(add_measured(cost, target), target.model_limits)


def costs_on(architecture: Architecture, targets: Iterable[Target]) -> dict[str, Cost]:
    """The costs of an architecture on each target, by name."""
    graph = lower(architecture)
    return {target.name: cost_on(graph, target) for target in targets}


def with_target(spec: RunSpec, results: Iterable[Result], target: Target) -> list[Result]:
    """Results of a run with their costs on a target that it was not made for."""
    plan = Plan(replace(spec, targets=(target,)))
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
