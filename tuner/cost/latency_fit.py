"""Fit the latency model to public measurements: `python -m tuner.cost.latency_fit`.

Reads `latency_points.csv`; writes `latency_rates.json` and the table in docs/costs/latency.md.

One group is one core with one kernel library. The logarithm of the cycles that one unit of term t
costs in group g, on core c of class k with kernels l, is

    pooled(t) + class(k) + core(c) + kernels(l) + group(g)          scale
              + class(k, t) + core(c, t) + kernels(l, t) + group(g, t)    shape

each of them normal around 0 with a spread of its own, so a group with many nets goes its own way
and one with few borrows from groups that share its kernels, its core or its class. Convolutions,
1x1 convolutions and dense layers multiply the same kind of matrices, so their effects are
correlated; so are those of both depthwise terms. A point adds a session (one submission: its
board, memory, compiler, version) and noise. The spreads are those of the highest marginal
likelihood (Laplace's approximation; empirical Bayes, see Gelman et al., Bayesian Data Analysis,
chapters 5 and 13); rates are the posterior's mode, found by Gauss and Newton's method, and their
covariance gives the band. Its width in standard deviations is the conformal quantile (Vovk et al.)
of what the left-out nets show.
"""

from __future__ import annotations

import argparse
import csv
import functools
import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.cost.latency import CORE_CLASSES, ELEMENTS, KERNELS, OTHERS, totals, work
from tuner.cost.latency_nets import INVERTED, net
from tuner.cost.lower import GraphOperator
from tuner.spec.target import LATENCY_TERMS as TERMS

Floats = NDArray[np.float64]
Spreads = Mapping[str, float]

POINTS = Path(__file__).with_name("latency_points.csv")
RATES = Path(__file__).with_name("latency_rates.json")
PAGE = Path(__file__).parents[2] / "docs" / "costs" / "latency.md"

TABLE_BEGIN = "<!-- the table below is written by `make latency` -->"
TABLE_END = "<!-- end of the table -->"

PRIOR = np.log(3.0) + np.log([2.0, 1.0, 1.0, 2.5, 2.5, 2.0, 8.0, 4.0, 800.0])
"""Logarithm of cycles before any point, in the order of `TERMS`. The ratios are those of a
microcontroller with packed arithmetic: a dense layer loads a weight for each MAC, a convolution
uses it for two positions; a stem cannot fill its vectors, a depthwise MAC has nothing to share;
requantizing one element and calling one operator as on the RP2040 (pico-tflmicro)."""

SCALE_SPREAD = 3.0
"""Spread of the pooled scale: a factor of 20 either way, that is, hardly known."""

START = {
    "pooled": 1.0, "alike": 0.1, "class": 0.5, "core": 0.8, "kernels": 0.8, "group": 0.1,
    "class_shape": 0.5, "core_shape": 0.5, "kernels_shape": 0.5, "group_shape": 0.1,
    "session": 0.15, "net": 0.1, "mix": 0.1, "layer": 0.2,
}  # fmt: skip
"""Where the search for the spreads starts: standard deviations of logarithms; `alike` is one less
the correlation of terms that work alike."""

MOST_ALIKE = 0.15
"""Upper limit of `alike`: the one net without convolutions (the auto-encoder) and the one with
wide ones (ResNet-8) would else tell nothing of each other when one of them is left out."""

ALIKE = ((1, 2), (1, 5), (2, 5), (3, 4))
"""Pairs of terms that work alike: conv, pointwise, dense; depthwise, depthwise_large."""

COVERAGE = 0.9
LARGE_GROUP_NETS = 8
FLOAT32_PAIRS = 4

