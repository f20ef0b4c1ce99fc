"""Figures of a board, as plotly objects."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from report_support import made_up_run
from tuner.dashboard.figures import (
    GROUPS,
    cost_figure,
    curve_figure,
    history_figure,
    importance_figure,
)
from tuner.dashboard.history import best_so_far, choice_importances
from tuner.engine.board import Board, board
from tuner.store.runs import RunFolder


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_up_run(tmp_path_factory.mktemp("runs") / "parts", 60)


@pytest.fixture(scope="module")
def ranked(folder: RunFolder) -> Board:
    return board(folder)


@pytest.mark.parametrize("cost", ["ram_bytes", "flash_bytes", "latency_ms"])
def test_each_scored_candidate_is_a_point_of_its_group(ranked: Board, cost: str) -> None:
    figure = cost_figure(ranked, cost)
    traces = {trace.meta: trace for trace in figure.data}
    scored = [row for row in ranked.rows if row.result.accuracy("int8")]
    assert sum(len(traces[group].x) for group in GROUPS) == len(scored)
    assert len(traces["over"].x) == sum(not row.fits for row in scored) > 0
    scale = 1 if cost == "latency_ms" else 1024
    best = next(row for row in scored if row.result.status == "ok" and row.fits)
    at = [text.split(": ")[1] for text in traces["ok"].text].index(best.result.candidate.id)
    value = getattr(best.result.costs["nano33ble"], cost).value
    assert traces["ok"].x[at] == pytest.approx(value / scale)
    assert traces["ok"].y[at] == pytest.approx(100 * best.result.accuracy("int8").value)
    assert "int8 validation" in figure.layout.yaxis.title.text


def test_the_limit_is_a_line_where_it_is_near(ranked: Board) -> None:
    near = cost_figure(ranked, "ram_bytes")
    limit = ranked.target.model_limits.ram_bytes
    assert [shape.x0 for shape in near.layout.shapes] == [limit / 1024]
    assert not cost_figure(ranked, "latency_ms").layout.shapes  # the target has no such limit


def test_the_test_split_has_only_what_was_tested(ranked: Board) -> None:
    figure = cost_figure(ranked, split="test")
    points = sum(len(trace.x) for trace in figure.data if trace.meta in GROUPS)
    assert points == sum(row.result.status == "ok" for row in ranked.rows)


def test_best_so_far_rises_in_time_order(folder: RunFolder, ranked: Board) -> None:
    scored = best_so_far(ranked, folder.events(), "int8")
    assert [item.elapsed_seconds for item in scored] == sorted(
        item.elapsed_seconds for item in scored
    )
    for before, after in itertools.pairwise(scored):
        assert after.best == max(before.best, after.accuracy)
    fits = {row.result.candidate.id for row in ranked.rows if row.fits}
    assert {item.candidate_id for item in scored} <= fits
    figure = history_figure(scored)
    assert figure.data[1].y[-1] == pytest.approx(
        100 * max(item.accuracy for item in scored), abs=1e-3
    )


def test_what_raises_the_accuracy_is_important(folder: RunFolder) -> None:
    shares = choice_importances(folder.events(), "int8")
    assert next(iter(shares)) == "resolution"  # made so
    assert "space" not in shares  # there is one
    figure = importance_figure(shares)
    assert figure.data[0].y[-1] == "resolution"
    assert len(figure.data[0].y) == 12


def test_names_cannot_be_markup() -> None:
    assert list(importance_figure({"<b>": 1.0}).data[0].y) == ["&lt;b&gt;"]


def test_a_curve_marks_where_rungs_ended() -> None:
    figure = curve_figure((0.25, 0.5, 0.75), (2, 3))
    assert list(figure.data[0].x) == [1, 2, 3]
    assert list(figure.data[0].y) == [25, 50, 75]
    assert list(figure.data[1].x) == [2, 3]
    assert list(figure.data[1].y) == [50, 75]


def test_what_the_runtime_refuses_is_not_the_best_so_far(folder: RunFolder, ranked: Board) -> None:
    builds = next(event["builds"] for event in folder.events() if event.get("builds"))
    for refused in ([], ["not in nncase: TILE"]):
        costs = {ranked.target.name: {"over": [], "refused": refused}}
        events = [
            {"event": "proposed", "index": 10_000, "id": "in work", "costs": costs},
            {"event": "rung", "index": 10_000, "elapsed": 1.0, "builds": builds},
        ]
        assert len(best_so_far(ranked, events, "int8")) == (0 if refused else 1)


def test_nothing_to_draw(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "empty", 0)
    ranked = board(folder)
    assert all(not trace.x for trace in cost_figure(ranked).data)
    assert best_so_far(ranked, folder.events(), "int8") == []
    assert choice_importances(folder.events(), "int8") == {}
