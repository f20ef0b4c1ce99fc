"""Draw the numbers of a run with plotly, the only module that imports it.

Colours are those of Okabe and Ito ("Color Universal Design", jfly.uni-koeln.de), which people
with a colour vision deficiency tell apart; shapes differ too. Backgrounds are transparent, so
that a figure sits on light and on dark pages.
"""

from __future__ import annotations

import html
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Literal

from tuner.cost.fit import format_bytes
from tuner.rank.order import shown_accuracy
from tuner.rank.pareto import pareto_front

if TYPE_CHECKING:
    import plotly.graph_objects as go

    from tuner.dashboard.history import Scored
    from tuner.engine.board import Board
    from tuner.rank.order import Ranked
    from tuner.spec import RankBy

CostName = Literal["ram_bytes", "flash_bytes", "latency_ms"]
COST_NAMES: tuple[CostName, ...] = ("ram_bytes", "flash_bytes", "latency_ms")

BLUE, GREEN, VERMILLION, GREY = "#0072B2", "#009E73", "#D55E00", "#999999"

GROUPS: Mapping[str, tuple[str, str, str]] = {
    "ok": ("trained to the end", BLUE, "circle"),
    "stopped": ("stopped at a rung", GREEN, "diamond-open"),
    "over": ("does not fit", GREY, "x-thin-open"),
}
"""Groups of points: label, colour and shape."""

_AXES: Mapping[str, tuple[str, float]] = {
    "ram_bytes": ("RAM, KB", 1024.0),
    "flash_bytes": ("flash, KB", 1024.0),
    "latency_ms": ("latency, ms", 1.0),
}
"""Title of the axis, and what a figure is divided by."""

LOG_RATIO = 20.0
"""An axis whose largest value is so many times the smallest is logarithmic."""

_LOG_TICKS = [step * 10.0**power for power in range(-3, 8) for step in (1, 2, 5)]

LIMIT_SHOWN_RATIO = 3.0
"""A limit so many times the largest value is named, but the axis does not reach it."""

MOST_CHOICES = 12
"""So many choices are drawn, the most important ones."""


def plotly_script() -> str:
    """The text of plotly.js as the package carries it."""
    from plotly.offline import get_plotlyjs

    return str(get_plotlyjs())


def group_of(row: Ranked) -> str:
    """The key of `GROUPS` that a row belongs to."""
    if not row.fits:
        return "over"
    return "ok" if row.result.status == "ok" else "stopped"


def front_ranks(board: Board, cost: CostName, split: str, precision: RankBy) -> list[int]:
    """Ranks of the Pareto front of what fits, by ascending cost."""
    points = [point for point in _points(board, cost, split, precision) if point[0].fits]
    front = pareto_front([(spent, accuracy) for _, spent, accuracy in points])
    return [points[position][0].rank for position in front]


def empty_cost_figure(board: Board, cost: CostName) -> go.Figure:
    """Axes, limit and traces of `cost_figure`, without points.

    Each trace's `meta` is a key of `GROUPS`, or `front`; the layout's `meta` holds the `scale`
    that costs are divided by.
    """
    import plotly.graph_objects as go

    title, scale = _AXES[cost]
    name = board.target.name
    costs = [
        getattr(row.result.costs[name], cost).value / scale
        for row in board.rows
        if name in row.result.costs
    ]
    axis: dict[str, Any] = {"title": {"text": title}, "rangemode": "tozero"}
    if costs and max(costs) > LOG_RATIO * max(min(costs), 1e-9):
        axis |= {"type": "log", "rangemode": "normal", "tickvals": _LOG_TICKS}
    limit = getattr(board.target.model_limits, cost)
    shown = None
    if limit is not None:
        words = f"{limit:g} ms" if cost == "latency_ms" else format_bytes(limit)
        if costs and limit / scale <= LIMIT_SHOWN_RATIO * max(costs):
            shown = limit / scale
            axis["autorangeoptions"] = {"include": [shown]}
        axis["title"]["text"] += f" (limit {words}{'' if shown is None else ', dashed'})"
    figure = go.Figure(
        layout=_layout(
            xaxis=axis,
            yaxis={"title": {"text": "accuracy, %"}},
            hovermode="closest",
            meta={"scale": scale},
        )
    )
    if shown is not None:
        figure.add_vline(x=shown, line={"dash": "dash", "width": 1.5, "color": VERMILLION})
    for group, (label, colour, symbol) in reversed(list(GROUPS.items())):
        figure.add_scatter(
            mode="markers",
            name=label,
            meta=group,
            marker={
                "color": colour,
                "symbol": symbol,
                "size": 9,
                "line": {"width": 1.5 if symbol.endswith("open") else 0},
            },
            hovertemplate="%{text}<br>%{x:.4~g}, %{y:.1f} %<extra></extra>",
        )
    figure.add_scatter(
        mode="lines",
        name="Pareto front",
        meta="front",
        line={"color": VERMILLION, "width": 1.5, "shape": "hv"},
        hoverinfo="skip",
    )
    return figure