EXTRAPOLATED = {
    "cmsis-nn": ("scalar", "dsp", "vector", "other"),
    "esp-nn": ("scalar", "vector", "other"),
    "reference": ("scalar", "dsp", "vector", "application", "other"),
    "xnnpack": ("application", "other"),
}
"""Classes of cores that each kernel library is written for, and `other`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """One measured latency.

    Args:
        core: family of the core; a key of CORE_CLASSES.
        kernels: kernel library, or another engine's name.
        device: the board.
        session: what was measured together: board and engine's version.
        net: what ran, outputs aside: nets that differ only there count as one when left out.
        kind: `net`; `mix`, a net of unknown layers; `layer`, one operator alone.
        counts: what it does of each of `TERMS`.
        log_cycles: logarithm of the clock cycles of all threads.
        note: what the row says of itself.
    """

    core: str
    kernels: str
    device: str
    session: tuple[str, str]
    net: str
    kind: str
    counts: Floats
    log_cycles: float
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Cell:
    """A core (or any core of a class) with its kernels: what rates are fitted for."""

    core: str
    core_class: str
    kernels: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Fit:
    """The posterior.

    Args:
        mode: logarithm of cycles, cells x terms.
        evidence: logarithm of the marginal likelihood, up to a constant.
        covariance: of the mode, flat.
    """

    mode: Floats
    evidence: float
    covariance: Callable[[], Floats]


def read_points(precision: str = "int8") -> list[Point]:
    """The points of one precision, in the file's order."""
    with POINTS.open(newline="", encoding="utf-8") as file:
        return [_point(row) for row in csv.DictReader(file) if row["precision"] == precision]


def _point(row: Mapping[str, str]) -> Point:
    name = row["net"]
    if name == "inverted":
        kind, counts, left_out = "mix", _inverted_mix() * float(row["macs"]), row["model"]
    elif name[0].isupper():
        kind, counts, left_out = "layer", np.array(work(_layer(name))), f"{row['device']} {name}"
        if row["device"] == "RP2040":
            left_out = "mobilenet_v1 0.25 96"
    else:
        kind, counts, left_out = "net", totals(net(name)), " ".join(name.split()[:3])
    cycles = float(row["latency_ms"]) * 1e3 * float(row["clock_mhz"]) * int(row["threads"])
    return Point(
        core=row["core"],
        kernels=row["kernels"],
        device=row["device"],
        session=(row["device"], row["engine"]),
        net=left_out,
        kind=kind,
        counts=counts,
        log_cycles=math.log(cycles),
        note=row["note"],
    )


@functools.cache
def _inverted_mix() -> Floats:
    """The mean mix of inverted-residual nets, for one MAC."""
    mixes = [totals(net(name)) / net(name).macs for name in INVERTED]
    return np.asarray(np.mean(mixes, axis=0), dtype=np.float64)


def _layer(text: str) -> GraphOperator:
    """An operator from `KIND input kernel output`, as `CONV_2D 8x8x16 1x1 8x8x16`."""
    kind, *rest = text.split()
    read, kernel, written = (tuple(int(size) for size in word.split("x")) for word in rest)
    macs = {
        "CONV_2D": math.prod(written) * math.prod(kernel) * read[-1],
        "DEPTHWISE_CONV_2D": math.prod(written) * math.prod(kernel),
        "FULLY_CONNECTED": math.prod(written) * read[-1],
    }.get(kind, 0)
    return GraphOperator(
        name=text, kind=kind, inputs=(), outputs=(), input_shape=read, output_shape=written,
        kernel=(kernel[0], kernel[1]), macs=macs,
    )  # fmt: skip


def cells_of(points: Iterable[Point]) -> list[Cell]:
    """The groups of the points, sorted."""
    groups = sorted({(point.core, point.kernels) for point in points})
    return [
        Cell(core=core, core_class=CORE_CLASSES[core], kernels=kernels) for core, kernels in groups
    ]


