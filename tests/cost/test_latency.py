"""The latency estimate: its band, what it says of itself, and where it refuses."""

from __future__ import annotations

from dataclasses import replace

import pytest

from tuner.catalog import load_target, names
from tuner.cost.latency import EXTERNAL_RAM_FACTOR, core_of, estimate_latency, work_of
from tuner.errors import SpecError
from tuner.spec import Architecture, Conv2D, Dense, GlobalAveragePool2D, Input, Node
from tuner.testing.architectures import random_architecture

NET = random_architecture(1)
CPU_TARGETS = [name for name in names("targets") if name != "k230"]


def convolution_net(side: int, filters: int) -> Architecture:
    return Architecture(
        nodes=(
            Node(name="image", op=Input(height=side, width=side, channels=3)),
            Node(name="conv", op=Conv2D(filters=filters), inputs=("image",)),
            Node(name="pool", op=GlobalAveragePool2D(), inputs=("conv",)),
            Node(name="logits", op=Dense(units=4), inputs=("pool",)),
        ),
        outputs=("logits",),
    )


@pytest.mark.parametrize("name", CPU_TARGETS)
def test_every_target_gets_an_estimate_with_a_band_and_a_basis(name: str) -> None:
    latency = estimate_latency(NET, load_target(name))
    assert 0 < latency.low < latency.value < latency.high
    assert latency.kind == "estimated"
    assert "point" in latency.basis or "net" in latency.basis


@pytest.mark.parametrize("seed", range(20))
def test_work_counts_every_operator_that_runs(seed: int) -> None:
    work = work_of(random_architecture(seed))
    assert all(row.elements > 0 for row in work)
    assert all((row.macs > 0) == (row.kind != "other") for row in work)


def test_latency_follows_clock_and_size() -> None:
    target = load_target("stm32l4r5")
    slow = estimate_latency(NET, target)
    fast = estimate_latency(NET, replace(target, clock_mhz=2 * target.clock_mhz))
    assert fast.value == pytest.approx(slow.value / 2)
    small, large = (estimate_latency(convolution_net(32, width), target) for width in (8, 16))
    assert small.value < large.value < 2.5 * small.value


def test_kernels_matter_more_than_ten_times() -> None:
    target = load_target("stm32h743")
    tuned = estimate_latency(NET, target).value
    assert estimate_latency(NET, replace(target, kernels="reference")).value > 5 * tuned


def test_a_core_without_points_says_so_and_widens_its_band() -> None:
    known = load_target("stm32l4r5")
    unknown = replace(known, cpu="Cortex-M85")
    latency, reference = estimate_latency(NET, unknown), estimate_latency(NET, known)
    assert "no points for Cortex-M85: extrapolated" in latency.basis
    assert latency.high / latency.value == pytest.approx(2 * reference.high / reference.value)
    assert latency.low / latency.value == pytest.approx(reference.low / reference.value / 2)


def test_tensors_that_only_fit_outside_the_chip_slow_it_down() -> None:
    target = load_target("esp-eye")
    inside = estimate_latency(convolution_net(64, 8), target)
    outside = estimate_latency(convolution_net(160, 16), target)
    assert "external RAM" not in inside.basis
    assert "tensors in external RAM, assumed 2 times slower" in outside.basis
    all_inside = replace(target, ram_regions=(replace(target.ram_regions[0], size_bytes=10**7,
                                                      arena_max_bytes=None),))  # fmt: skip
    slower = outside.value / estimate_latency(convolution_net(160, 16), all_inside).value
    assert slower == pytest.approx(EXTERNAL_RAM_FACTOR)


def test_an_accelerators_kernels_are_refused() -> None:
    with pytest.raises(SpecError) as caught:
        estimate_latency(NET, load_target("k230"))
    assert str(caught.value) == (
        "target 'k230': no latency rates for kernels 'kpu'; expected one of cmsis-nn, esp-nn, "
        "reference, xnnpack, builtin, or a runtime that estimates its own latency."
    )


@pytest.mark.parametrize(
    ("cpu", "core"),
    [
        ("Cortex-M4F", "cortex-m4"), ("Cortex-M0+", "cortex-m0+"), ("Cortex-M33", "cortex-m33"),
        ("ARM Cortex-M7 with FPU", "cortex-m7"), ("Xtensa LX7", "xtensa-lx7"), ("C908", "c908"),
    ],
)  # fmt: skip
def test_core_families(cpu: str, core: str) -> None:
    assert core_of(cpu) == core
