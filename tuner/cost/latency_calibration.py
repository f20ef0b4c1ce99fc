"""Fit a target's latency rates to a user's own measurements, starting from the public ones.

The public rates of the target's core and kernels, with their covariance, are the prior; a board of
one's own adds a common factor that is known within `BOARD_SPREAD`. So one measurement moves little
but that factor, and the more there are, and the more they differ, the more each rate follows them
(Gauss and Newton's method for the posterior's mode, as in `tuner.cost.latency_fit`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tuner.cost.latency import fitted, rates_of, sizes, slow_down, totals
from tuner.cost.lower import Graph
from tuner.spec import Cost, Quantity, Target
from tuner.spec.target import LATENCY_TERMS, Calibration

Floats = NDArray[np.float64]

BOARD_SPREAD = math.log(2.0)
"""How far a board may be from others of its core: memory, compiler and its options, versions.
TFLM of 2021 and microTVM, both with CMSIS-NN, differ 1.8 times on one board (MLPerf Tiny)."""

NOISE_WEIGHT = 4.0
"""Measurements that the public points' noise weighs against the residuals of one's own."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One net and its latency on the board, milliseconds."""

    graph: Graph
    latency_ms: float


@dataclass(frozen=True, slots=True, kw_only=True)
class _Posterior:
    """Logarithm of the rates, their covariance, and the noise's variance."""

    mode: Floats
    covariance: Floats
    variance: float


def calibrate(measured: Sequence[Measured], target: Target, basis: str) -> Calibration:
    """The rates that fit one or more measurements on a target, and how sure they are.

    Measurements of the same work (one net, or nets that differ in nothing that is counted) make
    one: what the terms miss of a net, they miss each time.

    Args:
        measured: nets and their latencies.
        target: its core, kernels, clock and memory; an earlier calibration is not used.
        basis: how estimates shall say what they rest on.

    Raises:
        SpecError: the kernels have no rates to start from.
    """
    found: dict[tuple[float, ...], list[float]] = {}
    for item in measured:
        found.setdefault(tuple(totals(item.graph)), []).append(_log_cycles(item, target))
    counts = np.array(list(found))
    logs = np.array([np.mean(own) for own in found.values()])
    whole = _fit(counts, logs, target)
    beyond = [0.0]
    for index in range(len(logs) if len(logs) > 1 else 0):
        kept = np.arange(len(logs)) != index
        predicted, variance = _predict(_fit(counts[kept], logs[kept], target), counts[index])
        beyond.append((logs[index] - predicted) ** 2 - variance)
    macs, depth = zip(*(sizes(row) for row in counts), strict=True)
    return Calibration(
        cycles={
            term: float(f"{cycles:.5g}")
            for term, cycles in zip(LATENCY_TERMS, np.exp(whole.mode), strict=True)
        },
        covariance=tuple(
            tuple(round(float(value), 5) for value in row[: index + 1])
            for index, row in enumerate(whole.covariance)
        ),
        # Nets left out of the fit may show more than it expects.
        variance=round(whole.variance + max(0.0, sum(beyond) / len(logs)), 5),
        macs=(min(macs), max(macs)),
        depth=(float(f"{min(depth):.4g}"), float(f"{max(depth):.4g}")),
        kinds=tuple(sorted({each.kind for item in measured for each in item.graph.operators})),
        basis=basis,
    )


def _log_cycles(item: Measured, target: Target) -> float:
    """Logarithm of the cycles that the terms have to explain."""
    return math.log(item.latency_ms * target.clock_mhz * 1e3 / slow_down(item.graph, target))


def _fit(counts: Floats, logs: Floats, target: Target) -> _Posterior:
    """The posterior; its noise follows from the residuals and the public points' noise."""
    variance = fitted()["spreads"]["net"] ** 2
    posterior = _mode(counts, logs, target, variance)
    residuals = [log - _predict(posterior, row)[0] for log, row in zip(logs, counts, strict=True)]
    pooled = (NOISE_WEIGHT * variance + float(np.sum(np.square(residuals)))) / (
        NOISE_WEIGHT + len(logs)
    )
    return _mode(counts, logs, target, max(variance, pooled))


def _mode(counts: Floats, logs: Floats, target: Target, variance: float) -> _Posterior:
    rates = rates_of(target)
    mean = np.log(rates.cycles)
    prior = rates.covariance + BOARD_SPREAD**2

    def loss(mode: Floats, pull: Floats) -> float:
        errors = logs - np.log((counts * np.exp(mode)).sum(axis=1))
        return float(errors @ errors) / variance + float((mode - mean) @ pull)

    mode, pull = mean, np.zeros_like(mean)
    now = loss(mode, pull)
    for _ in range(50):
        parts = counts * np.exp(mode)
        cycles = parts.sum(axis=1)
        slopes = parts / cycles[:, None]
        inner = slopes @ prior @ slopes.T + variance * np.eye(len(logs))
        target_pull = slopes.T @ np.linalg.solve(
            inner, logs - np.log(cycles) + slopes @ (mode - mean)
        )
        length, better = 1.0, now
        while length > 1e-3:
            next_pull = pull + length * (target_pull - pull)
            better = loss(mean + prior @ next_pull, next_pull)
            if better <= now + 1e-12:
                break
            length /= 2
        pull = pull + length * (target_pull - pull)
        mode = mean + prior @ pull
        if abs(better - now) < 1e-9:
            break
        now = better
    half = np.linalg.solve(inner, slopes @ prior)
    return _Posterior(mode=mode, covariance=prior - prior @ slopes.T @ half, variance=variance)


def _predict(posterior: _Posterior, counts: Floats) -> tuple[float, float]:
    """Mean and variance of the logarithm of one net's cycles."""
    parts = counts * np.exp(posterior.mode)
    shares = parts / parts.sum()
    return (
        math.log(parts.sum()),
        float(shares @ posterior.covariance @ shares) + posterior.variance,
    )


def add_measured(cost: Cost, target: Target) -> Cost:
    """A cost with what a calibration measured of RAM and flash beyond the estimate."""
    if target.calibration is None:
        return cost
    return replace(
        cost,
        ram_bytes=_shifted(cost.ram_bytes, target.calibration.ram_extra_bytes, target),
        flash_bytes=_shifted(cost.flash_bytes, target.calibration.flash_extra_bytes, target),
    )


def _shifted(quantity: Quantity, extra_bytes: int, target: Target) -> Quantity:
    if not extra_bytes or target.calibration is None:
        return quantity
    return replace(
        quantity,
        value=max(0.0, quantity.value + extra_bytes),
        low=max(0.0, quantity.low + extra_bytes),
        high=max(0.0, quantity.high + extra_bytes),
        basis=f"{quantity.basis}; {extra_bytes:+,} bytes by {target.calibration.basis}",
    )