def prior_covariance(cells: Sequence[Cell], spreads: Spreads) -> Floats:
    """Covariance of the logarithms of all cells' rates before any point, flat."""
    count = len(TERMS)
    alike = np.eye(count)
    for one, other in ALIKE:
        alike[one, other] = alike[other, one] = 1 - spreads["alike"]
    scale = np.full((len(cells), len(cells)), SCALE_SPREAD**2)
    shape = np.full_like(scale, spreads["pooled"] ** 2)
    for level, names in (
        ("class", [cell.core_class for cell in cells]),
        ("core", [cell.core for cell in cells]),
        ("kernels", [cell.kernels for cell in cells]),
        ("group", [f"{cell.core} {cell.kernels}" for cell in cells]),
    ):
        same = np.array(names)[:, None] == np.array(names)[None, :]
        scale += spreads[level] ** 2 * same
        shape += spreads[f"{level}_shape"] ** 2 * same
    covariance: Floats = np.kron(scale, np.ones((count, count))) + np.kron(shape, alike)
    return covariance


def solve(points: Sequence[Point], cells: Sequence[Cell], spreads: Spreads) -> Fit:
    """The posterior's mode by damped Gauss-Newton steps in the space of the points.

    Args:
        points: the measurements.
        cells: at least the groups of the points; others are extrapolated to.
        spreads: see `START`.
    """
    prior = prior_covariance(cells, spreads)
    index = {(cell.core, cell.kernels): place for place, cell in enumerate(cells)}
    cell_of = np.array([index[point.core, point.kernels] for point in points])
    counts = np.array([point.counts for point in points])
    measured = np.array([point.log_cycles for point in points])
    noise = _noise(points, spreads)
    precision = np.linalg.inv(noise)
    mean = np.tile(PRIOR, len(cells))

    def predict(rates: Floats) -> tuple[Floats, Floats]:
        """Logarithm of cycles, and its slopes."""
        parts = counts * np.exp(rates.reshape(-1, len(TERMS))[cell_of])
        cycles = parts.sum(axis=1)
        slopes = np.zeros((len(points), len(cells), len(TERMS)))
        slopes[np.arange(len(points)), cell_of] = parts / cycles[:, None]
        return np.log(cycles), slopes.reshape(len(points), -1)

    def loss(rates: Floats, weights: Floats) -> float:
        error = measured - predict(rates)[0]
        return float(error @ precision @ error + (rates - mean) @ weights) / 2

    rates, weights = mean, np.zeros(len(mean))
    now = loss(rates, weights)
    for _ in range(60):
        fitted, slopes = predict(rates)
        spread = prior @ slopes.T
        root = np.linalg.cholesky(slopes @ spread + noise)
        residual = measured - fitted + slopes @ (rates - mean)
        pull = np.linalg.solve(root.T, np.linalg.solve(root, residual))
        step = slopes.T @ pull - weights
        length, better = 1.0, now
        while length > 1e-3:
            better = loss(rates + length * (prior @ step), weights + length * step)
            if better <= now + 1e-9:
                break
            length /= 2
        rates, weights = rates + length * (prior @ step), weights + length * step
        settled, now = abs(better - now) < 1e-6, better
        if settled:
            break

    def covariance() -> Floats:
        half = np.linalg.solve(root, spread.T)
        return np.asarray(prior - half.T @ half, dtype=np.float64)

    return Fit(
        mode=rates.reshape(-1, len(TERMS)),
        evidence=-now - float(np.log(np.diag(root)).sum()),
        covariance=covariance,
    )


def _noise(points: Sequence[Point], spreads: Spreads) -> Floats:
    """Covariance of the points' own errors: their session, and noise by kind."""
    names = sorted({point.session for point in points})
    session = np.array([names.index(point.session) for point in points])
    own = np.array([spreads[point.kind] ** 2 for point in points])
    noise: Floats = np.diag(own) + spreads["session"] ** 2 * (session[:, None] == session[None, :])
    return noise


