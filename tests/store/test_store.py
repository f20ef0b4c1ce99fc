from __future__ import annotations

import json
import multiprocessing
import os
from pathlib import Path

import pytest

from tests_support import make_result, quantity
from tuner.errors import InputError, LockedError, SpecError, UnknownNameError
from tuner.spec import Excess, to_plain
from tuner.store.events import EventLog, read_events
from tuner.store.files import read_json, write_atomic, write_json
from tuner.store.lock import locked
from tuner.store.runs import check_name, find_run, fold_results, new_run


def test_torn_last_line_is_dropped_and_cut(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    with EventLog(path) as log:
        log.append("opened", elapsed=0.0)
        log.append("proposed", index=0)
    whole = path.read_bytes()
    for cut in range(1, 20):
        path.write_bytes(whole[:-cut])
        assert [event["event"] for event in read_events(path)] == ["opened"]
    with EventLog(path) as log:
        log.append("resumed")
    assert [event["event"] for event in read_events(path)] == ["opened", "resumed"]


def test_a_damaged_line_is_named(tmp_path: Path):
    path = tmp_path / "events.jsonl"
    path.write_text('{"event":"opened"}\nscribble\n{"event":"ended"}\n')
    with pytest.raises(
        SpecError, match=r"line 2: expected an event as JSON. Received: b'scribble'"
    ):
        read_events(path)


def test_no_log_means_no_events(tmp_path: Path):
    assert read_events(tmp_path / "none.jsonl") == []


def test_write_atomic_replaces_and_leaves_no_temporary(tmp_path: Path):
    path = tmp_path / "a" / "b.json"
    write_json(path, {"x": 1})
    write_json(path, {"x": 2})
    assert read_json(path) == {"x": 2}
    assert [item.name for item in path.parent.iterdir()] == ["b.json"]


def test_write_atomic_keeps_the_old_file_when_writing_fails(tmp_path: Path, monkeypatch):
    path = tmp_path / "a.txt"
    write_atomic(path, "old")

    def fail(*arguments: object) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", fail)
    with pytest.raises(OSError, match="disk full"):
        write_atomic(path, "new")
    assert path.read_text() == "old"
    assert len(list(tmp_path.iterdir())) == 1


def test_read_json_says_what_is_wrong(tmp_path: Path):
    with pytest.raises(SpecError, match="there is none"):
        read_json(tmp_path / "x.json")
    (tmp_path / "x.json").write_text("{")
    with pytest.raises(SpecError, match="cannot be read as JSON"):
        read_json(tmp_path / "x.json")


def _hold(path: Path, ready, release) -> None:
    with locked(path, "the run"):
        ready.set()
        release.wait(10)


def test_second_holder_is_refused_and_told_who_holds(tmp_path: Path):
    context = multiprocessing.get_context("spawn")
    ready, release = context.Event(), context.Event()
    holder = context.Process(target=_hold, args=(tmp_path / "run.lock", ready, release))
    holder.start()
    try:
        assert ready.wait(30)
        with (
            pytest.raises(LockedError, match=rf"pid {holder.pid}"),
            locked(tmp_path / "run.lock", "The run 'x'"),
        ):
            pass
    finally:
        release.set()
        holder.join()
    with locked(tmp_path / "run.lock", "The run 'x'"):
        pass


def test_run_names(home: Path):
    assert new_run(None, "k230", "2026-11-21T05:00:00+00:00").name == "k230-20261121050000"
    (home / "runs" / "mine").mkdir(parents=True)
    (home / "runs" / "mine" / "run.json").touch()
    with pytest.raises(InputError, match="tune resume mine"):
        new_run("mine", "k230", "x")
    for bad in ("../x", "", "a/b", "latest", ".hidden"):
        with pytest.raises(InputError, match="Expected a run name of letters"):
            check_name("run", bad)


def test_unknown_run_gets_close_matches(home: Path):
    for name in ("parts-k230", "digits"):
        path = home / "runs" / name
        path.mkdir(parents=True)
        (path / "run.json").write_text(json.dumps({}))
    with pytest.raises(UnknownNameError, match="Did you mean 'digits'"):
        find_run("digit")
    assert find_run("latest").name == "digits"


def test_what_was_measured_stands_beside_the_estimate_and_can_exceed_a_limit():
    made = make_result(0, correct=5)
    excess = Excess(limit="ram_bytes", needed=3000.0, allowed=2000.0)
    events = [
        {
            "event": "proposed", "index": 0, "origin": "test",
            "candidate": to_plain(made.candidate), "costs": to_plain(made.costs),
        },
        {"event": "finished", "index": 0, "status": "ok", "builds": to_plain(made.builds)},
        {
            "event": "measured", "index": 0, "over": {"board": [to_plain(excess)]},
            "measured": {"board": {"ram_bytes": to_plain(quantity(3000.0))}},
        },
    ]  # fmt: skip
    before, after = fold_results(events[:2])[0], fold_results(events)[0]
    assert before.costs["board"].fits
    assert not after.costs["board"].fits
    assert after.costs["board"].ram_bytes == before.costs["board"].ram_bytes
    assert after.measured["board"]["ram_bytes"].value == 3000.0


def test_an_event_without_its_proposal_is_named():
    with pytest.raises(SpecError, match="the proposal of candidate 3 before the event 'finished'"):
        fold_results([{"event": "finished", "index": 3, "status": "failed", "reason": "none"}])


def test_a_folder_that_is_no_run_is_not_said_to_be_one(home: Path):
    (home / "runs" / "big").mkdir(parents=True)
    with pytest.raises(InputError, match=r"big exists and is no run.* or remove that folder"):
        new_run("big", "nano33ble", "2026-01-02T03:04:05.000+00:00")
