"""One search for several boards, as a user runs it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.catalog import load_target, names
from walk_support import small_digits, tune

BOARDS = ["stm32h743", "rp2040", "k230"]
GROUPS = 2  # held to 200 KB, two of the boards are of one size

NOTHING_FITS = """
name = "hopeless"
title = "A board with no room"
cpu = "Cortex-M0+"
clock_mhz = 16
ram_reserved_bytes = 0
flash_bytes = 8192
flash_reserved_bytes = 0
runtime = "tflm"
kernels = "reference"
[[ram_regions]]
name = "RAM"
size_bytes = 512
[sources]
clock_mhz = "assumed: made up"
ram_regions = "assumed: made up"
ram_reserved_bytes = "assumed: made up"
flash_bytes = "assumed: made up"
flash_reserved_bytes = "assumed: made up"
"""


@pytest.fixture(scope="module")
def home_with_boards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("boards")
    (home / "hopeless.toml").write_text(NOTHING_FITS)
    done = tune(
        home, "--data", small_digits(home / "digits.npz"), "--name", "boards",
        "--max-candidates", 4, "--ram-kb", 200, "--target", home / "hopeless.toml",
        "--space", "mixed_stages",
        *[word for board in BOARDS for word in ("--target", board)],
    )  # fmt: skip
    assert "Left out: No candidate fits hopeless" in done.stderr
    table = done.stdout.splitlines()
    assert [line.split()[0] for line in table[1:4]] == BOARDS
    assert max(map(len, table)) <= 80
    assert "…" not in done.stdout
    return home


def test_each_board_has_its_own_costs_and_limits(home_with_boards: Path) -> None:
    run = json.loads((home_with_boards / "runs" / "boards" / "run.json").read_text())
    limits = {target["name"]: target["limits"].get("ram_bytes") for target in run["targets"]}
    # 200 KB tighten what has more, and leave what has less or as much.
    assert limits["stm32h743"] == limits["k230"] == 200 * 1024
    rows = json.loads(tune(home_with_boards, "report", "boards", "--format", "json").stdout)
    assert len(rows) == 4
    for row in rows:
        assert set(row["costs"]) == set(BOARDS)
        latencies = {row["costs"][board]["latency_ms"] for board in BOARDS}
        assert len(latencies) == len(BOARDS)
        assert any(cost["fits"] for cost in row["costs"].values())


def test_each_board_is_scored_with_its_own_kernels(home_with_boards: Path) -> None:
    for board, kernels in (("stm32h743", "builtin"), ("k230", "xnnpack")):
        done = tune(home_with_boards, "report", "boards", "--target", board, "--format", "json")
        for row in json.loads(done.stdout):
            simulated = row["builds"].pop("target", None)  # where nncase is installed
            assert set(row["builds"]) == {"float32", "int8"}
            assert {build["kernels"] for build in row["builds"].values()} == {kernels}
            tested = {"float32", "int8"} if row["status"] == "ok" else set()
            if row["status"] == "ok" and not simulated:
                tested.add("target")
            assert set(row["accuracy"]["test"]) == tested
        text = tune(home_with_boards, "report", "boards", "--target", board).stdout
        assert f"{kernels} kernels" in " ".join(text.split())


def test_finalists_are_measured_beside_the_estimate(home_with_boards: Path) -> None:
    pytest.importorskip("tflite_micro", reason="wheels for Python 3.11 on x86-64 only")
    rows = json.loads(tune(home_with_boards, "report", "boards", "--format", "json").stdout)
    finalists = [row for row in rows if row["status"] == "ok"]
    assert len(finalists) == GROUPS
    for row in finalists:
        for board in ("stm32h743", "rp2040"):
            head = row["measured"][board]["arena_head_bytes"]
            assert head["kind"] == "measured"
            assert "tflite-micro" in head["basis"]
            assert head["value"] == row["costs"][board]["ram_parts"]["arena_head"]
    text = tune(home_with_boards, "report", "boards", "--target", "rp2040").stdout
    assert f"arena head as planned for {GROUPS} of {GROUPS}." in " ".join(text.split())


def test_a_board_that_nothing_fitted_says_so_again(home_with_boards: Path) -> None:
    done = tune(home_with_boards, "report", "boards", "--target", "hopeless", code=2)
    assert "hopeless was left out of the run: No candidate fits hopeless" in done.stderr


def test_a_board_that_was_not_asked_for_is_reported_all_the_same(home_with_boards: Path) -> None:
    done = tune(
        home_with_boards, "report", "boards", "--target", "esp32s3", "--format", "json"
    )  # fmt: skip
    rows = json.loads(done.stdout)
    assert [row["rank"] for row in rows] == [1, 2, 3, 4]
    fits = [row["costs"]["esp32s3"]["fits"] for row in rows]
    assert fits == sorted(fits, reverse=True)
    assert {row["id"] for row in rows} == {
        row["id"]
        for row in json.loads(tune(home_with_boards, "report", "boards", "--format", "json").stdout)
    }
    text = tune(home_with_boards, "report", "boards", "--target", "esp32s3").stdout
    assert "estimated for esp32s3" in text


def test_what_does_not_fit_is_below_what_fits_and_says_why(home_with_boards: Path) -> None:
    """A smaller board by file: one limit between the candidates' RAM."""
    rows = json.loads(tune(home_with_boards, "report", "boards", "--format", "json").stdout)
    rams = sorted(row["costs"]["rp2040"]["ram_high_bytes"] for row in rows)
    assert rams[0] < rams[-1]
    text = Path(names("targets")["rp2040"]).read_text()
    small = home_with_boards / "small.toml"
    small.write_text(
        text.replace('name = "rp2040"', 'name = "small"')
        + f"\nlimits = 'assumed: a test'\n[limits]\nram_bytes = {int(rams[-1]) - 1}\n"
    )
    board = json.loads(
        tune(home_with_boards, "report", "boards", "--target", small, "--format", "json").stdout
    )
    assert not board[-1]["costs"]["small"]["fits"]
    assert board[-1]["costs"]["small"]["over"][0]["limit"] == "ram_bytes"
    table = tune(home_with_boards, "report", "boards", "--target", small).stdout
    assert "over: does not fit small; " in table
    last = board[-1]["id"]
    done = tune(home_with_boards, "select", "boards", last, "--target", small, code=2)
    assert f"{last} does not fit small: RAM" in done.stderr


def test_a_template_is_for_the_board_that_was_named(home_with_boards: Path) -> None:
    tune(
        home_with_boards, "select", "boards", 1, "--target", "nano33ble", "-o", "nano.toml"
    )  # fmt: skip
    text = (home_with_boards / "nano.toml").read_text()
    assert load_target("nano33ble").title in text
    assert 'name = "nano33ble"' in text


def test_an_unknown_board_is_named_before_anything_is_read(home_with_boards: Path) -> None:
    done = tune(
        home_with_boards, "--target", "rp2040", "--target", "esp32s4", "--data", "nowhere", code=2
    )
    assert done.stderr.startswith("tune: Unknown target 'esp32s4'. Did you mean 'esp32s3'")
    done = tune(home_with_boards, "report", "boards", "--target", "esp32s4", code=2)
    assert "Unknown target 'esp32s4'" in done.stderr