def find_spreads(points: Sequence[Point]) -> dict[str, float]:
    """The spreads of the highest marginal likelihood, by a pattern search on their logarithms.

    A weak prior (normal, around 0.3 within a factor of e) keeps those that few points tell of.
    """
    cells = cells_of(points)
    spreads, best, step = dict(START), likelihood(points, cells, START), 0.5
    while step > 0.04:
        improved = False
        for name in START:
            for factor in (math.exp(step), math.exp(-step)):
                trial = {**spreads, name: spreads[name] * factor}
                trial["alike"] = min(trial["alike"], MOST_ALIKE)
                score = likelihood(points, cells, trial)
                if score > best + 0.01:
                    best, spreads, improved = score, trial, True
                    break
        step = step if improved else step / 2
    return {name: round(value, 4) for name, value in spreads.items()}


def likelihood(points: Sequence[Point], cells: Sequence[Cell], spreads: Spreads) -> float:
    """Logarithm of the marginal likelihood and of the spreads' own prior, up to a constant."""
    own = [value for name, value in spreads.items() if name not in ("alike", "pooled")]
    prior = float(np.sum(np.log(np.array(own) / 0.3) ** 2)) / 2
    return solve(points, cells, spreads).evidence - prior


def leave_out(
    points: Sequence[Point], spreads: Spreads, labels: NDArray[np.str_]
) -> tuple[Floats, Floats]:
    """Predict each point from a fit without those of its label, one label for each point.

    Returns:
        Logarithm of measured over predicted cycles, and its standard deviation by the fit.
    """
    cells = cells_of(points)
    index = {(cell.core, cell.kernels): place for place, cell in enumerate(cells)}
    errors, deviations = np.zeros(len(points)), np.zeros(len(points))
    for name in sorted(set(labels)):
        kept = [point for point, own in zip(points, labels, strict=True) if own != name]
        fit = solve(kept, cells, spreads)
        covariance = fit.covariance()
        for place in np.flatnonzero(labels == name).tolist():
            point = points[place]
            cell = index[point.core, point.kernels]
            parts = point.counts * np.exp(fit.mode[cell])
            shares = parts / parts.sum()
            block = slice(cell * len(TERMS), (cell + 1) * len(TERMS))
            variance = float(shares @ covariance[block, block] @ shares)
            variance += spreads["session"] ** 2 + spreads[point.kind] ** 2
            errors[place] = point.log_cycles - math.log(parts.sum())
            deviations[place] = math.sqrt(variance)
    return errors, deviations


def conformal_quantile(scores: Floats) -> float:
    """The smallest score that `COVERAGE` of exchangeable scores stay below."""
    rank = min(len(scores), math.ceil(COVERAGE * (len(scores) + 1)))
    return float(np.sort(scores)[rank - 1])


def validation(points: Sequence[Point], spreads: Spreads) -> dict[str, Any]:
    """What nets and devices left out show, by group and over all.

    Each band uses the quantile of the other nets' errors only.
    """
    whole = np.array([point.kind != "layer" for point in points])
    labels = {
        "net": np.array([point.net for point in points]),
        "device": np.array([point.device for point in points]),
    }
    error: dict[str, Floats] = {}
    inside: dict[str, NDArray[np.bool_]] = {}
    quantile = 0.0
    for name, own in labels.items():
        logs, deviations = leave_out(points, spreads, own)
        scores = np.abs(logs / deviations)
        error[name] = np.abs(np.expm1(-logs))
        limits = np.array([conformal_quantile(scores[whole & (own != label)]) for label in own])
        inside[name] = scores <= limits
        if name == "net":
            quantile = conformal_quantile(scores[whole])
    keys = np.array([f"{point.core} {point.kernels}" for point in points])
    groups: list[dict[str, Any]] = []
    for cell in cells_of(points):
        rows = whole & (keys == f"{cell.core} {cell.kernels}")
        if rows.any():
            groups.append(
                {
                    "core": cell.core,
                    "kernels": cell.kernels,
                    "nets": len(set(labels["net"][rows])),
                    "rows": int(rows.sum()),
                    **_errors(error, inside, rows),
                }
            )
    large = np.isin(
        keys,
        [f"{row['core']} {row['kernels']}" for row in groups if row["nets"] >= LARGE_GROUP_NETS],
    )
    return {
        "quantile": round(quantile, 4),
        "groups": groups,
        "large": {"rows": int((large & whole).sum()), **_errors(error, inside, large & whole)},
        "all": {"rows": int(whole.sum()), **_errors(error, inside, whole)},
    }


