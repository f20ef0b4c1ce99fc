"""Latency of one int8 inference: a first figure with an honest band, before any board is asked.

The model is a sum over operators, in clock cycles of the target's core:

    cycles = MACs x cycles of one MAC (by kind) + elements x cycles of one element
             + operators x cycles of calling one

Elements are the numbers an operator writes (a pool: reads). Requantizing them is why a narrow
net costs more per MAC than a wide one: a 1x1 convolution from 8 channels takes 20 cycles a MAC on
the RP2040, one from 128 channels 8 (raspberrypi/pico-tflmicro, benchmark_results.txt).

The kernel library moves the figure up to 22 times on one core (mit-han-lab/tinyengine, README),
so rates are held by core *and* kernels. `tests/cost/test_latency_points.py` holds the public
points, fits the rates again and checks that each point lies in its band when its model is left
out of the fit.
"""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from tuner.errors import SpecError
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Quantity,
    Target,
)

Kind = Literal["conv", "depthwise", "dense", "other"]

CYCLES_PER_OPERATOR = 2500.0
"""What calling one operator costs: RESHAPE, which computes nothing, takes 22 us at 125 MHz on the
RP2040 (raspberrypi/pico-tflmicro, benchmark_results.txt)."""

EXTERNAL_RAM_FACTOR = 2.0
"""Slow-down of tensors in external RAM. Assumed: no public point has a net in both."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """What one operator does: its kind, MACs, and elements written (a pool: read)."""

    kind: Kind
    macs: int
    elements: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Rate:
    """Cycles by kind of work on one core with one kernel library.

    Args:
        conv: cycles of one MAC of a convolution over all channels.
        depthwise: cycles of one MAC of a depthwise convolution.
        dense: cycles of one MAC of a fully connected layer.
        element: cycles of one element.
        operator: cycles of calling one operator.
        low: the latency is not expected below this share of the estimate.
        high: nor above this one.
        basis: what rates and band rest on.
    """

    conv: float
    depthwise: float
    dense: float
    element: float
    low: float
    high: float
    basis: str
    operator: float = CYCLES_PER_OPERATOR

    def cycles(self, work: Iterable[Work]) -> float:
        """Clock cycles of all operators together."""
        rows = list(work)
        table = np.array([(row.macs, row.elements) for row in rows], dtype=np.float64)
        per_mac = {"conv": self.conv, "depthwise": self.depthwise, "dense": self.dense}
        rates = np.array([(per_mac.get(row.kind, 0.0), self.element) for row in rows])
        return float((table * rates).sum()) + self.operator * len(rows)


def _cortex(scale: float, low: float, high: float, basis: str) -> Rate:
    """A Cortex-M core with DSP instructions: one shape, a scale (cycles of a conv MAC) each.

    The shape is fitted over all points of M4 and M33 together, drawn to that of the RP2040's
    layers where four nets do not tell (see the test).
    """
    return Rate(
        conv=scale, depthwise=2.507 * scale, dense=0.9345 * scale, element=8.37 * scale,
        low=low, high=high, basis=basis,
    )  # fmt: skip


def _reference(cycles: float, low: float, high: float, basis: str) -> Rate:
    """Portable C kernels: nearly flat in cycles a MAC, with a requantization of 50 cycles."""
    return Rate(
        conv=cycles, depthwise=cycles, dense=cycles, element=50.0, low=low, high=high, basis=basis
    )


_M4 = _cortex(4.475, 0.6, 1.7, "8 points, Cortex-M4, TFLM 2.3.1 and microTVM with CMSIS-NN, "
              "MLPerf Tiny v0.5 and v1.0")  # fmt: skip
_M0 = Rate(
    conv=7.8, depthwise=32.6, dense=8.0, element=86.0, low=0.7, high=1.5,
    basis="28 layers of one net, Cortex-M0+ (RP2040), TFLM with CMSIS-NN, "
    "raspberrypi/pico-tflmicro; 4 points of Bosch HALE on STM32G0B1 as a hint",
)  # fmt: skip
_A72 = Rate(
    conv=0.187, depthwise=0.874, dense=0.611, element=1.98, low=0.4, high=4.3,
    basis="4 points, Cortex-A72, another engine than XNNPACK (LEIP 1.9.3, threads not stated), "
    "MLPerf Tiny v0.5; shape agrees with 3 points of TFLite 2.11 on Cortex-A7",
)  # fmt: skip

RATES: dict[tuple[str, str], Rate] = {
    ("cortex-m0+", "cmsis-nn"): _M0,
    ("cortex-m4", "cmsis-nn"): _M4,
    ("cortex-m33", "cmsis-nn"): _cortex(
        3.005, 0.7, 1.55, "8 points, Cortex-M33, microTVM with CMSIS-NN and TFLM, "
        "MLPerf Tiny v0.7 and v1.1"),
    ("cortex-m7", "cmsis-nn"): _cortex(
        2.534, 0.6, 1.7, "8 points, Cortex-M7 (STM32H743, 480 MHz assumed), TFLM with CMSIS-NN, "
        "mit-han-lab/tinyengine README; kinds of layers extrapolated from Cortex-M4 and M33"),
    ("xtensa-lx7", "esp-nn"): Rate(
        conv=0.615, depthwise=1.57, dense=3.5, element=32.7, low=0.5, high=2.0,
        basis="1 net (54 ms), ESP32-S3, TFLM with ESP-NN, espressif/esp-tflite-micro README; "
        "kinds of layers from the kernel table of espressif/esp-nn README"),
    ("xtensa-lx6", "esp-nn"): Rate(
        conv=7.42, depthwise=31.2, dense=7.42, element=81.6, low=0.5, high=2.0,
        basis="1 net (380 ms), ESP32, TFLM with ESP-NN, espressif/esp-tflite-micro README; "
        "kinds of layers extrapolated from Cortex-M0+"),
    ("cortex-m7", "reference"): _reference(
        44.0, 0.5, 2.0, "1 net (587 ms), STM32H743 (480 MHz assumed), TFLM reference kernels, "
        "mit-han-lab/tinyengine README"),
    ("xtensa-lx7", "reference"): _reference(
        76.0, 0.5, 2.0, "1 net (2300 ms), ESP32-S3, TFLM reference kernels, "
        "espressif/esp-tflite-micro README"),
    ("xtensa-lx6", "reference"): _reference(
        135.0, 0.5, 2.0, "1 net (4084 ms), ESP32, TFLM reference kernels, "
        "espressif/esp-tflite-micro README"),
    ("cortex-a72", "xnnpack"): _A72,
    ("x86-64", "xnnpack"): Rate(
        conv=0.01814, depthwise=0.1008, dense=0.01973, element=0.2193, operator=300.0,
        low=0.4, high=6.0,
        basis="5 nets timed by this project, LiteRT 2.3 with XNNPACK, one thread, AMD EPYC with "
        "AVX-512 VNNI; high end assumed for processors without it"),
    ("cortex-a72", "builtin"): Rate(
        conv=1.87, depthwise=8.74, dense=6.11, element=19.8, low=0.2, high=5.0,
        basis="assumed: 10 times the Cortex-A72's rates with XNNPACK; no points"),
}  # fmt: skip

# Where a core has no points with its kernels: whose rates stand in, and how far the band widens.
_NEAREST: dict[str, tuple[tuple[str, str], float]] = {
    "cmsis-nn": (("cortex-m4", "cmsis-nn"), 2.0),
    "esp-nn": (("xtensa-lx6", "esp-nn"), 2.0),
    "reference": (("xtensa-lx7", "reference"), 1.5),
    "xnnpack": (("cortex-a72", "xnnpack"), 2.0),
    "builtin": (("cortex-a72", "builtin"), 2.0),
}


def estimate_latency(architecture: Architecture, target: Target) -> Quantity:
    """Estimate one inference of the int8 model, on the target's CPU and without limits.

    Args:
        architecture: the net.
        target: its `cpu`, `kernels` and `clock_mhz` are read, and which RAM is external.

    Returns:
        Milliseconds, with a band that spans what the points behind the rates show, wider where
        the core or its kernels have no points of their own.

    Raises:
        SpecError: the kernels have no rates here (an accelerator's runtime estimates itself).
    """
    rate, widening, note = _rate_of(target)
    milliseconds = rate.cycles(work_of(architecture)) / (target.clock_mhz * 1e3)
    basis = rate.basis + note
    low = milliseconds * rate.low / widening
    if _largest_working_set_bytes(architecture) > target.internal_arena_bytes:
        # Some tensors may still lie inside the chip, so the low end stays.
        milliseconds *= EXTERNAL_RAM_FACTOR
        widening *= EXTERNAL_RAM_FACTOR
        basis += "; tensors in external RAM, assumed 2 times slower"
    return Quantity(
        value=milliseconds,
        low=low,
        high=milliseconds * rate.high * widening,
        kind="estimated",
        basis=basis,
    )


def work_of(architecture: Architecture) -> list[Work]:
    """Kind, MACs and elements of each operator of the int8 graph, in order.

    Batch normalization and activation are part of their convolution; `Dropout` and `Input` do
    nothing on the device. An operator without a rule counts its outputs and no MACs.
    """
    shapes = architecture.shapes()
    work: list[Work] = []
    for node in architecture.nodes:
        operator = node.op
        if isinstance(operator, Input | Dropout):
            continue
        read = math.prod(shapes[node.inputs[0]])
        written = math.prod(shapes[node.name])
        if isinstance(operator, Conv2D):
            macs = operator.kernel**2 * shapes[node.inputs[0]][-1] * written
            work.append(Work(kind="conv", macs=macs, elements=written))
        elif isinstance(operator, DepthwiseConv2D):
            macs = operator.kernel**2 * written
            work.append(Work(kind="depthwise", macs=macs, elements=written))
        elif isinstance(operator, Dense):
            work.append(Work(kind="dense", macs=read * written, elements=written))
        elif isinstance(operator, MaxPool2D | GlobalAveragePool2D):
            work.append(Work(kind="other", macs=0, elements=read))
        else:
            work.append(Work(kind="other", macs=0, elements=written))
    return work


def core_of(cpu: str) -> str:
    """The core's family from a target's `cpu`, lower-case: `Cortex-M4F` -> `cortex-m4`."""
    words = cpu.lower().replace("(", " ").replace(",", " ").split()
    for word in words:
        if word.startswith("cortex-m"):
            return word.rstrip("f")
        if word in ("lx6", "lx7"):
            return f"xtensa-{word}"
    return words[0] if words else ""


def _rate_of(target: Target) -> tuple[Rate, float, str]:
    """The rate for a target, the factor by which its band widens, and why."""
    if target.kernels not in _NEAREST:
        raise SpecError(
            f"target '{target.name}': no latency rates for kernels '{target.kernels}'; expected "
            f"one of {', '.join(_NEAREST)}, or a runtime that estimates its own latency."
        )
    core = core_of(target.cpu)
    rate = RATES.get((core, target.kernels))
    if rate is not None:
        return rate, 1.0, ""
    stand_in, widening = _NEAREST[target.kernels]
    return RATES[stand_in], widening, f"; no points for {target.cpu}: extrapolated"


def _largest_working_set_bytes(architecture: Architecture) -> int:
    """Input and output of the largest operator, bytes: the arena is never below this."""
    shapes = architecture.shapes()
    return max(
        math.prod(shapes[node.name]) + sum(math.prod(shapes[name]) for name in node.inputs)
        for node in architecture.nodes
    )
