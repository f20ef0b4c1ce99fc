"""Latency of one inference on a CPU: an estimate with a band that says what it rests on.

The model is a sum over operators, in clock cycles of the target's core:

    cycles = MACs x cycles of one MAC, by kind of operator
             + elements written x cycles of one element
             + operators x cycles of calling one

A narrow layer writes more elements for its MACs, so it costs more a MAC. `LATENCY_TERMS` names the
terms. Their rates, and how sure they are, come from public measurements (`latency_points.csv`),
fitted by `tuner.cost.latency_fit` into `latency_rates.json`: one set for each core and kernel
library, for the library moves latency up to 22 times on one core (mit-han-lab/tinyengine, README).
The band is the fit's own uncertainty for the net's mix of terms; docs/costs/latency.md holds the
errors on nets and devices left out.

A target that was calibrated brings rates of its own, and how sure they are (`tune calibrate`).
"""

from __future__ import annotations

import difflib
import functools
import json
import math
from collections.abc import Sequence
from dataclasses import dataclass
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.cost.arena import plan_arena
from tuner.cost.cores import core_of
from tuner.cost.lower import Graph, GraphOperator
from tuner.errors import SpecError
from tuner.spec import Quantity, Target
from tuner.spec.target import LATENCY_TERMS

(
    STEM, CONV, POINTWISE, DEPTHWISE, DEPTHWISE_LARGE, DENSE, ELEMENTS, OTHERS, OPERATORS,
) = range(len(LATENCY_TERMS))  # fmt: skip

TERMS_OF_MACS = ELEMENTS
"""The first terms count MACs."""

STEM_CHANNELS = 4
"""A convolution of fewer input channels cannot fill a vector of four int8 values, the width of
the narrowest SIMD kernels: it runs on a path of its own."""

EXTERNAL_RAM_FACTOR = 2.0
"""Slow-down of tensors in external RAM. Assumed: no public point has a net in both."""

SOFT_FLOAT_CYCLES = 200.0
"""Cycles of one float32 MAC without an FPU: a multiplication and an addition in software, and the
reference kernel's loop around them. Assumed: no public point has one."""

SOFT_FLOAT_FACTOR = 3.0
"""Half the width of its 90 % band, as a factor. Assumed."""

UNKNOWN_SPREAD = math.log(2.0)
"""Standard deviation, in log, of operators of a kind without points. Assumed."""

OUTSIDE_SPREAD = 0.25
"""Standard deviation, in log, for each factor of e that a net's MACs, or its MACs an element, lie
outside twice the range of the points. Assumed."""

NORMAL_95 = 1.645
"""The normal distribution's 95 % quantile: 90 % lie between it and its negative."""

KNOWN_KINDS: frozenset[str] = frozenset(
    {
        "CONV_2D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "MAX_POOL_2D", "AVERAGE_POOL_2D",
        "MEAN", "ADD", "RESHAPE",
    }
)  # fmt: skip
"""Kinds of operators that the nets of the points hold."""

_SCALAR = ("cortex-m0+", "cortex-m0", "cortex-m3", "cortex-m23", "rv32", "xtensa-lx6", "rh850")
_DSP = ("cortex-m4", "cortex-m7", "cortex-m33", "cortex-m35p", "rxv2", "andes-d25", "andes-d45",
        "andes-ax45")  # fmt: skip
_VECTOR = ("cortex-m52", "cortex-m55", "cortex-m85", "xtensa-lx7", "andes-nx27v")
_APPLICATION = ("cortex-a5", "cortex-a7", "cortex-a8", "cortex-a9", "cortex-a35", "cortex-a53",
                "cortex-a55", "cortex-a57", "cortex-a72", "cortex-a73", "cortex-a76", "x86-64",
                "aarch64", "rv64", "c906", "c908")  # fmt: skip

CORE_CLASSES: dict[str, str] = {
    core: name
    for name, cores in (
        ("scalar", _SCALAR), ("dsp", _DSP), ("vector", _VECTOR), ("application", _APPLICATION),
    )
    for core in cores
}  # fmt: skip
"""Cores by their widest arithmetic for int8: one value at a time, packed in a general register,
vectors of a microcontroller, vectors of an application processor. Cores of a class are alike."""

WITHOUT_FPU = frozenset({"cortex-m0", "cortex-m0+", "cortex-m1", "cortex-m3", "cortex-m23", "rv32"})
"""Cores that compute float32 in software; RV32 unless its extensions name F or G."""

