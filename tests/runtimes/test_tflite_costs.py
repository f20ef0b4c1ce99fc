from __future__ import annotations

from types import ModuleType

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.arena import plan_arena
from tuner.cost.lower import lower
from tuner.runtimes import litert, tflm
from tuner.spec import RamRegion, Target
from tuner.testing.architectures import random_architecture


def target(runtime: str, kernels: str, cpu: str) -> Target:
    needed = ("clock_mhz", "ram_regions", "ram_reserved_bytes", "flash_bytes")
    return Target(
        name="test",
        title="Test",
        cpu=cpu,
        clock_mhz=100,
        ram_regions=(RamRegion(name="SRAM", size_bytes=2**20),),
        ram_reserved_bytes=0,
        flash_bytes=2**21,
        flash_reserved_bytes=0,
        runtime=runtime,
        kernels=kernels,
        sources=dict.fromkeys((*needed, "flash_reserved_bytes"), "test"),
    )


CORTEX = target("tflm", "cmsis-nn", "Cortex-M4F")
LINUX = target("litert", "xnnpack", "Cortex-A72")


@pytest.mark.parametrize(("runtime", "device"), [(tflm, CORTEX), (litert, LINUX)])
@given(seed=st.integers(0, 10**6))
def test_costs_are_whole(runtime: ModuleType, device: Target, seed: int) -> None:
    architecture = random_architecture(seed)
    cost = runtime.cost(architecture, device)
    assert sum(cost.ram_parts.values()) == cost.ram_bytes.value
    assert sum(cost.flash_parts.values()) == cost.flash_bytes.value
    assert cost.ram_bytes.low > 0
    assert cost.ram_bytes.high > cost.ram_bytes.value
    assert cost.flash_bytes.high > cost.flash_bytes.value
    assert cost.macs == sum(item.macs for item in lower(architecture).operators)
    assert cost.latency_ms.value > 0
    assert all(figure.basis for figure in (cost.ram_bytes, cost.flash_bytes, cost.latency_ms))
    assert cost.fits


def test_tflm_names_the_node_and_stays_near_the_plan() -> None:
    architecture = random_architecture(0)
    cost, arena = tflm.cost(architecture, CORTEX), plan_arena(lower(architecture))
    assert cost.ram_peak_at in {node.name for node in architecture.nodes}
    assert cost.ram_parts["arena_tail"] > arena.tail_bytes - 1
    assert cost.ram_bytes.high < 1.2 * arena.total_bytes


def test_only_the_esp32_s3_asks_for_scratch() -> None:
    architecture = random_architecture(0)
    plain, vector = (
        tflm.cost(architecture, target("tflm", "esp-nn", f"Xtensa {core}"))
        for core in ("LX6", "LX7")
    )
    assert plain.ram_bytes.value < vector.ram_bytes.value


def test_what_ran_is_named_honestly() -> None:
    assert tflm.RUN_WITH == ("litert", "builtin")
    assert litert.RUN_WITH == ("litert", "xnnpack")
    assert CORTEX.kernels in tflm.KERNELS
    assert LINUX.kernels in litert.KERNELS
