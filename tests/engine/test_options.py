"""The options of a search, from a command line, a file or Python."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path

import pytest

from runs_support import make_run
from tuner import catalog
from tuner.engine.options import read_extension, read_request
from tuner.engine.search import SearchRequest, prepare_run, request_again, versions
from tuner.errors import DataError, InputError, SpecError
from tuner.spec import Limits, RunSpec


def ask(config: Path | None = None, **given: object) -> SearchRequest:
    return read_request(given, where="here", config=config)[0]


def test_words_become_what_the_search_wants():
    request = ask(target="k230", data="x", time="1h30m", ram_kb=2, rank_by="int8", space="auto")
    assert request == SearchRequest(
        targets=("k230",),
        data="x",
        budget_seconds=5400.0,
        limits=Limits(ram_bytes=2048),
        rank_by="int8",
        spaces=("auto",),
    )


def test_without_data_the_sample_is_used_and_said():
    request, notes = read_request({"target": ["k230", "rp2040"]}, where="here")
    assert request.targets == ("k230", "rp2040")
    assert request.data == "sample:parts"
    assert notes == ["No --data given: using sample:parts, generated images."]


def test_a_target_may_be_given_as_data():
    mine = dataclasses.replace(catalog.load_target("k230"), name="mine")
    request, _ = read_request({"data": "x", "target": "k230"}, where="here", targets=(mine,))
    assert request.targets == ("k230", mine)


def test_options_of_a_file_give_way_to_those_given(tmp_path: Path):
    config = tmp_path / "search.toml"
    config.write_text('target = "k230"\ndata = "x"\ntime = "5m"\nseed = 3\nram_kb = 100\n')
    request = ask(config, time="1m", flash_kb=50.0)
    assert (request.targets, request.budget_seconds, request.seed) == (("k230",), 60.0, 3)
    assert request.limits == Limits(ram_bytes=102_400, flash_bytes=51_200)


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("tme = '5m'", "search.toml: unknown field 'tme'. Did you mean 'time'?"),
        ("max-candidates = 5", "unknown field 'max-candidates'. Did you mean 'max_candidates'?"),
        (
            "time = 5",
            "search.toml: time: expected a text such as '60s', '20m' or '1h30m'. Received: 5",
        ),
        ("seed = 'x'", "search.toml: seed: expected a whole number. Received: 'x'"),
        ("rank_by = 'best'", "rank_by: expected one of 'target', 'int8', 'float32'"),
        ("seed = ", "search.toml is not TOML"),
        ("repeats = 0", "Expected a number of 1 or more for --repeats. Received: 0."),
        ("workers = 0", "Expected a number of 1 or more for --workers. Received: 0."),
        ("seed = -1", "Expected a number of 0 or more for --seed. Received: -1."),
        ("ram_kb = inf", "Expected a number above 0 for --ram-kb. Received: inf."),
        ("time = 'soon'", "Expected a time such as 90s, 20m, 1h30m or 7d for --time"),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, line: str, words: str):
    config = tmp_path / "search.toml"
    config.write_text(f"target = 'k230'\ndata = 'x'\n{line}\n")
    with pytest.raises(InputError) as error:
        ask(config)
    assert words in str(error.value)


def test_no_target_gets_the_known_ones():
    with pytest.raises(InputError, match=r"Expected --target: the device.*Known: alif-e7"):
        ask(data="x")


def test_a_missing_file_is_named(tmp_path: Path):
    with pytest.raises(SpecError, match="there is none"):
        ask(tmp_path / "none.toml")
    with pytest.raises(SpecError, match="there is none"):
        ask(tmp_path / "run.json")


def test_what_a_run_is_extended_by():
    assert read_extension("10m", None) == (600.0, None)
    assert read_extension(None, 5) == (None, 5)
    with pytest.raises(InputError, match="1 or more for --max-candidates"):
        read_extension(None, 0)


def test_a_run_is_repeated_from_its_file(home: Path):
    first = prepare_run(
        SearchRequest(
            targets=("nano33ble",), data="sample:digits", limits=Limits(ram_bytes=50_000),
            max_candidates=4, workers=3, seed=5, name="first",
        )
    )  # fmt: skip
    again = prepare_run(ask(first.path / "run.json", name="again"))

    def what(spec: RunSpec) -> RunSpec:
        return dataclasses.replace(spec, name="", created="")

    assert what(again.spec()) == what(first.spec())
    assert request_again(first.spec()).targets[0].limits.ram_bytes == 50_000
    other = ask(first.path / "run.json", max_candidates=9, target="k230", workers=6)
    assert (other.max_candidates, other.targets, other.window) == (9, ("k230",), 4)


def test_a_run_is_not_repeated_on_other_data_unless_told(home: Path):
    config = make_run(home, "old", budget_seconds=60.0).path / "run.json"
    with pytest.raises(DataError) as error:
        prepare_run(ask(config))
    assert "expected the fingerprint f. Received:" in str(error.value)
    assert "give --data sample:digits to search on what is there now" in str(error.value)
    assert prepare_run(ask(config, data="sample:digits", name="new")).spec().budget_seconds == 60.0


def test_other_versions_are_said(home: Path):
    made_with = {**versions(), "numpy": "0.1"}
    config = make_run(home, "old", versions=made_with).path / "run.json"
    notes = read_request({}, where="here", config=config)[1]
    assert len(notes) == 1
    assert notes[0].startswith("old was made with numpy 0.1 (here ")
    assert "results may differ" in notes[0]


def test_a_search_space_file_that_is_named_again_is_read_again(home: Path):
    space = home / "vision.json"
    block = {
        "inputBlocks": [{"type": "image", "dimension": [[32, 32]]}],
        "dspBlocks": [{"type": "image", "channels": ["RGB"]}],
        "learnBlocks": [[{"type": "keras-transfer-image", "model": "transfer_mobilenetv2_a1"}]],
    }
    space.write_text(json.dumps([block]))
    first = prepare_run(
        ask(target="k230", data="sample:digits", space=(str(space),), max_candidates=2, name="a")
    )
    changed = [{**block, "inputBlocks": [{"type": "image", "dimension": [[32, 32], [48, 48]]}]}]
    space.write_text(json.dumps(changed))
    config = first.path / "run.json"
    assert prepare_run(ask(config, name="b")).spec().space_files == {"vision.json": [block]}
    again = prepare_run(ask(config, space=("vision.json",), name="c"))
    assert again.spec().space_files == {"vision.json": changed}
