from __future__ import annotations

from dataclasses import replace
from importlib.util import find_spec
from types import ModuleType

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.arena import HOST_64, plan_arena
from tuner.cost.lower import lower
from tuner.errors import TuneError
from tuner.runtimes import generated, litert, tflm
from tuner.runtimes.recorder import measure_arena, recorded_arena
from tuner.spec import (
    Architecture,
    Conv2D,
    DepthwiseConv2D,
    Input,
    Node,
    RamRegion,
    Target,
)
from tuner.testing.architectures import random_architecture
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import convert_tflite


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
PLAIN_CODE = target("generated", "reference", "Cortex-M4F")
LIBRARY_CODE = target("generated", "cmsis-nn", "Cortex-M4F")


@pytest.mark.parametrize(
    ("runtime", "device"),
    [(tflm, CORTEX), (litert, LINUX), (generated, PLAIN_CODE), (generated, LIBRARY_CODE)],
)
@given(seed=st.integers(0, 10**6))
def test_costs_are_whole(runtime: ModuleType, device: Target, seed: int) -> None:
    architecture = random_architecture(seed)
    cost = runtime.cost(lower(architecture), device)
    assert sum(cost.ram_parts.values()) == cost.ram_bytes.value
    assert sum(cost.flash_parts.values()) == cost.flash_bytes.value
    assert cost.ram_bytes.low > 0
    assert cost.ram_bytes.high > cost.ram_bytes.value
    assert cost.flash_bytes.high >= cost.flash_bytes.value
    assert cost.macs == sum(item.macs for item in lower(architecture).operators)
    assert cost.latency_ms.value > 0
    assert all(figure.basis for figure in (cost.ram_bytes, cost.flash_bytes, cost.latency_ms))
    assert cost.fits
    graph = lower(architecture)
    assert {item.kind for item in graph.operators} <= runtime.OPERATORS
    milliseconds = runtime.operator_latency_ms(graph, device)
    assert len(milliseconds) == len(graph.operators)
    assert sum(milliseconds) == pytest.approx(cost.latency_ms.value)


def test_tflm_names_the_node_and_stays_near_the_plan() -> None:
    architecture = random_architecture(0)
    cost, arena = tflm.cost(lower(architecture), CORTEX), plan_arena(lower(architecture))
    assert cost.ram_peak_at in {node.name for node in architecture.nodes}
    assert cost.ram_parts["arena_tail"] > arena.tail_bytes - 1
    image = architecture.input
    assert cost.ram_parts["preprocessing"] == 4 * image.width * image.channels
    assert cost.ram_bytes.high - cost.ram_parts["preprocessing"] < 1.2 * arena.total_bytes


def test_only_the_esp32_s3_asks_for_scratch() -> None:
    architecture = random_architecture(0)
    plain, vector = (
        tflm.cost(lower(architecture), target("tflm", "esp-nn", f"Xtensa {core}"))
        for core in ("LX6", "LX7")
    )
    assert plain.ram_bytes.value < vector.ram_bytes.value


def test_what_ran_is_named_honestly() -> None:
    assert tflm.RUN_WITH == ("litert", "builtin")
    assert litert.RUN_WITH == ("litert", "xnnpack")
    assert CORTEX.kernels in tflm.KERNELS
    assert LINUX.kernels in litert.KERNELS
    assert generated.RUN_WITH == ("litert", "reference")
    assert LIBRARY_CODE.kernels in generated.KERNELS


def test_a_files_size_is_exact() -> None:
    graph = replace(lower(random_architecture(0)), file_bytes=12_345)
    assert litert.cost(graph, LINUX).flash_bytes.low == 12_345
    assert litert.cost(graph, LINUX).flash_bytes.high == 12_345
    assert tflm.cost(graph, CORTEX).flash_parts["model"] == 12_345


def test_operators_that_runtimes_have() -> None:
    assert {"SOFTMAX", "LOGISTIC", "PAD", "CONCATENATION", "QUANTIZE"} <= tflm.OPERATORS
    assert "GELU" not in tflm.OPERATORS
    assert "GELU" in litert.OPERATORS
    assert "CIRCULAR_BUFFER" in tflm.OPERATORS - litert.OPERATORS
    assert generated.OPERATORS < tflm.OPERATORS


@given(st.integers(0, 10**6))
def test_generated_code_needs_the_arenas_head_and_no_structs(seed: int) -> None:
    graph = lower(random_architecture(seed))
    with_structs, without = tflm.cost(graph, CORTEX), generated.cost(graph, LIBRARY_CODE)
    arena = plan_arena(graph, kernels="cmsis-nn", cpu=CORTEX.cpu)
    assert without.ram_parts["tensors"] == arena.head_bytes
    assert without.flash_bytes.value < with_structs.flash_bytes.value


def test_stack_and_constants_of_generated_code() -> None:
    architecture = Architecture(
        nodes=(
            Node(name="image", op=Input(height=8, width=8, channels=3)),
            Node(name="stem", op=Conv2D(filters=6, kernel=5), inputs=("image",)),
            Node(name="deep", op=DepthwiseConv2D(), inputs=("stem",)),
        ),
        outputs=("deep",),
    )
    graph = lower(architecture)
    plain, library = generated.cost(graph, PLAIN_CODE), generated.cost(graph, LIBRARY_CODE)
    window = 2 * 5 * 5 * 3
    assert plain.ram_parts["stack"] - library.ram_parts["stack"] == window
    # 450 weights and 54 weights, each array aligned to 4; 9 bytes for each of 6 channels, twice.
    assert plain.flash_parts["constants"] == 452 + 56 + 56 + 56
    assert plain.flash_parts["code"] == 2 * generated.OPERATOR_CODE_BYTES
    float32 = generated.constant_bytes(replace(graph, precision="float32"))
    assert float32 == 4 * (450 + 54 + 6 + 6)


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")
def test_tflm_measures_what_its_allocator_records(converted: bytes) -> None:
    measured = tflm.measure({"int8": converted}, CORTEX)
    arena = plan_arena(lower(random_architecture(1)), structs=HOST_64)
    assert measured["arena_head_bytes"].value == arena.head_bytes
    assert {quantity.kind for quantity in measured.values()} == {"measured"}
    assert (measured["arena_head_bytes"].value, measured["arena_tail_bytes"].value) == (
        recorded_arena(converted)
    )


@pytest.mark.skipif(find_spec("tflite_micro") is None, reason="tflite-micro is not installed")
def test_a_model_that_tflm_refuses_ends_in_a_line(
    converted: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(TuneError, match=r"^tflite-micro cannot run the model: .*[^.]\.$"):
        measure_arena(converted[:2000])
    with pytest.raises(TuneError, match="tflite-micro cannot run the model"):
        measure_arena(b"this is no model")
    monkeypatch.setattr("tuner.runtimes.recorder.MEASURE_SECONDS", 0.001)
    with pytest.raises(TuneError, match=r"took more than 0\.001 s"):
        measure_arena(converted)


def test_without_tflite_micro_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'edge-tuner\[referee\]'"):
        tflm.measure({"int8": b""}, CORTEX)


@pytest.fixture(scope="module")
def converted() -> bytes:
    architecture = random_architecture(1)
    image = architecture.input
    model = build_keras(architecture)
    randomize_weights(model, 0)
    shape = (2, image.height, image.width, image.channels)
    images = np.random.default_rng(0).uniform(-1, 0.99, shape).astype(np.float32)
    return convert_tflite(model, "int8", images)