def cost_figure(
    board: Board,
    cost: CostName = "ram_bytes",
    *,
    split: str = "validation",
    precision: RankBy = "int8",
) -> go.Figure:
    """Accuracy against what a candidate costs on the board's target, with limit and Pareto front.

    Args:
        board: the ranked candidates.
        cost: on the x axis, as estimated; what fits is decided by the high end of the estimate
            for RAM and flash, so that a point below the limit may not fit.
        split: `validation` or `test`.
        precision: of the builds.
    """
    figure = empty_cost_figure(board, cost)
    figure.update_yaxes(title_text=f"{precision} {split} accuracy, %")
    scale = figure.layout.meta["scale"]
    points = _points(board, cost, split, precision)
    by_rank = {point[0].rank: point for point in points}
    for trace in figure.data:
        if trace.meta == "front":
            members = [by_rank[rank] for rank in front_ranks(board, cost, split, precision)]
        else:
            members = [point for point in points if group_of(point[0]) == trace.meta]
        trace.update(
            x=[spent / scale for _, spent, _ in members],
            y=[100.0 * accuracy for _, _, accuracy in members],
            text=[f"{row.rank}: {row.result.candidate.id}" for row, _, _ in members],
        )
    return figure


def history_figure(scored: Sequence[Scored]) -> go.Figure:
    """Validation accuracies as they became known, and the best so far."""
    import plotly.graph_objects as go

    # Rounded to what can be seen: a page carries thousands of points.
    minutes = [round(item.elapsed_seconds / 60.0, 3) for item in scored]
    figure = go.Figure(
        layout=_layout(
            xaxis={"title": {"text": "time, minutes"}, "rangemode": "tozero"},
            yaxis={"title": {"text": "validation accuracy, %"}},
            hovermode="closest",
        )
    )
    figure.add_scatter(
        x=minutes,
        y=[round(100.0 * item.accuracy, 3) for item in scored],
        text=[item.candidate_id for item in scored],
        mode="markers",
        name="one candidate, one rung",
        marker={"color": GREEN, "symbol": "diamond-open", "size": 7},
        hovertemplate="%{text}<br>%{x:.1f} min, %{y:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=minutes,
        y=[round(100.0 * item.best, 3) for item in scored],
        mode="lines",
        name="best so far",
        line={"color": BLUE, "width": 2, "shape": "hv"},
        hoverinfo="skip",
    )
    return figure


def importance_figure(importances: Mapping[str, float]) -> go.Figure:
    """Horizontal bars of the most important choices, the largest on top."""
    import plotly.graph_objects as go

    shown = sorted(importances.items(), key=lambda item: -item[1])[:MOST_CHOICES][::-1]
    figure = go.Figure(
        layout=_layout(
            xaxis={"title": {"text": "share of the importance, %"}, "rangemode": "tozero"},
            yaxis={"automargin": True},
            showlegend=False,
        )
    )
    figure.add_bar(
        x=[100.0 * share for _, share in shown],
        y=[html.escape(name) for name, _ in shown],
        orientation="h",
        marker={"color": BLUE},
        hovertemplate="%{y}: %{x:.0f} %<extra></extra>",
    )
    return figure


def curve_figure(curve: Sequence[float], rung_epochs: Sequence[int] = ()) -> go.Figure:
    """Validation accuracy (float32) after each epoch.

    Args:
        curve: shares of correct images, 0 to 1.
        rung_epochs: the epochs, counted from 1, at which a rung ended.
    """
    import plotly.graph_objects as go

    figure = go.Figure(
        layout=_layout(
            xaxis={"title": {"text": "epoch"}, "rangemode": "tozero"},
            yaxis={"title": {"text": "float32 validation accuracy, %"}},
            hovermode="closest",
        )
    )
    figure.add_scatter(
        x=list(range(1, len(curve) + 1)),
        y=[100.0 * accuracy for accuracy in curve],
        mode="lines+markers",
        name="after each epoch",
        meta="curve",
        line={"color": BLUE, "width": 2},
        marker={"size": 4},
        hovertemplate="epoch %{x}: %{y:.1f} %<extra></extra>",
    )
    figure.add_scatter(
        x=list(rung_epochs),
        y=[100.0 * curve[epoch - 1] for epoch in rung_epochs],
        mode="markers",
        name="a rung ended",
        meta="rungs",
        marker={"color": VERMILLION, "symbol": "diamond", "size": 10},
        hoverinfo="skip",
    )
    return figure


def _layout(**settings: Any) -> dict[str, Any]:
    """What all figures share."""
    return {
        "template": "none",
        "paper_bgcolor": "rgba(0,0,0,0)",
        "plot_bgcolor": "rgba(0,0,0,0)",
        "margin": {"l": 56, "r": 16, "t": 8, "b": 48},
        "legend": {"orientation": "h", "x": 0, "y": 1.02, "yanchor": "bottom"},
        **settings,
    }


def _points(
    board: Board, cost: CostName, split: str, precision: RankBy
) -> list[tuple[Ranked, float, float]]:
    """The rows that have both, each with its cost and its accuracy."""
    name = board.target.name
    return [
        (row, float(getattr(row.result.costs[name], cost).value), share)
        for row in board.rows
        if name in row.result.costs
        and (share := shown_accuracy(row.result, precision, split)) is not None
    ]
