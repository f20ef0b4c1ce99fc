"""The nets behind the public latency points: their MACs are the published ones."""

from __future__ import annotations

import csv

import pytest

from tuner.cost.latency import CORE_CLASSES, TERMS_OF_MACS, totals
from tuner.cost.latency_fit import POINTS, read_points
from tuner.cost.latency_nets import MCUNET, architecture, net
from tuner.errors import SpecError

with POINTS.open(newline="", encoding="utf-8") as file:
    ROWS = list(csv.DictReader(file))
NETS = sorted({row["net"] for row in ROWS if row["net"][0].islower()} - {"inverted"})
PUBLISHED = {
    "resnet8": 12501632, "dscnn": 2656768, "autoencoder": 264192,
    "mobilenet_v1 0.25 96 3 2": 7489664, "mobilenet_v2 1.0 224 3 1000": 300774272,
    "mcunet-in0": 6.4e6, "mcunet-in1": 12.8e6, "mcunet-in2": 67.3e6, "mcunet-in3": 81.8e6,
    "mcunet-in4": 125.9e6, "mobilenet_v2_scaled 0.35 144": 23.5e6, "proxyless 0.3 176": 38.3e6,
}  # fmt: skip
"""Of MLPerf Tiny and keras.applications, counted; of mit-han-lab/mcunet README, rounded there."""


@pytest.mark.parametrize("name", PUBLISHED)
def test_macs_of_published_nets(name: str) -> None:
    # The published figure of ProxylessNAS at width 0.3 is 4 % above that of its blocks.
    tolerance = 0.05 if name.startswith("proxyless") else 0.006 if name in MCUNET else 0.001
    assert net(name).macs == pytest.approx(PUBLISHED[name], rel=tolerance)


@pytest.mark.parametrize("name", NETS)
def test_macs_of_the_points(name: str) -> None:
    for row in ROWS:
        if row["net"] == name:
            assert float(row["macs"]) == pytest.approx(net(name).macs, rel=0.05)


@pytest.mark.parametrize("name", NETS)
def test_every_mac_has_a_term(name: str) -> None:
    assert totals(net(name))[:TERMS_OF_MACS].sum() == net(name).macs


def test_layers_count_the_macs_of_their_row() -> None:
    layers = [row for row in ROWS if row["net"][0].isupper()]
    points = [point for point in read_points() if point.kind == "layer"]
    assert len(layers) == len(points) == 37
    for row, point in zip(layers, points, strict=True):
        assert point.counts[:TERMS_OF_MACS].sum() == float(row["macs"])


def test_every_point_is_whole_and_says_where_it_comes_from() -> None:
    assert len(ROWS) == 314
    for row in ROWS:
        assert row["core"] in CORE_CLASSES
        assert float(row["latency_ms"]) > 0
        assert float(row["clock_mhz"]) > 0
        assert row["threads"] in ("1", "2")
        assert row["precision"] in ("int8", "float32")
        assert (
            row["source"].startswith("github.com/") or row["source"] == "measured by this project"
        )


def test_no_point_is_there_twice() -> None:
    keys = [tuple(row.values()) for row in ROWS]
    assert len(set(keys)) == len(keys)


@pytest.mark.parametrize(
    "name", ["resnet9", "mobilenet_v1 0.25", "mobilenet_v2 1.0 224", "inverted"]
)
def test_a_net_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(SpecError, match=f"Received: '{name}'"):
        architecture(name)