def _errors(
    error: Mapping[str, Floats], inside: Mapping[str, NDArray[np.bool_]], rows: NDArray[np.bool_]
) -> dict[str, float]:
    result = {}
    for name in ("net", "device"):
        values = error[name][rows]
        result[f"{name}_median"] = round(float(np.median(values)), 3)
        result[f"{name}_90"] = round(float(np.quantile(values, 0.9)), 3)
        result[f"{name}_within_35"] = round(float(np.mean(values <= 0.35)), 3)
        result[f"{name}_covered"] = round(float(np.mean(inside[name][rows])), 3)
    return result


def float32_ratios() -> dict[str, dict[str, float]]:
    """Logarithm of float32's latency over int8's, of nets measured in both.

    By class of core where it has `FLOAT32_PAIRS` or more; `other` holds the pairs of all.
    """
    int8 = {(point.session, point.net): point for point in read_points()}
    found: dict[str, list[float]] = {"other": []}
    for point in read_points("float32"):
        twin = int8[point.session, point.net]
        log = point.log_cycles - twin.log_cycles
        found.setdefault(CORE_CLASSES[point.core], []).append(log)
        found["other"].append(log)
    return {
        name: {
            "log_factor": round(float(np.mean(logs)), 4),
            "variance": round(float(np.var(logs, ddof=1) * (1 + 1 / len(logs))), 4),
            "points": len(logs),
        }
        for name, logs in found.items()
        if name == "other" or len(logs) >= FLOAT32_PAIRS
    }


def rates(points: Sequence[Point], spreads: Spreads) -> list[dict[str, Any]]:
    """Rates of each core with kernels that a target may name, and of any core of a class."""
    groups = cells_of(points)
    cells = groups + [
        Cell(core=f"any {name} core", core_class=name, kernels=kernels)
        for kernels, names in EXTRAPOLATED.items()
        for name in names
    ]
    classes = {
        kernels: [name for name in names if name != "other"]
        for kernels, names in EXTRAPOLATED.items()
    }
    measured = {(cell.core, cell.kernels) for cell in groups}
    cells += [
        Cell(core=core, core_class=name, kernels=kernels)
        for kernels, names in classes.items()
        for core, name in sorted(CORE_CLASSES.items())
        if name in names
        and (core, kernels) not in measured
        and any(cell.core == core for cell in groups)
    ]
    fit = solve(points, cells, spreads)
    covariance = fit.covariance()
    entries = []
    for place, cell in enumerate(cells):
        if cell.kernels not in KERNELS:
            continue
        own = [
            point
            for point in points
            if point.kernels == cell.kernels
            and (point.core == cell.core or (cell.core, cell.kernels) not in measured)
        ]
        sizes = np.array([point.counts for point in own if point.kind != "layer"])
        macs = sizes[:, :ELEMENTS].sum(axis=1)
        depth = macs / (sizes[:, ELEMENTS] + sizes[:, OTHERS])
        block = slice(place * len(TERMS), (place + 1) * len(TERMS))
        matrix = covariance[block, block]
        entries.append(
            {
                "core": cell.core,
                "kernels": cell.kernels,
                "measured": (cell.core, cell.kernels) in measured,
                "points": len(sizes),
                "layers": len(own) - len(sizes),
                "notes": sorted({part for point in own for part in _stand_in(point.note)})
                if (cell.core, cell.kernels) in measured
                else [],
                "macs": [float(f"{macs.min():.4g}"), float(f"{macs.max():.4g}")],
                "depth": [float(f"{depth.min():.4g}"), float(f"{depth.max():.4g}")],
                "cycles": [float(f"{value:.5g}") for value in np.exp(fit.mode[place])],
                "covariance": [
                    [round(float(value), 4) for value in matrix[row, : row + 1]]
                    for row in range(len(TERMS))
                ],
            }
        )
    return entries


