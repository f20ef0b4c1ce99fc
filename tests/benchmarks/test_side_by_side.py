"""The side-by-side: its space and limits, what is kept of a run, and the report."""

from __future__ import annotations

import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.side_by_side import referee, report
from benchmarks.side_by_side.protocol import (
    ARENA_LIMIT_BYTES,
    CONTEXT,
    FILE_LIMIT_BYTES,
    PICKS,
    RUN,
    TARGET,
    Data,
    Recorder,
    read_lines,
)
from benchmarks.side_by_side.referee import lasting
from benchmarks.side_by_side.run import run_tool, score_again
from benchmarks.side_by_side.search_spaces import bench_stages
from benchmarks.side_by_side.tool_ours import Watcher
from tuner import catalog
from tuner.cost.arena import HOST_64, plan_arena
from tuner.cost.fit import check_limits
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.runtimes import tflm
from tuner.spec import to_plain


def test_what_the_target_lets_through_keeps_the_referees_limits() -> None:
    target = catalog.load_target(str(TARGET))
    fitting = 0
    for seed in range(300):
        graph = lower(bench_stages.draw(RandomChoices(seed), CONTEXT).architecture)
        if check_limits(tflm.cost(graph, target), target.model_limits).fits:
            fitting += 1
            assert plan_arena(graph, structs=HOST_64).total_bytes <= ARENA_LIMIT_BYTES
            assert model_file_bytes(graph).high <= FILE_LIMIT_BYTES
    assert 100 < fitting < 300


def test_choices_replay_to_the_same_net() -> None:
    names = set()
    for seed in range(30):
        choices = RandomChoices(seed)
        candidate = bench_stages.draw(choices, CONTEXT)
        assert bench_stages.draw(TableChoices(choices.taken), CONTEXT) == candidate
        names.add(frozenset(choices.taken))
    assert len(names) == 1  # one shape for all draws


def test_each_starting_point_fits_in_some_size() -> None:
    target = catalog.load_target(str(TARGET))
    for point in bench_stages.starting_points(CONTEXT):
        graphs = (
            lower(bench_stages.draw(TableChoices(size), CONTEXT).architecture)
            for size in point.sizes
        )
        assert any(
            check_limits(tflm.cost(graph, target), target.model_limits).fits for graph in graphs
        ), point.name


def test_recorder_keeps_what_is_better(tmp_path: Path) -> None:
    recorder = Recorder(tmp_path)
    for score in (0.3, 0.2, 0.3, 0.5):
        recorder.pick(score, ".txt", lambda path, score=score: path.write_text(str(score)))
    picks = read_lines(tmp_path / PICKS)
    assert [pick["score"] for pick in picks] == [0.3, 0.5]
    assert (tmp_path / picks[1]["file"]).read_text() == "0.5"


def test_a_torn_line_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "lines").write_text('{"at": 1}\n{"at"')
    assert read_lines(tmp_path / "lines") == [{"at": 1}]
    assert read_lines(tmp_path / "none") == []


def test_watcher_copies_each_new_best(tmp_path: Path) -> None:
    run = tmp_path / "run"
    pixels = {"height": 16, "scaling": "signed"}
    events: list[dict[str, Any]] = [
        {"event": "proposed", "index": 0, "id": "ca", "candidate": {"preprocessing": pixels}},
        {"event": "proposed", "index": 1, "id": "cb", "candidate": {"preprocessing": pixels}},
        {"event": "started", "index": 0, "rung": 0},
        {"event": "started", "index": 1, "rung": 0},
    ]
    for index, name, correct in ((0, "ca", 6), (1, "cb", 5), (1, "cb", 8)):
        folder = run / "candidates" / name
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "int8.tflite").write_text(name)
        confusion = [[correct, 10 - correct], [0, 0]]
        build = {
            "artifact": "int8.tflite",
            "accuracy": {"validation": {"confusion": confusion}},
        }
        events.append({"event": "rung", "index": index, "builds": {"int8": build}})
    text = "".join(json.dumps(event) + "\n" for event in events)
    log = run / "events.jsonl"
    watcher = Watcher(run, Recorder(tmp_path))
    watcher.look()  # before there is a log
    log.write_text(text[:-20])
    watcher.look()
    assert [pick["score"] for pick in read_lines(tmp_path / PICKS)] == [0.6]
    log.write_text(text)
    watcher.look()
    picks = read_lines(tmp_path / PICKS)
    assert [pick["score"] for pick in picks] == [0.6, 0.8]
    assert (tmp_path / picks[1]["file"]).read_text() == "cb"
    assert len(read_lines(tmp_path / "trials.jsonl")) == 2


def test_picks_that_lived_shortly_are_passed_over() -> None:
    picks = [{"seconds": seconds} for seconds in (10.0, 11.0, 30.0, 34.0)]
    assert [pick["seconds"] for pick in lasting(picks, 500.0)] == [11.0, 34.0]


def test_calibration_images_are_of_all_classes(tmp_path: Path) -> None:
    labels = np.repeat(np.arange(10), 80)  # class after class, as CIFAR-10 is read
    images = np.zeros((len(labels), 2, 2, 3), np.uint8) + labels[:, None, None, None].astype("u1")
    np.savez(Data(tmp_path).split(0), x=images, y=labels)
    taken = referee.calibration_images(Data(tmp_path), 0)[:, 0, 0, 0]
    assert np.bincount(taken).tolist() == [20] * 10


