from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.catalog import load_target
from tuner.cost.lower import lower
from tuner.errors import SpecError, TuneError
from tuner.runtimes import ethos_u, tflm
from tuner.spec import Architecture, Target
from tuner.testing.architectures import random_architecture
from tuner.testing.mlperf_tiny import autoencoder, ds_cnn, mobilenet_v1_025, resnet8
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import INPUT_RANGES, convert_tflite

GROVE = load_target("grove-vision-v2")
TARGETS = {
    "ethos-u55-64": GROVE,
    "ethos-u55-128": load_target("corstone300"),
    "ethos-u55-256": load_target("alif-e7"),
    "ethos-u65-256": load_target("imx93"),
}

# Cycles, SRAM and compiled file, bytes, by ethos-u-vela 5.2.0 (`docs/costs/ethos-u.md`), of the
# nets with random weights as `randomize_weights` gives them.
VELA = [
    (resnet8, "ethos-u55-64", 356_899, 51_888, 82_080),
    (resnet8, "ethos-u55-128", 201_050, 51_888, 82_016),
    (resnet8, "ethos-u55-256", 141_334, 51_888, 81_968),
    (resnet8, "ethos-u65-256", 112_418, 51_888, 82_128),
    (ds_cnn, "ethos-u55-64", 138_813, 22_192, 32_768),
    (ds_cnn, "ethos-u55-128", 88_897, 22_192, 32_752),
    (ds_cnn, "ethos-u55-256", 57_419, 22_192, 32_768),
    (ds_cnn, "ethos-u65-256", 55_884, 22_192, 32_848),
    (mobilenet_v1_025, "ethos-u55-64", 457_350, 74_496, 239_488),
    (mobilenet_v1_025, "ethos-u55-128", 359_210, 74_496, 237_392),
    (mobilenet_v1_025, "ethos-u55-256", 309_206, 74_496, 237_328),
    (mobilenet_v1_025, "ethos-u65-256", 264_161, 74_496, 237_552),
    (autoencoder, "ethos-u55-128", 271_840, 768, 273_872),
    (autoencoder, "ethos-u65-256", 74_752, 2_912, 274_128),
]


def on(accelerator: str, target: Target = GROVE) -> Target:
    return dataclasses.replace(target, accelerator=accelerator)


def int8(architecture: Architecture, seed: int = 1) -> bytes:
    image = architecture.input
    model = build_keras(architecture)
    randomize_weights(model, seed)
    shape = (4, image.height, image.width, image.channels)
    images = np.random.default_rng(seed).uniform(*INPUT_RANGES["signed"], shape).astype(np.float32)
    return convert_tflite(model, "int8", images, input_range=INPUT_RANGES["signed"])


@pytest.mark.parametrize(("net", "name", "cycles", "sram", "file"), VELA)
def test_costs_beside_velas(net: Any, name: str, cycles: int, sram: int, file: int) -> None:
    target = TARGETS[name]
    cost = ethos_u.cost(lower(net()), target)
    clock_khz = 1e6 if name == "ethos-u65-256" else target.clock_mhz * 1e3
    assert cost.latency_ms.value == pytest.approx(cycles / clock_khz, rel=0.17)
    assert cost.flash_parts["model"] == pytest.approx(file, rel=0.12)
    # A few KB more or less decide nothing.
    arena = cost.ram_parts["arena_head"]
    assert 0.95 * sram - 3 * 1024 <= arena <= 1.4 * sram + 1024


@pytest.mark.parametrize("name", TARGETS)
@given(seed=st.integers(0, 10**6))
def test_operators_add_up_and_bands_hold_their_value(name: str, seed: int) -> None:
    graph, target = lower(random_architecture(seed)), TARGETS[name]
    cost = ethos_u.cost(graph, target)
    operators = ethos_u.operator_latency_ms(graph, target)
    assert len(operators) == len(graph.operators)
    assert sum(operators) == pytest.approx(cost.latency_ms.value)
    assert all(milliseconds >= 0 for milliseconds in operators)
    assert sum(cost.ram_parts.values()) == cost.ram_bytes.value
    assert sum(cost.flash_parts.values()) == cost.flash_bytes.value
    if cost.ram_parts.get("model", 0) < cost.ram_parts["arena_head"]:  # a layer decides
        assert cost.ram_peak_at in {operator.name for operator in graph.operators}
    else:
        assert cost.ram_peak_at == ""
    assert cost.macs == graph.macs


def test_more_macs_are_faster_and_the_clock_counts() -> None:
    graph = lower(mobilenet_v1_025())
    latencies = [
        ethos_u.cost(graph, on(f"ethos-u55-{macs}")).latency_ms.value for macs in (32, 64, 128, 256)
    ]
    assert latencies == sorted(latencies, reverse=True)
    half = ethos_u.cost(graph, on("ethos-u55-64 at 200 MHz")).latency_ms.value
    assert half == pytest.approx(2 * latencies[1])


def test_external_weights_are_part_of_the_ram() -> None:
    graph = lower(resnet8())
    cost = ethos_u.cost(graph, TARGETS["ethos-u65-256"])
    assert cost.ram_parts["model"] == cost.flash_parts["model"]
    assert cost.ram_parts["input_output"] == 32 * 32 * 3 + 10
    assert "model" not in ethos_u.cost(graph, GROVE).ram_parts


