"""The latency rates against public points: fitted again, and checked on models left out.

`latency_points.csv` holds the points. Its `use`: `fit` (its group has several models: left out
one by one), `single` (the only one of its group), `hint` (another engine), `shape` (another core).
"""

from __future__ import annotations

import csv
import itertools
from collections import defaultdict
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pytest

from tuner.cost.latency import CYCLES_PER_OPERATOR, RATES, Rate, Work, core_of, work_of
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
)

MACS = {"ic": 12501632, "kws": 2656768, "vww": 7489664, "ad": 264192}
"""Of the four models of MLPerf Tiny (github.com/mlcommons/tiny), by their published layers."""

BLOCKS = [(64, 1), (128, 2), (128, 1), (256, 2), (256, 1), (512, 2), *[(512, 1)] * 5,
          (1024, 2), (1024, 1)]  # fmt: skip

# Milliseconds of the 13 + 13 convolutions after the first, and the first, of person_detection on
# the RP2040 at 125 MHz, one core (github.com/raspberrypi/pico-tflmicro, benchmark_results.txt).
RP2040_DEPTHWISE_MS = [60.270, 29.554, 57.453, 14.471, 27.611, 7.013, 15.268, 12.980, 13.015,
                       12.987, 12.986, 3.519, 5.959]  # fmt: skip
RP2040_POINTWISE_MS = [46.264, 31.129, 47.209, 23.856, 40.094, 21.395, 38.805, 38.766, 38.739,
                       38.784, 38.744, 23.982, 45.617]  # fmt: skip
RP2040_MHZ = 125.0


class Point(NamedTuple):
    core: str
    kernels: str
    model: str
    cycles: float
    macs: int
    use: str
    engine: str


def conv(kernel_area: int, inputs: int, side_area: int, filters: int) -> Work:
    written = side_area * filters
    return Work(kind="conv", macs=kernel_area * inputs * written, elements=written)


def depthwise(kernel_area: int, side_area: int, channels: int) -> Work:
    written = side_area * channels
    return Work(kind="depthwise", macs=kernel_area * written, elements=written)


def dense(widths: list[int]) -> list[Work]:
    return [
        Work(kind="dense", macs=reads * writes, elements=writes)
        for reads, writes in itertools.pairwise(widths)
    ]


def other(elements: int) -> Work:
    return Work(kind="other", macs=0, elements=elements)