def test_what_was_converted_is_judged_by_its_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    candidate = bench_stages.draw(RandomChoices(0), CONTEXT)
    trial = {"candidate": to_plain(candidate)}
    monkeypatch.setattr(referee, "_is_over", lambda model: model == b"too large")
    assert not referee.over_limit(tmp_path, Data(tmp_path), 0, trial), "by the cost model"
    made = tmp_path / "home" / "runs" / RUN / "candidates" / candidate.id / "rung0"
    made.mkdir(parents=True)
    (made / "int8.tflite").write_bytes(b"too large")
    assert referee.over_limit(tmp_path, Data(tmp_path), 0, trial)


def _record(tool: str, seed: int, *curve: tuple[float, float | None]) -> report.Record:
    """A run whose picks have these times and accuracies; None does not fit."""
    points = [
        {"seconds": seconds, "feasible": accuracy is not None, "accuracy": accuracy}
        for seconds, accuracy in curve
    ]
    return {
        "tool": tool,
        "seed": seed,
        "settings": {"seconds": 600.0, "cores": 2},
        "machine": {
            "cpu": "made up", "cores": 2, "memory_bytes": 2**34, "system": "Linux", "python": "3",
        },
        "versions": {"keras": "3.15.1"},
        "peak_memory_bytes": 500_000_000,
        "trained": 10,
        "refused": 3,
        "trained_over_limit": 1,
        "curve": points,
        "final": points[-1] if points else None,
    }  # fmt: skip


def test_an_infeasible_last_pick_scores_nothing() -> None:
    record = _record("optuna", 0, (50.0, 0.4), (90.0, None))
    assert report.accuracy_at(record, 49.0) is None
    assert report.best_feasible(record) == 0.4
    assert report.final_score(record) == 0.0
    assert report.final_score(_record("optuna", 0)) is None


def test_passing_means_staying_there() -> None:
    record = _record("ours", 0, (20.0, 0.5), (30.0, 0.45), (40.0, None), (60.0, 0.51), (90.0, 0.6))
    assert report.passes(record, 0.5) == 60.0
    assert report.passes(record, 0.4) == 20.0
    assert report.passes(record, 0.7) is None
    assert report.median([10.0, None, 30.0]) == 30.0
    assert report.median([10.0, None, None]) is None


@pytest.fixture
def results(tmp_path: Path) -> Path:
    records = [
        _record("optuna", 0, (100.0, 0.50), (500.0, 0.52)),
        _record("optuna", 1, (100.0, 0.48), (500.0, 0.54)),
        _record("autokeras", 0, (100.0, None)),
        _record("ours", 0, (20.0, 0.40), (50.0, 0.55), (550.0, 0.70)),
        _record("ours", 1, (20.0, 0.40), (70.0, 0.60), (550.0, 0.74)),
    ]
    for record in records:
        path = tmp_path / f"{record['tool']}-{record['seed']}.json"
        path.write_text(json.dumps(record))
    return tmp_path


def test_the_report_compares_medians(results: Path) -> None:
    text = report.report(report.load(results))
    assert "10 minutes a run, 2 cores of made up" in text
    assert "| Optuna and fit | 2 | 53.0 (52.0 to 54.0) | 53.0 (52.0 to 54.0) | 10 | 3 |" in text
    assert "| 2 of 20 |" in text
    assert "| AutoKeras | 1 | none | 0.0 |" in text
    assert "| Optuna and fit | 53.0 | 60 (50, 70) | 0.10 | +19.0 |" in text
    assert "| AutoKeras | no feasible pick |" in text


def test_the_picture_has_a_line_for_each_tool_with_a_feasible_pick(results: Path) -> None:
    root = ElementTree.fromstring(report.svg(report.load(results)))
    space = "{http://www.w3.org/2000/svg}"
    assert len(root.findall(f"{space}polyline")) == 2
    words = {item.text for item in root.iter(f"{space}text")}
    assert {"Optuna and fit", "AutoKeras", "tune", "10 min"} <= words


def test_results_go_between_the_marks(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(f"before\n{report.BEGIN}\nold\n{report.END}\nafter\n")
    report.fill(page, "new\n")
    assert page.read_text() == f"before\n{report.BEGIN}\nnew\n{report.END}\nafter\n"
    page.write_text("no marks\n")
    with pytest.raises(SystemExit, match="Expected one"):
        report.fill(page, "new\n")


@pytest.mark.slow
def test_a_run_leaves_its_json(tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    generator = np.random.default_rng(0)
    data = tmp_path / "data"
    data.mkdir()
    labels = np.arange(200, dtype=np.int64) % 10
    images = generator.integers(0, 256, (200, 32, 32, 3), dtype=np.uint8)
    tests = generator.integers(0, 256, (50, 32, 32, 3), dtype=np.uint8)
    np.savez(data / "cifar10.npz", x=images, y=labels, x_test=tests, y_test=labels[:50])
    run_tool("optuna", 0, 40.0, tmp_path, data)
    record = json.loads((tmp_path / "optuna-0.json").read_text())
    assert record["trained"] >= 1
    assert record["final"]["feasible"]
    assert 0.0 <= record["final"]["accuracy"] <= 1.0
    assert record["final"]["arena_bytes"] <= ARENA_LIMIT_BYTES
    assert record["peak_memory_bytes"] > 50_000_000
    before = (tmp_path / "optuna-0.json").stat().st_mtime_ns
    run_tool("optuna", 0, 40.0, tmp_path, data)
    assert (tmp_path / "optuna-0.json").stat().st_mtime_ns == before
    report.report(report.load(tmp_path))
    score_again(tmp_path / "optuna-0.json", data)
    assert json.loads((tmp_path / "optuna-0.json").read_text()) == record
