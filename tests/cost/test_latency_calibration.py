"""What calibrated targets promise of nets that were not measured, and of boards left out."""

from __future__ import annotations

import csv
import itertools
from dataclasses import replace

import numpy as np
import pytest

from tuner.catalog import load_target
from tuner.cost import latency, latency_calibration
from tuner.cost.latency import Rates, estimate_latency, fitted, rates_of
from tuner.cost.latency_calibration import Measured, calibrate
from tuner.cost.latency_fit import POINTS, TERMS, cells_of, read_points, solve
from tuner.cost.latency_nets import net
from tuner.spec import Target

BOARD = load_target("stm32l4r5")
INT8 = read_points()


def measure(names: list[str], factor: float = 1.7) -> list[Measured]:
    """The nets on a board whose latencies are `factor` times the estimates."""
    return [
        Measured(graph=net(name), latency_ms=factor * estimate_latency(net(name), BOARD).value)
        for name in names
    ]


def width(name: str, measured: list[Measured]) -> float:
    """High over low of a net's latency on a board with these measurements."""
    target = replace(BOARD, calibration=calibrate(measured, BOARD, "mine"))
    quantity = estimate_latency(net(name), target)
    assert quantity.basis.startswith("mine")
    return quantity.high / quantity.low


@pytest.mark.parametrize("count", [1, 20])
def test_one_net_tells_little_of_an_unlike_one(count: int) -> None:
    measured = measure(["dscnn"] * count)
    assert width("dscnn", measured) < 1.6
    assert width("autoencoder", measured) > 6


def test_twenty_rows_of_one_net_count_as_one() -> None:
    one, twenty = (calibrate(measure(["dscnn"] * count), BOARD, "mine") for count in (1, 20))
    assert one == twenty


def test_kinds_of_net_that_were_measured_narrow_the_band() -> None:
    nets = ["dscnn", "resnet8", "autoencoder", "mobilenet_v1 0.25 96 3 2"]
    widths = [width("autoencoder", measure(nets[:count])) for count in range(1, 5)]
    assert widths == sorted(widths, reverse=True)
    assert widths[2] < 2


def test_nets_that_contradict_the_rates_widen_the_band() -> None:
    nets = ["dscnn", "resnet8", "mobilenet_v1 0.25 96 3 2"]
    agreeing = measure(nets)
    factors = (0.4, 2.5, 1.0)
    contradicting = [
        replace(item, latency_ms=item.latency_ms * factor)
        for item, factor in zip(agreeing, factors, strict=True)
    ]
    assert width("dscnn", contradicting) > 2 * width("dscnn", agreeing)


def left_out(device: str, core: str, kernels: str) -> Rates:
    """The rates of a core with its kernels, fitted without one device."""
    cells = cells_of(INT8)
    kept = [point for point in INT8 if point.device != device]
    fit = solve(kept, cells, fitted()["spreads"])
    place = [(cell.core, cell.kernels) for cell in cells].index((core, kernels))
    block = slice(place * len(TERMS), (place + 1) * len(TERMS))
    return replace(
        rates_of(replace(BOARD, cpu=core, kernels=kernels)),
        cycles=np.exp(fit.mode[place]),
        covariance=fit.covariance()[block, block],
    )


def test_bands_hold_on_boards_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """With one or two nets of such a board measured, the others lie in the band."""
    boards: dict[tuple[str, str, str, str], dict[str, float]] = {}
    with POINTS.open(newline="", encoding="utf-8") as file:
        for row in csv.DictReader(file):
            whole = row["net"][0].islower() and row["net"] != "inverted"
            if whole and row["precision"] == "int8" and row["kernels"] in latency.KERNELS:
                key = (row["device"], row["core"], row["kernels"], row["engine"])
                cycles = float(row["latency_ms"]) * float(row["clock_mhz"]) * int(row["threads"])
                boards.setdefault(key, {})[row["net"]] = cycles / BOARD.clock_mhz
    # Without the 16 nets on x86-64: they alone would be most of the cases.
    boards = {key: nets for key, nets in boards.items() if 4 <= len(nets) < 16}
    roomy = replace(BOARD.ram_regions[0], size_bytes=10**9, arena_max_bytes=None)
    inside: dict[int, list[bool]] = {1: [], 2: []}
    errors: dict[int, list[float]] = {1: [], 2: []}
    for (device, core, kernels, _), nets in boards.items():
        rates = left_out(device, core, kernels)
        target = replace(BOARD, cpu=core, kernels=kernels, ram_regions=(roomy,))

        def without(_: Target, rates: Rates = rates) -> Rates:
            return rates

        monkeypatch.setattr(latency, "rates_of", without)
        monkeypatch.setattr(latency_calibration, "rates_of", without)
        for count in (1, 2):
            for names in itertools.combinations(nets, count):
                measured = [Measured(graph=net(name), latency_ms=nets[name]) for name in names]
                own = replace(target, calibration=calibrate(measured, target, "mine"))
                for name in nets.keys() - set(names):
                    quantity = estimate_latency(net(name), own)
                    inside[count].append(quantity.low <= nets[name] <= quantity.high)
                    errors[count].append(abs(quantity.value / nets[name] - 1))
        monkeypatch.undo()
    assert len(boards) == 10
    assert [len(values) for values in inside.values()] == [146, 186]
    assert [np.mean(values) for values in inside.values()] == pytest.approx([0.97, 0.95], abs=0.03)
    assert [np.median(values) for values in errors.values()] == pytest.approx(
        [0.08, 0.06], abs=0.03
    )
