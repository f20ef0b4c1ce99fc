"""Which spaces a search draws from."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from tuner import catalog
from tuner.engine import search
from tuner.errors import UnknownNameError
from tuner.spec import Context, DatasetSpec


def contexts(*targets: str, side: int = 128) -> Mapping[str, Context]:
    dataset = DatasetSpec(
        source="made up",
        fingerprint="0",
        classes=("a", "b", "c"),
        counts={"training": 10, "validation": 5, "test": 5},
        image_height=side,
        image_width=side,
        colour="rgb",
        split_seed=0,
    )
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


def test_an_unknown_space() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'residual'"):
        search._load_spaces(("resdual",), contexts("k230"))