def test_tensors_beyond_the_accelerators_ram_widen_the_band() -> None:
    graph, target = lower(mobilenet_v1_025()), TARGETS["ethos-u65-256"]
    image = dataclasses.replace(mobilenet_v1_025().nodes[0].op, height=384, width=384)
    nodes = mobilenet_v1_025().nodes
    large = Architecture(
        nodes=(dataclasses.replace(nodes[0], op=image), *nodes[1:]),
        outputs=mobilenet_v1_025().outputs,
    )
    small_band = ethos_u.cost(graph, target).latency_ms
    large_band = ethos_u.cost(lower(large), target).latency_ms
    assert large_band.high / large_band.value > small_band.high / small_band.value
    assert "external RAM" in large_band.basis


def test_operators_left_on_the_cpu_are_named() -> None:
    graph = lower(resnet8())
    operators = (*graph.operators[:-1], dataclasses.replace(graph.operators[-1], kind="GATHER"))
    cost = ethos_u.cost(dataclasses.replace(graph, operators=operators), GROVE)
    assert "not counted: GATHER, which stay on the CPU" in cost.latency_ms.basis
    assert (
        ethos_u.operator_latency_ms(dataclasses.replace(graph, operators=operators), GROVE)[-1] == 0
    )


@pytest.mark.parametrize(
    "accelerator", ["none", "ethos-u55", "ethos-u55-100", "ethos-u65-256", "ethos-u55-64 at speed"]
)
def test_a_target_without_a_known_configuration(accelerator: str) -> None:
    with pytest.raises(SpecError, match=f"Received: accelerator='{accelerator}'"):
        ethos_u.cost(lower(resnet8()), on(accelerator))


def test_float32_is_refused() -> None:
    graph = dataclasses.replace(lower(resnet8()), precision="float32")
    with pytest.raises(SpecError, match="Received: precision='float32'"):
        ethos_u.cost(graph, GROVE)


def test_predicts_as_the_builtin_kernels_do() -> None:
    model = int8(ds_cnn())
    images = np.random.default_rng(0).uniform(-1, 0.99, (3, 49, 10, 1)).astype(np.float32)
    np.testing.assert_array_equal(
        ethos_u.predict(model, "int8", images), tflm.predict(model, "int8", images)
    )


def test_measuring_needs_the_int8_build() -> None:
    with pytest.raises(TuneError, match=r"int8 build of a net\. Received: float32\."):
        ethos_u.measure({"float32": b""}, GROVE)


class TestMeasure:
    @pytest.fixture(autouse=True)
    def vela(self) -> None:
        pytest.importorskip("ethosu.vela")

    @pytest.mark.parametrize("name", TARGETS)
    def test_measures_within_the_estimates_bands(self, name: str) -> None:
        architecture, target = ds_cnn(), TARGETS[name]
        measured = ethos_u.measure({"int8": int8(architecture)}, target)
        cost = ethos_u.cost(lower(architecture), target)
        assert set(measured) == {"arena_head_bytes", "ram_bytes", "flash_bytes", "latency_ms"}
        for field in ("ram_bytes", "flash_bytes", "latency_ms"):
            estimate = getattr(cost, field)
            assert estimate.low <= measured[field].value <= estimate.high, field
            assert measured[field].kind == "measured"
            assert "not a board" in measured[field].basis

    def test_names_what_stays_on_the_cpu(self) -> None:
        model = convert_tflite(build_keras(ds_cnn()), "float32")
        with pytest.raises(TuneError, match=r"leaves .*FULLY_CONNECTED.* on the CPU"):
            ethos_u.measure({"int8": model}, GROVE)

    def test_a_file_that_is_none(self) -> None:
        with pytest.raises(TuneError, match="Vela refuses the model: RuntimeError: Compilation"):
            ethos_u.measure({"int8": b"not a model"}, GROVE)
        with pytest.raises(TuneError, match="Vela refuses the model: Failed to load TfLite model"):
            ethos_u.measure({"int8": int8(ds_cnn())[:500]}, GROVE)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", TARGETS)
    def test_errors_beside_vela_over_random_nets(self, name: str) -> None:
        """The figures of `docs/costs/ethos-u.md` on nets that played no part in the rules."""
        target, ratios = TARGETS[name], []
        for seed in range(200, 260):
            architecture = random_architecture(seed)
            measured = ethos_u.measure({"int8": int8(architecture, seed)}, target)
            cost = ethos_u.cost(lower(architecture), target)
            for field in ("ram_bytes", "flash_bytes", "latency_ms"):
                estimate = getattr(cost, field)
                assert estimate.low <= measured[field].value <= estimate.high, (seed, field)
            ratios.append(
                (
                    cost.latency_ms.value / measured["latency_ms"].value,
                    cost.ram_parts["arena_head"] / measured["arena_head_bytes"].value,
                    cost.flash_parts["model"] / measured["flash_bytes"].low,
                )
            )
        errors = np.abs(np.array(ratios) - 1)
        print(f"\n{name}: mean and median error of latency, arena, file: ", end="")
        print(errors.mean(axis=0).round(3), np.median(errors, axis=0).round(3))
        assert errors.mean(axis=0)[0] <= (0.12 if name == "ethos-u65-256" else 0.05)
        assert (np.median(errors, axis=0) <= (0.06, 0.02, 0.06)).all()
