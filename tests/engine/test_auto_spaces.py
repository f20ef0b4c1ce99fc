"""Which spaces a search draws from."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

from tuner import catalog
from tuner.engine import search
from tuner.engine.plan import Plan
from tuner.errors import InputError, UnknownNameError
from tuner.spec import Context, DatasetSpec, RunSpec, from_plain, to_plain

DATASET = DatasetSpec(
    source="made up",
    fingerprint="0",
    classes=("a", "b", "c"),
    counts={"training": 10, "validation": 5, "test": 5},
    image_height=128,
    image_width=128,
    colour="rgb",
    split_seed=0,
)


def contexts(*targets: str, side: int = 128) -> Mapping[str, Context]:
    dataset = dataclasses.replace(DATASET, image_height=side, image_width=side)
    loaded = [catalog.load_target(target) for target in targets]
    return search._contexts(loaded, dataset, "classification")


def test_contexts_hold_what_the_devices_have() -> None:
    made = contexts("nano33ble", "k230")
    assert made["nano33ble"].limits.ram_bytes == 262144 - 48 * 1024
    assert not made["nano33ble"].accelerated
    assert made["k230"].accelerated
    assert {item.outputs for item in made.values()} == {3}


def test_auto_takes_the_spaces_that_suit_one_of_the_targets(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(search, "AUTO_SPACES", ("mixed_stages", "wide_mobile"))
    small, both = contexts("nano33ble"), contexts("nano33ble", "k230")
    assert search._load_spaces((), small) == ("mixed_stages",)
    assert search._load_spaces(("auto",), both) == ("mixed_stages", "wide_mobile")
    assert search._load_spaces((), contexts("k230", side=48)) == ("mixed_stages",)
    assert search._load_spaces(("wide_mobile",), small) == ("wide_mobile",), "asked for by name"
    assert search._load_spaces(("residual", "auto", "residual"), both) == (
        "residual",
        "mixed_stages",
        "wide_mobile",
    )


def test_where_no_space_suits_auto_takes_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(search, "AUTO_SPACES", ("wide_mobile",))
    assert search._load_spaces((), contexts("nano33ble")) == ("wide_mobile",)


VISION = [
    {
        "inputBlocks": [{"type": "image", "dimension": [[32, 32], [96, 96]]}],
        "dspBlocks": [{"type": "image", "channels": ["RGB"]}],
        "learnBlocks": [[{"type": "keras-transfer-image", "model": "transfer_mobilenetv2_a1"}]],
    }
]


def test_a_search_space_file_is_kept_in_the_run(tmp_path: Path) -> None:
    path = tmp_path / "vision.json"
    path.write_text(json.dumps(VISION))
    files = search._read_space_files((str(path), "auto", str(path)))
    assert files == {"vision.json": VISION}
    wanted = (str(path), "residual")
    assert search._load_spaces(wanted, contexts("k230")) == ("vision.json", "residual")
    spec = RunSpec(
        name="run",
        dataset=DATASET,
        targets=(catalog.load_target("nano33ble"),),
        task="classification",
        spaces=("vision.json",),
        space_files=files,
        seed=0,
        workers=1,
        budget_seconds=None,
        max_candidates=4,
    )
    path.unlink()
    again = from_plain(RunSpec, json.loads(json.dumps(to_plain(spec))), "run.json")
    assert again == spec
    proposal = search.make_proposer(again, Plan(again)).propose([], frozenset())
    assert proposal is not None
    assert proposal.origin == "MobileNetV2 (Edge Impulse)"
    assert proposal.candidate.preprocessing.height in (32, 96)
    assert proposal.costs["nano33ble"].fits


def test_two_files_of_one_name_are_refused(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
        (tmp_path / folder / "vision.json").write_text(json.dumps(VISION))
    with pytest.raises(InputError, match=r"different names\. Received two named 'vision\.json'"):
        search._read_space_files([str(tmp_path / name / "vision.json") for name in "ab"])


def test_an_unknown_space() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'residual'"):
        search._load_spaces(("resdual",), contexts("k230"))
