"""Known nets beside the candidates of a search."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest

import tuner
from runs_support import make_spec
from tuner.cost.lower import lower
from tuner.dashboard.history import choice_importances
from tuner.engine.baselines import KNOWN_NETS, draw_known_net
from tuner.engine.plan import Plan
from tuner.spec import DatasetSpec, RunSpec, from_plain, to_plain
from untrained_support import untrained  # noqa: F401 - a fixture


def images(side: int, colour: str = "rgb") -> DatasetSpec:
    dataset = make_spec("r").dataset
    return dataclasses.replace(dataset, image_height=side, image_width=side, colour=colour)


@pytest.mark.parametrize(
    ("name", "outputs", "side", "macs", "weights"),
    [
        # Banbury et al., arXiv 2106.07597: 12.5 million of 32x32 rgb in 10 classes; 7.5 million of
        # 96x96 rgb in 2. Weights: 77 k and 208 k without biases and batch normalization.
        ("ResNet-8", 10, 32, 12.5e6, 77_000),
        ("MobileNetV1 0.25", 2, 96, 7.5e6, 208_000),
    ],
)
def test_they_are_as_large_as_published(
    name: str, outputs: int, side: int, macs: float, weights: int
):
    candidate, choices = draw_known_net(name, images(120), outputs)
    assert candidate.preprocessing.height == choices["resolution"] == side
    assert candidate.preprocessing.colour == "rgb"
    graph = lower(candidate.architecture)
    assert graph.macs == pytest.approx(macs, rel=0.01)
    assert sum(item.weights for item in graph.operators) == pytest.approx(weights, rel=0.02)


@pytest.mark.parametrize("name", KNOWN_NETS)
def test_small_and_grey_images_are_read_as_they_are(name: str):
    candidate, _ = draw_known_net(name, images(8, "grey"), 3)
    assert (candidate.preprocessing.height, candidate.preprocessing.colour) == (8, "grey")


def search(name: str, workers: int = 1, **options: Any) -> tuner.Run:
    return tuner.search(
        "raspberry-pi-4", "sample:digits", max_candidates=12, workers=workers, name=name,
        progress=False, **options,
    )  # fmt: skip


@pytest.mark.usefixtures("home", "untrained")
class TestSearch:
    def test_they_are_trained_to_their_end_and_ranked_with_the_others(self):
        run = search("r", baselines=True)
        rows = {row["baseline"]: row for row in run.candidates if row["baseline"]}
        assert rows.keys() == KNOWN_NETS.keys()
        last = max(row["rung"] for row in run.candidates)
        for name, row in rows.items():
            assert (row["status"], row["rung"], row["origin"]) == ("ok", last, "baseline")
            assert row["epochs"] == row["candidate"]["training"]["epochs"]
            assert draw_known_net(name, run.spec.dataset, 10)[0].id == row["id"]
        assert len(run.candidates) == 12
        proposed = [event for event in run.events if event["event"] == "proposed"]
        assert [event["baseline"] for event in proposed[:3]] == [*KNOWN_NETS, ""]
        without = [event for event in run.events if event.get("index", 2) > 1]
        assert choice_importances(run.events, "int8") == choice_importances(without, "int8")
        assert not any(row["baseline"] for row in search("without").candidates)

    def test_one_worker_and_two_give_the_same_board(self):
        boards = [
            [(row["id"], row["accuracy"]) for row in run.candidates]
            for run in (search("one", baselines=True), search("two", 2, baselines=True))
        ]
        assert boards[0] == boards[1]

    def test_it_is_repeated_from_its_run_json(self):
        run = search("r", baselines=True)
        again = tuner.search(config=run.folder / "run.json", name="again", progress=False)
        assert [row["id"] for row in again.candidates] == [row["id"] for row in run.candidates]

    def test_what_has_no_room_is_not_trained_and_says_why(self):
        run = search("r", baselines=True, latency_ms=0.2)
        rows = {row["baseline"]: row for row in run.candidates if row["baseline"]}
        assert rows.keys() == KNOWN_NETS.keys()
        over = [row for row in rows.values() if row["status"] == "over_limit"]
        assert over
        for row in over:
            assert row["reason"].startswith(f"{row['baseline']}: latency ")
            assert row["builds"] == {}
        assert [row["status"] for row in run.candidates[-len(over) :]] == ["over_limit"] * len(over)
        started = {event["index"] for event in run.events if event["event"] == "started"}
        assert len(started) == 12 - len(over)


def test_with_a_clock_their_time_is_added_to_that_of_the_search():
    spec = make_spec("r", budget_seconds=900.0, max_candidates=None, workers=2)
    alone, beside = Plan(spec), Plan(dataclasses.replace(spec, baselines=tuple(KNOWN_NETS)))
    assert beside.search_ends_seconds == pytest.approx(alone.search_ends_seconds)
    assert beside.final_seconds == pytest.approx(alone.final_seconds / 1.5)


def test_runs_of_before_had_none():
    plain = to_plain(make_spec("r"))
    del plain["baselines"]
    assert from_plain(RunSpec, plain, "run.json").baselines == ()
