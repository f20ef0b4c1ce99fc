"""The fit of the latency rates: what it promises of left-out nets, and that it is not stale."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tuner.catalog import load_target
from tuner.cost.latency import CORE_CLASSES, estimate_latency, fitted
from tuner.cost.latency_fit import (
    PAGE,
    RATES,
    Cell,
    cells_of,
    conformal_quantile,
    dumps,
    fingerprint,
    fit_all,
    float32_ratios,
    likelihood,
    page_with,
    prior_covariance,
    read_points,
    solve,
)
from tuner.cost.latency_nets import net

POINTS = read_points()


@pytest.fixture(scope="module")
def again() -> dict[str, Any]:
    """All of the fit with the spreads that the file holds."""
    return fit_all(fitted()["spreads"])


def close(one: Any, other: Any) -> None:
    """Equal but for the last digits that a processor's arithmetic leaves open."""
    if isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            close(one[key], other[key])
    elif isinstance(one, list):
        assert len(one) == len(other)
        for first, second in zip(one, other, strict=True):
            close(first, second)
    elif isinstance(one, float):
        assert one == pytest.approx(other, rel=0.01, abs=0.004)
    else:
        assert one == other


def test_rates_and_errors_are_those_of_the_points(again: dict[str, Any]) -> None:
    assert fitted()["points_sha256"] == fingerprint(), "run make latency"
    close(fitted(), again)


def test_the_file_is_as_the_fit_writes_it() -> None:
    assert RATES.read_text(encoding="utf-8") == dumps(fitted())


def test_the_table_of_the_page_is_that_of_the_rates() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert text == page_with(text, fitted()), "run make latency"


def test_groups_of_many_nets_are_met_when_a_net_is_left_out(again: dict[str, Any]) -> None:
    large = again["validation"]["large"]
    assert large["rows"] >= 70
    assert large["net_median"] <= 0.15
    assert large["net_within_35"] >= 0.9


def test_the_bands_hold_what_they_say(again: dict[str, Any]) -> None:
    everything = again["validation"]["all"]
    assert everything["rows"] >= 250
    assert 0.85 <= everything["net_covered"] <= 0.95
    assert 0.85 <= everything["device_covered"] <= 0.95


def test_the_spreads_are_at_a_maximum_of_the_likelihood() -> None:
    cells, spreads = cells_of(POINTS), fitted()["spreads"]

    best = likelihood(POINTS, cells, spreads)
    for name in ("core", "kernels_shape", "session", "net"):
        for factor in (0.7, 1.4):
            assert likelihood(POINTS, cells, {**spreads, name: spreads[name] * factor}) < best


def test_a_group_with_few_points_borrows_from_its_neighbours() -> None:
    """Without its own points, Cortex-M33 with CMSIS-NN stays near what its neighbours say."""
    kept = [point for point in POINTS if (point.core, point.kernels) != ("cortex-m33", "cmsis-nn")]
    cells = cells_of(POINTS)
    place = [(cell.core, cell.kernels) for cell in cells].index(("cortex-m33", "cmsis-nn"))
    spreads = fitted()["spreads"]
    borrowed, own = (solve(points, cells, spreads) for points in (kept, POINTS))
    counts = next(point.counts for point in POINTS if point.net == "dscnn")
    ratio = (counts @ np.exp(borrowed.mode[place])) / (counts @ np.exp(own.mode[place]))
    assert 0.6 < ratio < 1.6

    def variance(covariance: np.ndarray) -> float:
        block = slice(place * len(counts), (place + 1) * len(counts))
        return float(np.trace(covariance[block, block]))

    assert variance(borrowed.covariance()) > variance(own.covariance())


def test_the_fit_finds_rates_that_it_was_given() -> None:
    """Synthetic cycles of one group from known rates are predicted within their noise."""
    generator = np.random.default_rng(0)
    nets = [point for point in POINTS if point.core == "cortex-m7" and point.kind == "net"]
    truth = np.exp(generator.normal(1.0, 0.3, len(nets[0].counts)))
    made = [
        replace(
            point,
            kernels="cmsis-nn",
            session=("board", "engine"),
            log_cycles=float(np.log(point.counts @ truth) + generator.normal(0, 0.02)),
        )
        for point in nets
    ]
    spreads = {**fitted()["spreads"], "net": 0.02, "session": 0.02}
    fit = solve(made, cells_of(made), spreads)
    found = np.array([point.counts @ np.exp(fit.mode[0]) for point in made])
    wanted = np.array([point.counts @ truth for point in made])
    np.testing.assert_allclose(found, wanted, rtol=0.06)


def test_prior_covariance_is_one() -> None:
    cells = [
        Cell(core=core, core_class=CORE_CLASSES[core], kernels=kernels)
        for core in ("cortex-m4", "cortex-m7", "x86-64")
        for kernels in ("cmsis-nn", "xnnpack")
    ]
    matrix = prior_covariance(cells, fitted()["spreads"])
    assert np.linalg.eigvalsh(matrix).min() > 0
    terms = len(matrix) // len(cells)
    alike, unlike = matrix[0, 2 * terms], matrix[0, 4 * terms]
    assert matrix[0, 0] > alike > unlike


def test_conformal_quantile_counts_the_next_one() -> None:
    assert conformal_quantile(np.arange(1.0, 20.0)) == 18.0  # the 18th of 19: 0.9 of 20
    assert conformal_quantile(np.array([3.0, 1.0])) == 3.0


def test_float32_ratios_need_four_pairs_of_a_class() -> None:
    ratios = float32_ratios()
    assert "scalar" not in ratios  # two pairs, of an RH850
    assert all(row["points"] >= 4 and row["log_factor"] > 0 for row in ratios.values())


def test_the_rates_meet_the_rp2040_that_they_were_fitted_to() -> None:
    """In-sample: the net's figure, and those of its layers, are among the points."""
    target = load_target("rp2040")
    graph = net("mobilenet_v1 0.25 96 1 2")
    latency = estimate_latency(graph, target)
    assert latency.low < 782 < latency.high  # raspberrypi/pico-tflmicro, benchmark_results.txt
    assert latency.value == pytest.approx(782, rel=0.1)