def mobilenet_v1(alpha: float, side: int, channels: int, outputs: int) -> list[Work]:
    side = -(-side // 2)
    width = int(32 * alpha)
    work = [conv(9, channels, side**2, width)]
    for filters, stride in BLOCKS:
        side = -(-side // stride)
        work += [depthwise(9, side**2, width)]
        work += [conv(1, width, side**2, int(filters * alpha))]
        width = int(filters * alpha)
    return [*work, other(width * side**2), *dense([width, outputs])]


def works() -> dict[str, list[Work]]:
    """ResNet-8, DS-CNN, MobileNetV1 0.25 and the auto-encoder of MLPerf Tiny, and more."""
    ic = [conv(9, 3, 1024, 16), conv(9, 16, 1024, 16), conv(9, 16, 1024, 16), other(16 * 1024)]
    for inputs, filters, area in ((16, 32, 256), (32, 64, 64)):
        ic += [conv(9, inputs, area, filters), conv(9, filters, area, filters)]
        ic += [conv(1, inputs, area, filters), other(filters * area)]
    kws = [conv(40, 1, 125, 64)]
    for _ in range(4):
        kws += [depthwise(9, 125, 64), conv(1, 64, 125, 64)]
    return {
        "ic": [*ic, other(64 * 64), *dense([64, 10])],
        "kws": [*kws, other(64 * 125), *dense([64, 12])],
        "vww": mobilenet_v1(0.25, 96, 3, 2),
        "ad": dense([640, *[128] * 4, 8, *[128] * 4, 640]),
        "person_detection": mobilenet_v1(0.25, 96, 1, 2),
        "MobileNetV1-0.5 224": mobilenet_v1(0.5, 224, 3, 2),
        "MobileNetV1-0.25 224 flowers": mobilenet_v1(0.25, 224, 3, 5),
        "MobileNetV1-0.5 224 flowers": mobilenet_v1(0.5, 224, 3, 5),
        "MobileNetV1-0.25 96x96x3 flowers": mobilenet_v1(0.25, 96, 3, 5),
    }


WORKS = works()
# Nets whose layers are not published with their MACs: the mix of MobileNetV2 0.35 at 128x128,
# counted with keras.applications, in shares of its MACs.
MIX = {"conv": 0.8514, "depthwise": 0.1482, "dense": 0.0004, "elements": 0.0518, "operators": 64}


def points() -> list[Point]:
    with (Path(__file__).parent / "latency_points.csv").open(newline="") as file:
        return [
            Point(
                core_of(row["cpu"]), row["kernels"], row["model"],
                float(row["latency_ms"]) * float(row["clock_mhz"]) * 1e3, int(row["macs"]),
                row["use"], row["engine"],
            )
            for row in csv.DictReader(file)
        ]  # fmt: skip


POINTS = points()


def features(point: Point) -> tuple[np.ndarray, int]:
    """MACs of conv, depthwise and dense, elements; and the number of operators."""
    if point.model not in WORKS:
        keys = ("conv", "depthwise", "dense", "elements")
        return np.array([MIX[key] * point.macs for key in keys]), int(MIX["operators"])
    work = WORKS[point.model]
    macs = [sum(row.macs for row in work if row.kind == kind) for kind in
            ("conv", "depthwise", "dense")]  # fmt: skip
    return np.array([*macs, sum(row.elements for row in work)], float), len(work)


def vector(rate: Rate) -> np.ndarray:
    return np.array([rate.conv, rate.depthwise, rate.dense, rate.element])


def predict(point: Point, rates: np.ndarray) -> float:
    counts, operators = features(point)
    rate = RATES.get((point.core, point.kernels))
    return float(counts @ rates) + (rate.operator if rate else CYCLES_PER_OPERATOR) * operators


def fit(rows: list[Point], weight: float) -> dict[str, np.ndarray]:
    """One shape for all cores, a scale for each; least squares of log(cycles).

    `weight` draws the shape to that of the RP2040's layers (1 : 4.2 : 1 : 11).
    """
    cores = sorted({row.core for row in rows})
    prior = np.log([4.2, 1.0, 11.0])
    measured = np.log([row.cycles for row in rows])

    def residuals(parameters: np.ndarray) -> np.ndarray:
        shape = np.exp(np.r_[0.0, parameters[len(cores) :]])
        fitted = [predict(row, np.exp(parameters[cores.index(row.core)]) * shape) for row in rows]
        pull = np.sqrt(weight) * (parameters[len(cores) :] - prior)
        return np.r_[np.log(fitted) - measured, pull]

    parameters = np.r_[np.ones(len(cores)), prior]
    for _ in range(30):  # Gauss-Newton with numeric derivatives; it settles in under ten steps
        now = residuals(parameters)
        slopes = np.stack(
            [(residuals(parameters + step) - now) / 1e-6 for step in np.eye(len(parameters)) * 1e-6]
        ).T
        parameters = parameters - np.linalg.lstsq(slopes, now, rcond=None)[0]
    shape = np.exp(np.r_[0.0, parameters[len(cores) :]])
    return {core: np.exp(parameters[index]) * shape for index, core in enumerate(cores)}


def fit_group(rows: list[Point]) -> dict[tuple[str, str], np.ndarray]:
    """Rates of the groups that have several models, as the table's were made."""
    dsp = fit([row for row in rows if row.core in ("cortex-m4", "cortex-m33")], weight=0.1)
    shape = dsp["cortex-m4"] / dsp["cortex-m4"][0]
    m7 = [row for row in rows if row.core == "cortex-m7"]
    scale = np.exp(np.mean([np.log(row.cycles / predict(row, shape)) for row in m7]))
    a72 = fit([row for row in rows if row.core == "cortex-a72"], weight=0.3)
    x86 = fit([row for row in rows if row.core == "x86-64"], weight=0.3)
    return {
        ("cortex-m4", "cmsis-nn"): dsp["cortex-m4"],
        ("cortex-m33", "cmsis-nn"): dsp["cortex-m33"],
        ("cortex-m7", "cmsis-nn"): scale * shape,
        ("cortex-a72", "xnnpack"): a72["cortex-a72"],
        ("x86-64", "xnnpack"): x86["x86-64"],
    }


FIT_POINTS = [point for point in POINTS if point.use == "fit"]


@pytest.mark.parametrize("model", sorted(MACS))
def test_macs_of_the_benchmark_models(model: str) -> None:
    assert sum(row.macs for row in WORKS[model]) == MACS[model]


def test_the_table_is_what_the_fit_gives() -> None:
    for key, rates in fit_group(FIT_POINTS).items():
        np.testing.assert_allclose(vector(RATES[key]), rates, rtol=0.01, err_msg=str(key))


def left_out_ratios() -> dict[tuple[str, str], list[tuple[str, str, float]]]:
    """Measured / predicted for each point, its model left out of the fit."""
    ratios = defaultdict(list)
    for model in sorted({point.model for point in FIT_POINTS}):
        rates = fit_group([point for point in FIT_POINTS if point.model != model])
        for point in FIT_POINTS:
            if point.model == model:
                key = (point.core, point.kernels)
                ratio = point.cycles / predict(point, rates[key])
                ratios[key].append((model, point.engine, ratio))
    return ratios


def test_points_lie_in_their_band_when_their_model_is_left_out() -> None:
    rows = [(key, row) for key, rows in left_out_ratios().items() for row in rows]
    inside = [RATES[key].low <= ratio <= RATES[key].high for key, (_, _, ratio) in rows]
    assert len(rows) == 33
    assert np.mean(inside) >= 0.9, [row for row, ok in zip(rows, inside, strict=True) if not ok]


@pytest.mark.parametrize(
    "point", [point for point in POINTS if point.use in ("single", "hint")], ids=str
)
def test_single_points_and_hints_lie_in_the_band(point: Point) -> None:
    rate = RATES[(point.core, point.kernels)]
    assert rate.low <= point.cycles / predict(point, vector(rate)) <= rate.high


def test_single_points_are_met_closely() -> None:
    for point in POINTS:
        if point.use == "single":
            predicted = predict(point, vector(RATES[(point.core, point.kernels)]))
            assert point.cycles / predicted == pytest.approx(1.0, abs=0.06), point


def test_layers_of_the_rp2040() -> None:
    rate = RATES[("cortex-m0+", "cmsis-nn")]
    layers = WORKS["person_detection"]
    for kind, measured in (("depthwise", RP2040_DEPTHWISE_MS), ("conv", RP2040_POINTWISE_MS)):
        work = [row for row in layers if row.kind == kind][-13:]
        ratios = [
            milliseconds * RP2040_MHZ * 1e3 / rate.cycles([row])
            for row, milliseconds in zip(work, measured, strict=True)
        ]
        assert min(ratios) >= rate.low
        assert max(ratios) <= rate.high


def test_the_shape_of_xnnpack_holds_on_another_core() -> None:
    rate = RATES[("cortex-a72", "xnnpack")]
    ratios = [
        point.cycles / predict(point, vector(rate)) for point in POINTS if point.use == "shape"
    ]
    assert len(ratios) == 3
    assert max(ratios) / min(ratios) < 1.1


def test_an_architecture_gives_the_same_work_as_the_published_layers() -> None:
    nodes = [Node(name="image", op=Input(height=96, width=96, channels=3))]

    def add(name: str, operator: Conv2D | DepthwiseConv2D | GlobalAveragePool2D | Dense) -> None:
        nodes.append(Node(name=name, op=operator, inputs=(nodes[-1].name,)))

    add("stem", Conv2D(filters=8, stride=2))
    for index, (filters, stride) in enumerate(BLOCKS):
        add(f"depthwise{index}", DepthwiseConv2D(stride=stride))
        add(f"pointwise{index}", Conv2D(filters=filters // 4, kernel=1))
    add("pool", GlobalAveragePool2D())
    add("logits", Dense(units=2))
    net = Architecture(nodes=tuple(nodes), outputs=("logits",))
    assert work_of(net) == WORKS["vww"]


if __name__ == "__main__":
    for group, rates in fit_group(FIT_POINTS).items():
        print(group, rates.round(3))
    for group, rows in left_out_ratios().items():
        print(group, [(model, engine[:12], round(ratio, 2)) for model, engine, ratio in rows])