def _stand_in(note: str) -> list[str]:
    """The part of a note that says that another engine stands in for the kernels."""
    return [part.strip() for part in note.split(";") if "stands in" in part]


def fingerprint() -> str:
    """Of the points that a fit was made from."""
    return hashlib.sha256(POINTS.read_bytes()).hexdigest()


def fit_all(spreads: Spreads) -> dict[str, Any]:
    """Everything that `latency_rates.json` holds."""
    points = read_points()
    checked = validation(points, spreads)
    return {
        "made_by": "python -m tuner.cost.latency_fit",
        "points_sha256": fingerprint(),
        "terms": list(TERMS),
        "spreads": dict(spreads),
        "variance": round(spreads["session"] ** 2 + spreads["net"] ** 2, 5),
        "quantile": checked.pop("quantile"),
        "float32": float32_ratios(),
        "validation": checked,
        "rates": rates(points, spreads),
    }


def table(content: Mapping[str, Any]) -> str:
    """The errors on left-out nets and devices as a Markdown table."""
    lines = [
        "| core | kernels or engine | nets | rows | net left out: median | 90 % of rows | "
        "in band | device left out: median | in band |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    checked = content["validation"]
    named = [(row["core"], row["kernels"], row["nets"], row) for row in checked["groups"]]
    large = f"groups of {LARGE_GROUP_NETS} nets or more"
    named += [
        (f"**{large}**", "", "", checked["large"]),
        ("**all groups**", "", "", checked["all"]),
    ]
    for core, kernels, nets, row in named:
        cells = [
            core, kernels, nets, row["rows"], _percent(row["net_median"]), _percent(row["net_90"]),
            _percent(row["net_covered"]), _percent(row["device_median"]),
            _percent(row["device_covered"]),
        ]  # fmt: skip
        lines.append("| " + " | ".join(str(cell) for cell in cells) + " |")
    return "\n".join(lines)


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %"


def page_with(text: str, content: Mapping[str, Any]) -> str:
    """The page with its table written anew."""
    before, rest = text.split(TABLE_BEGIN)
    after = rest.split(TABLE_END)[1]
    return f"{before}{TABLE_BEGIN}\n\n{table(content)}\n\n{TABLE_END}{after}"


def dumps(content: Mapping[str, Any]) -> str:
    """JSON with one entry of the lists a line."""
    parts = []
    for key, value in content.items():
        if key == "rates":
            rows = ",\n".join(f"    {json.dumps(row)}" for row in value)
            parts.append(f'  "rates": [\n{rows}\n  ]')
        elif key == "validation":
            rows = ",\n".join(f"      {json.dumps(row)}" for row in value["groups"])
            rest = "".join(
                f',\n    "{name}": {json.dumps(value[name])}' for name in ("large", "all")
            )
            parts.append(f'  "validation": {{\n    "groups": [\n{rows}\n    ]{rest}\n  }}')
        else:
            parts.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    return "{\n" + ",\n".join(parts) + "\n}\n"


def main() -> None:
    """Fit, and write the rates and the table."""
    argparse.ArgumentParser(
        prog="python -m tuner.cost.latency_fit", description=main.__doc__
    ).parse_args()
    content = fit_all(find_spreads(read_points()))
    RATES.write_text(dumps(content), encoding="utf-8")
    PAGE.write_text(page_with(PAGE.read_text(encoding="utf-8"), content), encoding="utf-8")
    print(table(content))


if __name__ == "__main__":
    main()
