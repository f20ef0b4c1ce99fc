"""The latency estimate: its band, what it says of itself, and where it refuses."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest

from tuner.catalog import load_target, names
from tuner.cost.latency import (
    CORE_CLASSES,
    EXTERNAL_RAM_FACTOR,
    KERNELS,
    SOFT_FLOAT_CYCLES,
    core_of,
    estimate_latency,
    fitted,
    operator_latency_ms,
    totals,
    work,
)
from tuner.cost.latency_nets import net
from tuner.cost.lower import Graph, lower
from tuner.errors import SpecError
from tuner.spec import Architecture, Conv2D, Dense, GlobalAveragePool2D, Input, Node, Target
from tuner.spec.target import LATENCY_TERMS, Calibration
from tuner.testing.architectures import random_architecture

NET = lower(random_architecture(1))
KWS = net("dscnn")
VWW = net("mobilenet_v1 0.25 96 3 2")
CPU_TARGETS = [name for name in names("targets") if load_target(name).kernels in KERNELS]


def convolution_net(side: int, filters: int) -> Graph:
    return lower(
        Architecture(
            nodes=(
                Node(name="image", op=Input(height=side, width=side, channels=3)),
                Node(name="conv", op=Conv2D(filters=filters), inputs=("image",)),
                Node(name="pool", op=GlobalAveragePool2D(), inputs=("conv",)),
                Node(name="logits", op=Dense(units=4), inputs=("pool",)),
            ),
            outputs=("logits",),
        )
    )


@pytest.mark.parametrize("name", CPU_TARGETS)
def test_every_cpu_target_gets_an_estimate_with_a_band_and_a_basis(name: str) -> None:
    latency = estimate_latency(NET, load_target(name))
    assert 0 < latency.low < latency.value < latency.high
    assert latency.kind == "estimated"
    assert "point" in latency.basis


@pytest.mark.parametrize("seed", range(20))
def test_work_counts_every_operator_that_runs(seed: int) -> None:
    for operator in lower(random_architecture(seed)).operators:
        counts = dict(zip(LATENCY_TERMS, work(operator), strict=True))
        assert counts.pop("operators") == 1
        elements = counts.pop("elements") + counts.pop("others")
        assert (elements > 0) == (operator.kind != "RESHAPE")
        assert sum(counts.values()) == operator.macs


def test_the_basis_names_points_core_and_kernels() -> None:
    basis = estimate_latency(VWW, load_target("stm32l4r5")).basis
    assert basis == "10 points, Cortex-M4F, CMSIS-NN"


def test_latency_follows_clock_and_size() -> None:
    target = load_target("stm32l4r5")
    slow = estimate_latency(NET, target)
    fast = estimate_latency(NET, replace(target, clock_mhz=2 * target.clock_mhz))
    assert fast.value == pytest.approx(slow.value / 2)
    small, large = (estimate_latency(convolution_net(32, width), target) for width in (8, 16))
    assert small.value < large.value < 2.5 * small.value


def test_kernels_matter_more_than_five_times() -> None:
    target = load_target("stm32h743")
    tuned = estimate_latency(NET, target).value
    assert estimate_latency(NET, replace(target, kernels="reference")).value > 5 * tuned


@pytest.mark.parametrize("name", CPU_TARGETS)
def test_operators_add_up_to_the_net(name: str) -> None:
    target = load_target(name)
    parts = operator_latency_ms(VWW, target)
    assert len(parts) == len(VWW.operators)
    assert min(parts) > 0
    assert sum(parts) == pytest.approx(estimate_latency(VWW, target).value)


def test_a_core_without_points_says_so_and_widens_its_band() -> None:
    known = load_target("stm32l4r5")
    latency = estimate_latency(VWW, replace(known, cpu="Cortex-M3"))
    reference = estimate_latency(VWW, known)
    assert latency.basis.startswith(
        "no points for Cortex-M3 with CMSIS-NN: extrapolated from 31 points and 30 layers of "
    )
    assert latency.high / latency.value > 1.5 * reference.high / reference.value


def test_a_core_of_no_class_still_gets_an_estimate() -> None:
    target = replace(load_target("stm32l4r5"), cpu="Zilog Z80")
    assert "extrapolated" in estimate_latency(VWW, target).basis


def test_every_core_of_a_class_has_rates_for_every_kernel_library() -> None:
    target = load_target("stm32l4r5")
    for core in CORE_CLASSES:
        for kernels in KERNELS:
            latency = estimate_latency(VWW, replace(target, cpu=core, kernels=kernels))
            assert latency.low > 0


def test_a_processor_family_has_a_wider_band_than_one_core() -> None:
    target = load_target("linux-x86")
    latency = estimate_latency(VWW, target)
    assert "stands in for any" in latency.basis
    assert latency.high / latency.value > 2


def test_a_net_outside_the_points_sizes_says_so_and_widens_its_band() -> None:
    target = load_target("stm32h743")
    inside = estimate_latency(net("mcunet-in1"), target)
    outside = estimate_latency(net("autoencoder"), target)
    assert "extrapolated" not in inside.basis
    assert outside.basis.endswith("outside the points' sizes: extrapolated")
    assert outside.high / outside.value > inside.high / inside.value


FLOAT32 = replace(VWW, precision="float32")


def test_float32_lies_between_tuned_kernels_and_reference_ones() -> None:
    target = load_target("stm32l4r5")
    int8, float32 = (estimate_latency(graph, target) for graph in (VWW, FLOAT32))
    reference = estimate_latency(VWW, replace(target, kernels="reference"))
    tuned = math.exp(fitted()["float32"]["dsp"]["log_factor"]) * int8.value
    assert tuned < float32.value < reference.value
    assert float32.low < tuned
    assert float32.high > reference.value
    assert float32.basis == (
        "10 points, Cortex-M4F, CMSIS-NN; float32 from int8, 6.2 times: 6 pairs of measurements "
        "with tuned float32 kernels, and int8 reference kernels; TFLM's are not tuned"
    )


def test_float32_with_tuned_kernels_follows_the_pairs() -> None:
    target = load_target("raspberry-pi-4")
    int8, float32 = (estimate_latency(graph, target) for graph in (VWW, FLOAT32))
    assert float32.value == pytest.approx(1.1 * int8.value, rel=0.01)
    assert float32.basis.endswith("float32 from int8, 1.1 times: 4 pairs of measurements")
    assert float32.high / float32.value > int8.high / int8.value


@pytest.mark.parametrize(
    ("cpu", "kernels", "has_fpu"),
    [
        ("Cortex-M0+", "cmsis-nn", False), ("Cortex-M3", "cmsis-nn", False),
        ("Cortex-M23", "reference", False), ("RISC-V (ESP32-C3)", "esp-nn", False),
        ("RISC-V RV32IMC", "reference", False), ("RISC-V RV32IMAFC", "reference", True),
        ("RV32GC_Zba", "reference", True), ("RV32IMAC_Zfinx", "reference", False),
        ("Xtensa LX6", "esp-nn", True), ("Xtensa LX7", "esp-nn", True),
        ("Cortex-M33", "cmsis-nn", True), ("Zilog Z80", "reference", True),
    ],
)  # fmt: skip
def test_float32_without_an_fpu_is_assumed_far_slower(
    cpu: str, kernels: str, has_fpu: bool
) -> None:
    target = replace(load_target("stm32l4r5"), cpu=cpu, kernels=kernels)
    int8, float32 = (estimate_latency(graph, target) for graph in (VWW, FLOAT32))
    assert float32.value > int8.value
    assert ("on a core without an FPU: assumed" in float32.basis) is not has_fpu
    if not has_fpu:
        cycles = float32.value * target.clock_mhz * 1e3
        assert cycles == pytest.approx(SOFT_FLOAT_CYCLES * VWW.macs)
        assert float32.high > 3 * float32.value


def test_operators_without_points_are_named() -> None:
    operators = (replace(VWW.operators[0], kind="TRANSPOSE_CONV"), *VWW.operators[1:])
    latency = estimate_latency(replace(VWW, operators=operators), load_target("stm32l4r5"))
    assert "no points for TRANSPOSE_CONV" in latency.basis
    known = estimate_latency(VWW, load_target("stm32l4r5"))
    assert latency.high / latency.value > known.high / known.value


def test_tensors_that_only_fit_outside_the_chip_slow_it_down() -> None:
    target = load_target("esp-eye")
    inside = estimate_latency(convolution_net(64, 8), target)
    large = convolution_net(160, 16)
    outside = estimate_latency(large, target)
    assert "external RAM" not in inside.basis
    assert "tensors in external RAM, assumed 2 times slower" in outside.basis
    all_inside = replace(target, ram_regions=(replace(target.ram_regions[0], size_bytes=10**7,
                                                      arena_max_bytes=None),))  # fmt: skip
    kept = estimate_latency(large, all_inside)
    assert outside.value / kept.value == pytest.approx(EXTERNAL_RAM_FACTOR)
    assert outside.low == pytest.approx(kept.low)
    assert sum(operator_latency_ms(large, target)) == pytest.approx(outside.value)


TERMS = len(LATENCY_TERMS)


def calibrated(target: Target) -> Target:
    calibration = Calibration(
        cycles=dict.fromkeys(LATENCY_TERMS, 2.0),
        covariance=tuple((0.0,) * row + (0.01,) for row in range(TERMS)),
        variance=0.02,
        macs=(1e6, 4e6),
        depth=(20.0, 40.0),
        kinds=tuple(sorted({operator.kind for operator in KWS.operators})),
        basis="3 of your own",
    )
    return replace(target, calibration=calibration)


def test_a_calibration_replaces_rates_band_and_basis() -> None:
    target = calibrated(load_target("stm32l4r5"))
    latency = estimate_latency(KWS, target)
    counts = totals(KWS)
    assert latency.value == pytest.approx(2.0 * counts.sum() / 120e3)
    shares = counts / counts.sum()
    deviation = math.sqrt(0.02 + 0.01 * float(shares @ shares))
    assert latency.high == pytest.approx(math.exp(1.645 * deviation) * latency.value)
    assert latency.low * latency.high == pytest.approx(latency.value**2)
    assert latency.basis == "3 of your own"
    assert sum(operator_latency_ms(KWS, target)) == pytest.approx(latency.value)


def test_a_calibrated_target_still_extrapolates() -> None:
    target = calibrated(load_target("stm32l4r5"))
    like = estimate_latency(KWS, target)
    unlike = estimate_latency(net("mcunet-in4"), target)
    assert unlike.basis == (
        "3 of your own; no measurements for ADD, MEAN; outside the measurements' sizes: "
        "extrapolated"
    )
    assert unlike.high / unlike.value > 1.5 * like.high / like.value


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"cycles": {"conv": 1.0}}, "calibration: expected cycles of stem, conv, "),
        (
            {"cycles": {**dict.fromkeys(LATENCY_TERMS, 1.0), "conv": 0.0}},
            "calibration: expected cycles above 0. Received: conv=0.0.",
        ),
        (
            {"covariance": ((1.0,), (0.5,))},
            "calibration: expected covariance as rows of 1, 2, ... 9 numbers. "
            "Received: rows of 1, 1.",
        ),
        (
            {"variance": 0.0},
            "calibration: expected variance above 0. Received: variance=0.0.",
        ),
        (
            {"macs": (3.0, 2.0)},
            "calibration: expected macs as a least and a most above 0. Received: macs=3.0, 2.0.",
        ),
    ],
)
def test_a_wrong_calibration_is_refused(changes: dict[str, object], message: str) -> None:
    calibration = calibrated(load_target("stm32l4r5")).calibration
    assert calibration is not None
    with pytest.raises(SpecError) as caught:
        replace(calibration, **changes)
    assert str(caught.value).startswith(message)


def test_an_accelerators_kernels_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        estimate_latency(NET, load_target("k230"))
    assert str(caught.value) == (
        "target 'k230': no latency rates for kernels 'kpu'; expected one of cmsis-nn, esp-nn, "
        "reference, xnnpack, or a runtime that estimates its own latency."
    )


@pytest.mark.parametrize(
    ("cpu", "core"),
    [
        ("Cortex-M4F", "cortex-m4"), ("Cortex-M0+", "cortex-m0+"), ("Cortex-M33", "cortex-m33"),
        ("ARM Cortex-M7 with FPU", "cortex-m7"), ("Xtensa LX7", "xtensa-lx7"), ("C908", "c908"),
        ("RISC-V RV32IMC", "rv32"),
        ("RISC-V (ESP32-C3)", "rv32"), ("RISC-V RV64GC", "rv64"), ("x86-64", "x86-64"),
    ],
)  # fmt: skip
def test_core_families(cpu: str, core: str) -> None:
    assert core_of(cpu) == core
