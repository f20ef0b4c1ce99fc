"""More budget for a run: what its files say afterwards."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs_support import make_run
from tuner.engine import search
from tuner.engine.search import SearchRequest, extend_run, prepare_run
from tuner.errors import DataError, InputError, LockedError
from tuner.spec import Extension
from tuner.store.lock import locked
from tuner.store.runs import RunFolder


def prepared(name: str, **budget: float) -> RunFolder:
    request = SearchRequest(targets=("nano33ble",), data="sample:digits", name=name, **budget)
    return prepare_run(request)


def log(folder: RunFolder, *events: dict[str, object]) -> None:
    with folder.open_log() as writer:
        for event in events:
            writer.append(**event)


def test_candidates_are_added_and_the_event_is_noted(home: Path):
    folder = prepared("r", max_candidates=9)
    steps = [{"event": "proposed", "index": index} for index in range(9)]
    promoted = [{"event": "promoted", "index": 0, "rung": rung} for rung in (1, 2)]
    log(folder, *steps, *promoted, {"event": "ended", "elapsed": 70.5})
    before = folder.spec()
    assert folder.state() == "ended"
    spec = extend_run(folder, None, 4)
    assert spec == folder.spec()
    assert (spec.max_candidates, spec.budget_seconds) == (13, None)
    assert spec.extended == (
        Extension(budget_seconds=None, max_candidates=9, elapsed_seconds=70.5, started=(9, 1, 1)),
    )
    assert (spec.targets, spec.seed, spec.created) == (before.targets, before.seed, before.created)
    event = folder.events()[-1]
    assert (event["event"], event["max_candidates"], event["elapsed"]) == ("extended", 13, 70.5)
    assert folder.state() == "interrupted", "tune resume goes on with it, too"
    assert extend_run(folder, None, 2).max_candidates == 15


@pytest.mark.parametrize(("elapsed", "budget"), [(200.0, 660.0), (640.0, 700.0)])
def test_time_is_added_to_what_was_left_or_to_what_was_used(
    home: Path, elapsed: float, budget: float
):
    folder = prepared("r", budget_seconds=600.0, max_candidates=5)
    log(folder, {"event": "interrupted", "elapsed": elapsed})
    spec = extend_run(folder, 60.0, None)
    assert (spec.budget_seconds, spec.max_candidates) == (budget, None)


def test_what_cannot_be_extended_stays_as_it_is(home: Path):
    folder = prepared("r", max_candidates=5)
    before = (folder.path / "run.json").read_bytes()
    with pytest.raises(InputError, match=r"Expected --time or --max-candidates.*neither"):
        extend_run(folder, None, None)
    with locked(folder.lock, "r"), pytest.raises(LockedError, match="worked on"):
        extend_run(folder, 60.0, None)
    assert (folder.path / "run.json").read_bytes() == before
    other = make_run(home, "other data")
    with pytest.raises(DataError, match="changed since this run began"):
        extend_run(other, 60.0, None)
    assert other.spec().extended == ()


def test_a_search_goes_on_while_its_data_is_read(home: Path, monkeypatch: pytest.MonkeyPatch):
    folder = prepared("r", max_candidates=1)

    def look(_: RunFolder) -> None:
        assert folder.state() == "running"
        raise DataError("looked")

    monkeypatch.setattr(search, "_open_data_of", look)
    with pytest.raises(DataError, match="looked"):
        search.run_search(folder, observer=None)
    assert folder.state() == "interrupted"


def test_a_start_that_is_interrupted_leaves_nothing(home: Path, monkeypatch: pytest.MonkeyPatch):
    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(search, "keep_with_run", interrupted)
    with pytest.raises(KeyboardInterrupt):
        prepared("r", max_candidates=1)
    assert not (home / "runs" / "r").exists()
