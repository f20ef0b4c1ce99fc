"""K230: the estimates beside what nncase-kpu 2.11 counts for compiled nets."""

from __future__ import annotations

import csv
import dataclasses
import re
import statistics
from functools import cache
from pathlib import Path

import pytest

from tuner.catalog import load_target
from tuner.cost.lower import Graph, GraphOperator, lower
from tuner.errors import TuneError
from tuner.runtimes import kmodel, nncase
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Operator,
)
from tuner.testing.architectures import random_architecture

TABLE = Path(__file__).with_name("k230_compiled.csv")


@cache
def compiled() -> dict[str, dict[str, str]]:
    lines = [line for line in TABLE.read_text().splitlines() if not line.startswith("#")]
    return {row["net"]: row for row in csv.DictReader(lines)}


def operator_of(word: str) -> Operator:
    letter, numbers = word[0], [int(number) for number in re.findall(r"\d+", word)]
    stride = int(word.partition("s")[2] or 1)
    if letter == "c":
        return Conv2D(filters=numbers[0], kernel=numbers[1], stride=stride)
    if letter == "d":
        return DepthwiseConv2D(kernel=numbers[0], stride=stride)
    if letter == "f":
        return Dense(units=numbers[0])
    if letter in "ma":
        return (MaxPool2D if letter == "m" else AveragePool2D)(size=numbers[0])
    return {"g": GlobalAveragePool2D(), "v": Flatten()}[letter]


def architecture(row: dict[str, str]) -> Architecture:
    """The net of a row of the table; see its head for the words."""
    height, width, channels = map(int, row["input"].split("x"))
    nodes = [Node(name="image", op=Input(height=height, width=width, channels=channels))]
    kept = []

    def add(operator: Operator, *inputs: str) -> str:
        nodes.append(Node(name=f"n{len(nodes)}", op=operator, inputs=inputs))
        return nodes[-1].name

    last = "image"
    for word in row["layers"].split():
        if word == "(":
            kept.append(last)
        elif word[0] == "+":
            beside = kept.pop()
            beside = add(operator_of(word[1:]), beside) if word[1:] else beside
            last = add(Add(), beside, last)
        else:
            last = add(operator_of(word), last)
    return Architecture(nodes=tuple(nodes), outputs=(last,))


NETS = sorted(compiled())


@pytest.mark.parametrize("net", NETS)
def test_estimates_beside_the_compilers_counts(net: str) -> None:
    row = compiled()[net]
    graph = lower(architecture(row))
    assert graph.macs == int(row["macs"]), "the table's words give another net"
    cost = nncase.cost(graph, load_target("k230"))
    latency, kmodel_bytes = float(row["latency_ms"]), int(row["kmodel_bytes"])
    assert cost.latency_ms.value == pytest.approx(latency, rel=0.15)
    assert cost.latency_ms.low <= latency <= cost.latency_ms.high
    assert cost.flash_bytes.low <= kmodel_bytes <= cost.flash_bytes.high
    assert sum(nncase.operator_latency_ms(graph, load_target("k230"))) == pytest.approx(
        cost.latency_ms.value
    )


def test_half_of_the_estimates_are_within_a_percent() -> None:
    misses = [
        abs(
            nncase.estimate_kpu_latency(lower(architecture(row))).value / float(row["latency_ms"])
            - 1
        )
        for row in compiled().values()
    ]
    assert statistics.median(misses) < 0.01


def test_convolutions_are_counted_as_the_compiler_counts_them() -> None:
    """Nets of convolutions alone: traffic, weights and MACs agree to the byte."""
    row = compiled()["convs_64"]
    graph = lower(architecture(row))
    steps = nncase._steps(graph)
    assert sum(step.computed for step in steps) == int(row["computed"])
    assert sum(step.weight_bytes for step in steps) == int(row["weight_bytes"])
    assert nncase._external_bytes(graph) == int(row["external_bytes"])
    moved = nncase._ends(graph) + sum(step.on_chip_bytes for step in steps)
    assert moved == int(row["on_chip_bytes"])