TFLM_KERNELS = frozenset({"cmsis-nn", "esp-nn", "reference"})
"""Libraries without float32 kernels: there TFLM runs its reference ones."""

FAMILIES = frozenset({"x86-64"})
"""Names of many cores, not of one: another processor of the family adds the spread of cores."""

KERNELS = {"cmsis-nn": "CMSIS-NN", "esp-nn": "ESP-NN", "reference": "reference kernels",
           "xnnpack": "XNNPACK"}  # fmt: skip
"""Kernel libraries whose latency is estimated here, as their makers write them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Rates:
    """Cycles by term on one core with one kernel library, and how sure they are.

    Args:
        cycles: of one unit of each term, in the order of `LATENCY_TERMS`.
        covariance: of their logarithms, terms x terms.
        variance: of the logarithm of a latency that the terms do not explain.
        quantile: standard deviations from the estimate to either end of the 90 % band.
        macs: least and most MACs of the nets behind the rates.
        depth: least and most MACs an element of these nets.
        kinds: of operators that these nets hold.
        source: what the rates rest on, in a word ...
        basis: ... and in full.
    """

    cycles: NDArray[np.float64]
    covariance: NDArray[np.float64]
    variance: float
    quantile: float
    macs: tuple[float, float]
    depth: tuple[float, float]
    kinds: frozenset[str]
    source: str
    basis: str


def estimate_latency(graph: Graph, target: Target) -> Quantity:
    """Estimate one inference of the model on the target's CPU, without limits.

    Args:
        graph: the net; float32 is scaled from int8.
        target: its `cpu`, `kernels`, `clock_mhz` and `calibration` are read, and which RAM is
            external.

    Returns:
        Milliseconds with a 90 % band. The basis says when the figure is extrapolated: a core
        without points, kinds of operators without points, a net far smaller or larger, narrower
        or wider than the points (or, of a calibrated target, than the nets measured), float32,
        tensors in external RAM.

    Raises:
        SpecError: the kernels have no rates here (an accelerator's runtime estimates itself).
    """
    rates = _own_rates(target)
    counts = totals(graph)
    parts = counts * rates.cycles
    cycles = float(parts.sum())
    shares = parts / cycles
    # Rounded covariances may give a tiny negative where terms cancel.
    variance = rates.variance + max(0.0, float(shares @ rates.covariance @ shares))
    milliseconds = cycles / (target.clock_mhz * 1e3)
    notes: list[str] = []
    unknown = {operator.kind for operator in graph.operators} - rates.kinds
    if unknown:
        works = [work(operator) for operator in graph.operators if operator.kind in unknown]
        share = float((np.array(works) @ rates.cycles).sum()) / cycles
        variance += (UNKNOWN_SPREAD * share) ** 2
        notes.append(f"no {rates.source} for {', '.join(sorted(unknown))}")
    outside = _outside(counts, rates)
    if outside:
        variance += (OUTSIDE_SPREAD * outside) ** 2
        notes.append(f"outside the {rates.source}' sizes: extrapolated")
    if graph.precision == "float32":
        log_factor, log_variance, note = _float32(counts, target)
        milliseconds *= math.exp(log_factor)
        variance += log_variance
        notes.append(note)
    high = math.exp(rates.quantile * math.sqrt(variance))
    low = 1 / high
    if is_outside_chip(graph, target):
        # Some tensors may still lie inside the chip, so the low end stays.
        milliseconds *= EXTERNAL_RAM_FACTOR
        low /= EXTERNAL_RAM_FACTOR
        high *= EXTERNAL_RAM_FACTOR
        notes.append("tensors in external RAM, assumed 2 times slower")
    return Quantity(
        value=milliseconds,
        low=milliseconds * low,
        high=milliseconds * high,
        kind="estimated",
        basis="; ".join([rates.basis, *notes]),
    )


def operator_latency_ms(graph: Graph, target: Target) -> list[float]:
    """Milliseconds of each operator, in order; together the value of `estimate_latency`.

    Raises:
        SpecError: the kernels have no rates here.
    """
    rates = _own_rates(target)
    cycles = np.array([work(operator) for operator in graph.operators]) @ rates.cycles
    total = estimate_latency(graph, target).value
    return [float(share) for share in cycles * (total / cycles.sum())]


def work(operator: GraphOperator) -> list[float]:
    """What one operator does of each of `LATENCY_TERMS`.

    MACs of a kind without a term of its own count as those of a convolution.
    """
    counts = [0.0] * len(LATENCY_TERMS)
    counts[OPERATORS] = 1.0
    term, elements = _work(operator)
    if operator.macs:
        counts[term] = operator.macs
        counts[ELEMENTS] = elements
    else:
        counts[OTHERS] = elements
    return counts


def is_outside_chip(graph: Graph, target: Target) -> bool:
    """Whether the arena lies in RAM outside the chip, because it fits nowhere inside."""
    if not any(region.external for region in target.ram_regions):
        return False
    arena = plan_arena(graph, kernels=target.kernels, cpu=target.cpu)
    return arena.total_bytes > target.internal_arena_bytes


def slow_down(graph: Graph, target: Target) -> float:
    """The factor between a net's latency and its terms': external RAM, float32."""
    factor = EXTERNAL_RAM_FACTOR if is_outside_chip(graph, target) else 1.0
    if graph.precision == "float32":
        factor *= math.exp(_float32(totals(graph), target)[0])
    return factor


def rates_of(target: Target) -> Rates:
    """The rates of a target's core and kernels, without its calibration.

    Raises:
        SpecError: the kernels have no rates.
    """
    if target.kernels not in KERNELS:
        raise SpecError(
            f"target '{target.name}': no latency rates for kernels '{target.kernels}'; expected "
            f"one of {', '.join(KERNELS)}, or a runtime that estimates its own latency."
        )
    return _rates(target.cpu, target.kernels)


def totals(graph: Graph) -> NDArray[np.float64]:
    """What a net does of each of `LATENCY_TERMS`."""
    counts = [0] * len(LATENCY_TERMS)
    counts[OPERATORS] = len(graph.operators)
    for operator in graph.operators:
        term, elements = _work(operator)
        if operator.macs:
            counts[term] += operator.macs
            counts[ELEMENTS] += elements
        else:
            counts[OTHERS] += elements
    return np.array(counts, dtype=np.float64)


def sizes(counts: NDArray[np.float64]) -> tuple[float, float]:
    """MACs of a net, and its MACs an element, from what it does of each of `LATENCY_TERMS`."""
    macs = max(float(counts[:TERMS_OF_MACS].sum()), 1.0)
    return macs, macs / max(float(counts[ELEMENTS] + counts[OTHERS]), 1.0)


@functools.cache
def fitted() -> dict[str, Any]:
    """The content of `latency_rates.json`."""
    text = resources.files("tuner.cost").joinpath("latency_rates.json").read_text("utf-8")
    content: dict[str, Any] = json.loads(text)
    return content


def _work(operator: GraphOperator) -> tuple[int, int]:
    """The term of an operator's MACs, and its elements."""
    kind = operator.kind
    written = math.prod(operator.output_shape)
    if kind == "CONV_2D":
        if operator.input_shape[-1] < STEM_CHANNELS:
            return STEM, written
        return (POINTWISE if operator.kernel == (1, 1) else CONV), written
    if kind == "DEPTHWISE_CONV_2D":
        return (DEPTHWISE if operator.kernel == (3, 3) else DEPTHWISE_LARGE), written
    if kind == "FULLY_CONNECTED":
        return DENSE, written
    if kind == "RESHAPE":  # moves nothing
        return CONV, 0
    return CONV, max(written, math.prod(operator.input_shape))


def _outside(counts: NDArray[np.float64], rates: Rates) -> float:
    """How far a net lies outside twice the range of the points, as a sum of logarithms."""
    beyond = 0.0
    for value, (least, most) in zip(sizes(counts), (rates.macs, rates.depth), strict=True):
        beyond += max(0.0, math.log(value / (2 * most)), math.log(least / (2 * value)))
    return beyond


def _float32(counts: NDArray[np.float64], target: Target) -> tuple[float, float, str]:
    """The logarithm of float32's latency over int8's, its variance, and what they rest on.

    The pairs of measurements are of engines whose kernels are tuned for both. TFLM's libraries
    have none for float32, so there the factor lies between that of the pairs and that of int8 with
    reference kernels, which take as many steps and requantize on top.
    """
    rates = rates_of(target)
    cycles = float(counts @ rates.cycles)
    if not _has_fpu(target.cpu):
        factor = max(1.0, SOFT_FLOAT_CYCLES * sizes(counts)[0] / cycles)
        spread = math.log(SOFT_FLOAT_FACTOR) / rates.quantile
        return math.log(factor), spread**2, (
            f"float32 on a core without an FPU: assumed, {SOFT_FLOAT_CYCLES:.0f} cycles a MAC, "
            f"{factor:.1f} times int8"
        )  # fmt: skip
    ratios = fitted()["float32"]
    pairs = ratios.get(CORE_CLASSES.get(core_of(target.cpu), "other"), ratios["other"])
    log_factor, variance = pairs["log_factor"], pairs["variance"]
    basis = f"{pairs['points']} pairs of measurements"
    if target.kernels in TFLM_KERNELS:
        reference = math.log(float(counts @ _rates(target.cpu, "reference").cycles) / cycles)
        variance += ((reference - log_factor) / 2 / rates.quantile) ** 2
        log_factor = (log_factor + reference) / 2
        basis += " with tuned float32 kernels, and int8 reference kernels; TFLM's are not tuned"
    factor = max(1.0, math.exp(log_factor))
    return math.log(factor), variance, f"float32 from int8, {factor:.1f} times: {basis}"


def _has_fpu(cpu: str) -> bool:
    if core_of(cpu) not in WITHOUT_FPU:
        return True
    names = [word for word in cpu.lower().split() if word.startswith("rv32")]
    return any(set("fg") & set(name.removeprefix("rv32").split("_")[0]) for name in names)


def _own_rates(target: Target) -> Rates:
    """The target's calibrated rates, or else those of its core and kernels."""
    calibration = target.calibration
    if calibration is None:
        return rates_of(target)
    return Rates(
        cycles=np.array([calibration.cycles[term] for term in LATENCY_TERMS]),
        covariance=_symmetric(calibration.covariance),
        variance=calibration.variance,
        quantile=NORMAL_95,
        macs=calibration.macs,
        depth=calibration.depth,
        kinds=frozenset(calibration.kinds),
        source="measurements",
        basis=calibration.basis,
    )


def unknown_core(target: Target) -> str:
    """What to say of a target whose core has no class; empty where that changes no latency."""
    cpu = target.cpu
    if core_of(cpu) in CORE_CLASSES or target.kernels not in KERNELS or target.calibration:
        return ""
    # Also by what follows `cortex-`: people write M4F.
    spelled = {core.removeprefix("cortex-"): core for core in CORE_CLASSES}
    spelled |= {core: core for core in CORE_CLASSES}
    near = difflib.get_close_matches(cpu.lower(), spelled, n=1, cutoff=0.7)
    question = f", did you mean '{_as_written(spelled[near[0]], cpu)}'?" if near else "."
    return (
        f"{target.name}: unknown core '{cpu}'{question} Its latency is extrapolated from other "
        "cores."
    )


def _as_written(core: str, cpu: str) -> str:
    """A core as its maker writes it, with an FPU where `cpu` has one."""
    if not core.startswith("cortex-"):
        return core
    fpu = "F" if core.startswith("cortex-m") and cpu.lower().endswith("f") else ""
    return f"Cortex-{core.removeprefix('cortex-').upper()}{fpu}"


@functools.cache
def _rates(cpu: str, kernels: str) -> Rates:
    content = fitted()
    core = core_of(cpu)
    core_class = CORE_CLASSES.get(core, "other")
    entries = {(entry["core"], entry["kernels"]): entry for entry in content["rates"]}
    cores = (core, f"any {core_class} core", "any other core")
    entry = next(entries[name, kernels] for name in cores if (name, kernels) in entries)
    return Rates(
        cycles=np.array(entry["cycles"]),
        covariance=_symmetric(entry["covariance"]),
        variance=content["variance"]
        + (content["spreads"]["core"] ** 2 if core in FAMILIES else 0.0),
        quantile=content["quantile"],
        macs=tuple(entry["macs"]),
        depth=tuple(entry["depth"]),
        kinds=KNOWN_KINDS,
        source="points",
        basis=_basis(entry, cpu, kernels),
    )


def _symmetric(lower: Sequence[Sequence[float]]) -> NDArray[np.float64]:
    """A symmetric matrix from the rows of its lower triangle."""
    matrix = np.zeros((len(lower), len(lower)))
    for index, row in enumerate(lower):
        matrix[index, : index + 1] = matrix[: index + 1, index] = row
    return matrix


def _basis(entry: dict[str, Any], cpu: str, kernels: str) -> str:
    counted = [
        f"{entry[name]} {name if entry[name] > 1 else name[:-1]}"
        for name in ("points", "layers")
        if entry[name]
    ]
    if entry["measured"]:
        return ", ".join([" and ".join(counted), cpu, KERNELS[kernels], *entry["notes"]])
    return (
        f"no points for {cpu} with {KERNELS[kernels]}: extrapolated from "
        f"{' and '.join(counted)} of other cores"
    )
