"""The best of a run, trained again from other seeds."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

import tuner
from tests_support import TOTAL
from tuner.engine import jobs, record, repeats
from tuner.engine.plan import Plan
from tuner.engine.search import SearchRequest, make_proposer, prepare_run
from tuner.errors import InterruptedRunError, SpecError
from tuner.spec import RunSpec, from_plain, to_plain
from untrained_support import untrained  # noqa: F401 - a fixture


def search(name: str, candidates: int = 24, workers: int = 1, **options: Any) -> tuner.Run:
    return tuner.search(
        "raspberry-pi-4", "sample:digits", max_candidates=candidates, workers=workers, name=name,
        progress=False, **options,
    )  # fmt: skip


def outcome(run: tuner.Run) -> list[tuple[Any, ...]]:
    return [
        (row["id"], row["accuracy"], row["standard_error"], row["trainings"], row["repeats"])
        for row in run.candidates
    ]


@pytest.mark.usefixtures("home", "untrained")
class TestUntrained:
    def test_the_best_are_trained_again_and_ranked_by_the_mean(self):
        run = search("r", repeats=3)
        rows = run.candidates
        ended = [row for row in rows if row["status"] == "ok"]
        assert 1 < len(ended) <= record.FINALISTS
        assert {row["trainings"] for row in ended} == {3}
        assert {row["trainings"] for row in rows if row["status"] != "ok"} == {1}
        means = [row["accuracy"]["validation"]["int8"] for row in ended]
        assert means == sorted(means, reverse=True)
        for row in ended:
            shares = [each["int8"] for each in row["repeats"]]
            first = row["builds"]["int8"]["accuracy"]["validation"]["confusion"]
            assert shares[0] == first[0][0] / TOTAL
            assert row["accuracy"]["validation"]["int8"] == pytest.approx(sum(shares) / 3)
            tested = row["builds"]["int8"]["accuracy"]["test"]["confusion"]
            assert row["accuracy"]["test"]["int8"] == tested[0][0] / TOTAL, "of the first training"
        once = search("once")
        assert {row["trainings"] for row in once.candidates} == {1}
        assert {row["id"] for row in once.candidates} == {row["id"] for row in rows}

    def test_each_repeat_goes_the_way_of_the_first_training(self):
        run = search("r", repeats=2)
        started: dict[int, dict[int, int]] = {}
        for event in run.events:
            if event["event"] == "started":
                started.setdefault(event["index"], {})[event["rung"]] = event["epochs"]
        repeated = [event for event in run.events if event["event"] == "repeated"]
        assert repeated
        for event in repeated:
            assert event["repeat"] == 1
            assert event["epochs"] == sum(started[event["index"]].values())
            assert len(started[event["index"]]) > 1

    def test_what_began_anew_is_repeated_from_there(self):
        """`tune clean` took the weights of its rungs before an extension finished it."""
        steps = [(0, -1), (1, 0), (2, -1)]
        events = [
            {"event": "started", "index": 0, "rung": rung, "trained": trained,
             "epochs": 4 + rung, "most_epochs": 9, "seconds": None}
            for rung, trained in steps
        ]  # fmt: skip
        made = repeats._trainings(SimpleNamespace(events=events), 0)
        assert made == [(2, 6, 9, None)]
        del events[2]["trained"]  # a run of an earlier version
        assert [rung for rung, *_ in repeats._trainings(SimpleNamespace(events=events), 0)] == [
            0, 1, 2,
        ]  # fmt: skip

    def test_one_worker_and_two_give_the_same_board(self):
        assert outcome(search("one", repeats=3)) == outcome(search("two", repeats=3, workers=2))

    def test_more_finalists_than_places_are_all_ranked_by_means(self, monkeypatch):
        """Means that fall put others in front, which are trained again before the run ends."""
        monkeypatch.setattr(repeats, "FINALISTS", 1)
        run = search("r", repeats=4)
        assert run.candidates[0]["trainings"] == 4

    def test_a_run_that_was_stopped_goes_on_with_what_is_missing(self):
        whole = search("whole", repeats=3)

        def stop(event: Any) -> None:
            if event["event"] == "repeated" and event["repeat"] == 2:
                raise KeyboardInterrupt

        with pytest.raises(InterruptedRunError):
            search("stopped", repeats=3, on_event=stop)
        run = tuner.resume("stopped", progress=False)
        assert outcome(run) == outcome(whole)
        done = [
            (event["index"], event["repeat"])
            for event in run.events
            if event["event"] == "repeated"
        ]
        assert len(done) == len(set(done))

    def test_it_is_repeated_from_its_run_json(self):
        run = search("r", candidates=5, repeats=2)
        again = tuner.search(config=run.folder / "run.json", name="again", progress=False)
        assert again.spec.repeats == 2
        assert outcome(again) == outcome(run)


def test_a_repeat_with_the_first_seed_gives_what_the_first_training_gave(home: Path):
    """So the others differ by their seed alone: the same rungs, epochs and conversion."""
    request = SearchRequest(targets=("nano33ble",), data="sample:digits", max_candidates=8)
    run = prepare_run(request)
    spec = run.spec()
    proposal = make_proposer(spec, Plan(spec)).propose([], frozenset())
    assert proposal is not None
    folder, plain = run.candidate(proposal.candidate.id), to_plain(proposal.candidate)
    jobs.train_candidate(to_plain(spec), folder, plain, 0, -1, 1, 1, None, False, ())
    first = jobs.train_candidate(to_plain(spec), folder, plain, 1, 0, 2, 2, None, True, ())
    files = {path for path in folder.iterdir() if path.name != "rung0"}
    trainings = [(0, 1, 1, None), (1, 2, None, None)]
    same = jobs.repeat_candidate(to_plain(spec), folder, plain, 0, trainings)
    other = jobs.repeat_candidate(to_plain(spec), folder, plain, 1, trainings)
    assert same["accuracy"] == {
        key: build["accuracy"]["validation"] for key, build in first["builds"].items()
    }
    assert same["epochs"] == other["epochs"] == 3
    assert other["accuracy"] != same["accuracy"]
    assert {path for path in folder.iterdir() if path.name != "rung0"} == files


def test_a_run_needs_at_least_one_training(home: Path):
    run = prepare_run(SearchRequest(targets=("nano33ble",), data="sample:digits", max_candidates=1))
    plain = json.loads((run.path / "run.json").read_text())
    with pytest.raises(SpecError, match=r"repeats of 1 or more\. Received: repeats=0"):
        from_plain(RunSpec, {**plain, "repeats": 0}, "run.json")
    del plain["repeats"]
    older = from_plain(RunSpec, plain, "run.json")
    assert dataclasses.replace(older, repeats=2).repeats == 2
    assert older.repeats == 1, "of runs of before"