def test_published_frame_rate() -> None:
    """MobileNetV2 at 224x224: 600.24 frames a second (nncase's README), 670 (K230's data sheet)."""
    words, channels = ["c32k3s2", "d3", "c16k1"], 16
    for filters, blocks, stride in (
        (24, 2, 2), (32, 3, 2), (64, 4, 2), (96, 3, 1), (160, 3, 2), (320, 1, 1),
    ):  # fmt: skip
        for block in range(blocks):
            step = stride if block == 0 else 1
            inner = [f"c{6 * channels}k1", f"d3s{step}", f"c{filters}k1"]
            words += ["(", *inner, "+"] if step == 1 and filters == channels else inner
            channels = filters
    row = {"input": "224x224x3", "layers": " ".join([*words, "c1280k1", "g", "f1000"])}
    graph = lower(architecture(row))
    assert graph.macs == pytest.approx(301e6, rel=0.01)
    latency = nncase.estimate_kpu_latency(graph)
    assert latency.value == pytest.approx(1000 / 600.24, rel=0.1)
    assert latency.low <= 1000 / 670


def test_what_bounds_a_net_is_told() -> None:
    def basis(net: str) -> str:
        return nncase.estimate_kpu_latency(lower(architecture(compiled()[net]))).basis

    assert "bound by MACs" in basis("convs_64")
    assert "bound by traffic on the chip" in basis("mobilenet_v1_05_224")
    assert "bound by weights from external RAM" in basis("mixed_6")
    assert "lower bound for small nets" in basis("mixed_6")


@pytest.mark.parametrize("ready", [True, False])
def test_the_user_is_told_whose_accuracies_are_shown(
    monkeypatch: pytest.MonkeyPatch, ready: bool
) -> None:
    assert nncase.RUN_WITH == ("litert", "xnnpack")
    tool = dataclasses.replace(nncase.tools()[0], missing="" if ready else "Install.")
    monkeypatch.setattr(nncase, "tools", lambda: (tool,))
    said = nncase.notice()
    assert "LiteRT int8 with XNNPACK" in said
    assert ("simulator and ranked by that" in said) == ready
    assert said.startswith(f"Without {tool.name} nothing is run") != ready
    assert "kpu" in nncase.KERNELS


@pytest.mark.parametrize("seed", range(20))
def test_costs_of_random_nets_are_positive_and_add_up(seed: int) -> None:
    cost = nncase.cost(lower(random_architecture(seed)), load_target("k230"))
    assert cost.ram_bytes.value == sum(cost.ram_parts.values())
    assert cost.flash_bytes.value == sum(cost.flash_parts.values()) > nncase.KMODEL_BYTES
    assert 0 < cost.latency_ms.low <= cost.latency_ms.value <= cost.latency_ms.high
    assert cost.macs > 0


def float32_tflite(net: Architecture) -> bytes:
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras
    from tuner.train.convert import convert_tflite

    model = build_keras(net)
    randomize_weights(model, 0)
    return convert_tflite(model, "float32")


def test_measuring_needs_the_float32_build() -> None:
    with pytest.raises(TuneError, match=r"float32 build.*Received: int8"):
        nncase.measure({"int8": b""}, load_target("k230"))


def test_a_net_without_an_image_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    dense = GraphOperator(
        name="logits",
        kind="FULLY_CONNECTED",
        inputs=("features",),
        outputs=("logits",),
        input_shape=(640,),
        output_shape=(4,),
    )
    graph = Graph(
        operators=(dense,), tensors=(), constants=2, inputs=("features",), outputs=("logits",)
    )
    monkeypatch.setattr("tuner.runtimes.tflite_file.parse_graph", lambda data: graph)
    with pytest.raises(TuneError, match=r"one image, rows x columns.*features of shape \(640,\)"):
        nncase.measure({"float32": b"any"}, load_target("k230"))


@pytest.mark.slow
@pytest.mark.parametrize("net", ["convs_64", "mobilenet_v1_025_96", "resnet8_32", "random_1"])
def test_the_table_is_what_the_compiler_gives(net: str) -> None:
    try:
        kmodel.nncase_version()
    except ImportError as error:
        pytest.skip(str(error))
    row = compiled()[net]
    measured = nncase.measure({"float32": float32_tflite(architecture(row))}, load_target("k230"))
    assert measured["latency_ms"].value == pytest.approx(float(row["latency_ms"]), abs=1e-6)
    assert measured["flash_bytes"].value == pytest.approx(int(row["kmodel_bytes"]), rel=0.01)
    assert {quantity.kind for quantity in measured.values()} == {"measured"}
    assert "nncase-kpu 2." in measured["latency_ms"].basis
