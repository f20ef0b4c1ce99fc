"""Why a search that has ended has nothing to select; the whole way is in test_python_door.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from runs_support import make_run
from tuner.engine.board import board
from tuner.engine.outcome import best_board
from tuner.errors import TuneError
from tuner.spec import Extension, Throughput
from tuner.store.runs import RunFolder


def told(run: RunFolder) -> str:
    with pytest.raises(TuneError) as error:
        best_board(run, [board(run)])
    return str(error.value)


def test_a_search_that_could_start_nothing(home: Path):
    run = make_run(home, "r", ended=True, budget_seconds=70.0, max_candidates=1)
    assert told(run) == (
        "No candidate of r was trained: opening the data and measuring this machine took 66 of "
        "70 s. That left the search 4 s, and a first candidate is started with 42 s or more. "
        "Search again with --time 220s."
    )


def test_an_extension_that_could_start_nothing(home: Path):
    before = Extension(budget_seconds=30.0, max_candidates=None, elapsed_seconds=46.0, started=(0,))
    run = make_run(
        home, "r", ended=True, budget_seconds=66.0, max_candidates=None, extended=(before,)
    )
    assert "took 20 of 20 s. That left the search 0 s" in told(run)
    assert told(run).endswith("Go on with 'tune extend r --time 40s'.")


def test_a_search_that_was_stopped_before_it_finished_one(home: Path):
    machine = Throughput(compute_ratio=1.0, memory_ratio=1.0, overhead_ratio=1.0)
    clock = {"budget_seconds": 600.0, "max_candidates": None, "throughput": machine}
    run = make_run(home, "r", [12, 15], ended=True, **clock)
    assert told(run).endswith(
        "has the reasons. Finish the best with 'tune extend r --time 300s'; 'tune select r 1' and "
        "'tune retrain' train the best in full."
    )
    without = make_run(home, "s", [12, 15], ended=True)
    assert told(without).endswith(
        "has the reasons. 'tune select s 1' and 'tune retrain' train the best in full."
    )


def test_a_search_whose_candidates_all_failed(home: Path):
    run = make_run(home, "r", [None], ended=True)
    assert told(run) == (
        "No candidate of r was trained to its end; 'tune report r --format json' has the reasons."
    )
