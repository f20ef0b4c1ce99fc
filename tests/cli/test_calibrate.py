"""`tune calibrate`: a board that differs is recovered, its profile is written, bad rows refused."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tuner.catalog import load_target, names
from tuner.cli.calibrate import Row, fit
from tuner.cost.latency import estimate_latency, rates_of, totals
from tuner.cost.latency_nets import net
from tuner.cost.lower import Graph, lower
from tuner.engine.costs import cost_on
from tuner.spec import Candidate, Target, to_plain
from tuner.store.files import write_json
from tuner.store.toml import edit_toml, read_toml
from tuner.testing.architectures import random_architecture
from tuner.testing.specs import small_candidate

BOARD = "stm32l4r5"
NETS = [net(name) for name in ("resnet8", "dscnn", "mobilenet_v1 0.25 96 3 2", "mcunet-in0")]
UNSEEN = [lower(random_architecture(seed)) for seed in range(30)]

Cli = Callable[..., tuple[int, str, str]]


@pytest.fixture(autouse=True)
def in_a_folder_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.chdir(tmp_path)


def rows(graphs: list[Graph], latency_ms: Callable[[Graph], float]) -> list[Row]:
    return [
        Row(
            model=f"net{index}",
            graph=graph,
            latency_ms=latency_ms(graph),
            arena_bytes=None,
            flash_bytes=None,
        )
        for index, graph in enumerate(graphs)
    ]


def slower_board(target: Target, factor: float, noise: float = 0.0) -> Callable[[Graph], float]:
    generator = np.random.default_rng(0)
    return lambda graph: (
        factor * estimate_latency(graph, target).value * math.exp(generator.normal(0, noise))
    )


@pytest.mark.parametrize("count", [1, 2, 4])
def test_a_board_1_7_times_slower_is_recovered_within_its_band(count: int) -> None:
    target = load_target(BOARD)
    truth = slower_board(target, 1.7)
    fitted = fit(rows(NETS[:count], truth), target)
    inside = []
    for graph in UNSEEN:
        latency = estimate_latency(graph, fitted)
        inside.append(latency.low <= truth(graph) <= latency.high)
        assert latency.value / truth(graph) == pytest.approx(1.0, abs=0.16 if count == 1 else 0.1)
    assert all(inside)
    assert not any(truth(graph) < estimate_latency(graph, target).value * 1.6 for graph in UNSEEN)


def test_the_band_narrows_with_more_measurements() -> None:
    target = load_target(BOARD)
    truth = slower_board(target, 1.7, noise=0.03)
    bands = []
    for count in (1, 2, 4):
        latency = estimate_latency(NETS[1], fit(rows(NETS[:count], truth), target))
        bands.append(latency.high / latency.low)
    assert bands == sorted(bands, reverse=True)


def test_one_measurement_moves_the_scale_and_hardly_the_shape() -> None:
    target = load_target(BOARD)
    fitted = fit(rows(NETS[:1], slower_board(target, 1.7)), target)
    assert fitted.calibration is not None
    moved = np.array(list(fitted.calibration.cycles.values())) / rates_of(target).cycles
    assert np.exp(np.log(moved).mean()) == pytest.approx(1.7, rel=0.1)
    assert moved.max() / moved.min() < 1.35


def test_many_measurements_move_the_shape() -> None:
    """On a board whose depthwise kernels are three times slower, the errors left out fall."""
    target = load_target(BOARD)
    cycles = rates_of(target).cycles * np.array([1, 1, 1, 3, 3, 1, 1, 1, 1])

    def truth(graph: Graph) -> float:
        return float(totals(graph) @ cycles) / (target.clock_mhz * 1e3)

    measured = rows(UNSEEN[:20], truth)
    scale = truth(NETS[1]) / estimate_latency(NETS[1], target).value
    before, after = [], []
    for index, row in enumerate(measured):
        fitted = fit(measured[:index] + measured[index + 1 :], target)
        before.append(
            abs(math.log(scale * estimate_latency(row.graph, target).value / row.latency_ms))
        )
        after.append(abs(math.log(estimate_latency(row.graph, fitted).value / row.latency_ms)))
    assert np.mean(after) < 0.5 * np.mean(before)


def test_external_ram_and_float32_are_not_counted_twice() -> None:
    target = load_target("esp-eye")
    graphs = [net("mobilenet_v1 0.25 224 3 5"), replace(NETS[1], precision="float32")]
    for graph in graphs:
        truth = slower_board(target, 1.3)
        fitted = fit(rows([graph, NETS[1]], truth), target)
        latency = estimate_latency(graph, fitted)
        assert latency.value == pytest.approx(truth(graph), rel=0.1)


def test_largest_ram_and_flash_beyond_the_estimate_are_added_to_costs() -> None:
    target = load_target(BOARD)
    graph = NETS[1]
    plain = cost_on(graph, target)
    row = rows([graph], slower_board(target, 1.0))[0]
    # The preprocessing row lies beside the arena, and is no part of what is measured.
    arena = plain.ram_bytes.value - plain.ram_parts["preprocessing"]
    measured = [
        replace(row, arena_bytes=arena + extra, flash_bytes=plain.flash_bytes.value)
        for extra in (100, 700)
    ]
    fitted = fit(measured, target)
    assert fitted.calibration is not None
    assert fitted.calibration.ram_extra_bytes == 700
    assert fitted.calibration.flash_extra_bytes == 0
    cost = cost_on(graph, fitted)
    assert cost.ram_bytes.value == plain.ram_bytes.value + 700
    assert "+700 bytes by 2 measurements of your own" in cost.ram_bytes.basis
    assert cost.flash_bytes == plain.flash_bytes


def candidate_files(folder: Path, count: int = 3) -> list[Candidate]:
    found = []
    for index in range(count):
        candidate = small_candidate(filters=8 * (index + 1), side=16 * (index + 1))
        write_json(folder / f"net{index}.json", to_plain(candidate))
        found.append(candidate)
    return found


def measurements(folder: Path, target: Target, factor: float) -> Path:
    lines = ["model,latency_ms,arena_bytes,flash_bytes"]
    for index, candidate in enumerate(candidate_files(folder)):
        value = estimate_latency(lower(candidate.architecture), target).value
        lines.append(f"net{index}.json,{factor * value:.6g},,")
    path = folder / "measured.csv"
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return path


def test_a_new_profile_beside_the_old_one_with_its_comments(cli: Cli, tmp_path: Path) -> None:
    source = tmp_path / "boards" / "my.toml"
    source.parent.mkdir()
    text = names("targets")[BOARD].read_text(encoding="utf-8").replace(BOARD, "my")
    source.write_text(text, encoding="utf-8")
    path = measurements(tmp_path, load_target(str(source)), 1.7)
    arguments = ["calibrate", "--target", str(source), "--csv", str(path)]
    code, out, err = cli(*arguments)
    assert (code, err) == (0, "")
    assert max(len(line) for line in out.splitlines()[:8]) <= 80
    assert "Mean error: 41% before" in out
    written = source.with_name("my-calibrated.toml")
    assert source.read_text(encoding="utf-8") == text
    kept = written.read_text(encoding="utf-8")
    comments = [line for line in text.splitlines() if line.startswith("#")]
    assert [line for line in kept.splitlines() if line.startswith("#")] == comments
    fitted = load_target(str(written))
    assert fitted.name == "my-calibrated"
    assert fitted.calibration is not None
    assert fitted.calibration.basis.startswith("3 measurements of your own, 20")
    assert replace(fitted, name="my", calibration=None) == load_target(str(source))
    latency = estimate_latency(NETS[1], fitted)
    assert latency.value == pytest.approx(
        1.7 * estimate_latency(NETS[1], load_target(str(source))).value, rel=0.25
    )

    code, _, err = cli(*arguments)
    assert code == 2
    assert err == (
        f"tune: {written} exists; give another with -o, or replace it with --overwrite.\n"
    )
    assert cli(*arguments, "--overwrite")[0] == 0
    assert (
        cli("calibrate", "--target", str(written), "--csv", str(path), "-o", "again.toml")[0] == 0
    )
    assert load_target(str(tmp_path / "again.toml")).calibration == fitted.calibration


def test_a_catalog_target_is_written_into_the_current_folder(cli: Cli, tmp_path: Path) -> None:
    path = measurements(tmp_path, load_target(BOARD), 0.8)
    code, out, _ = cli("calibrate", "--target", BOARD, "--csv", str(path))
    assert code == 0
    assert (tmp_path / f"{BOARD}-calibrated.toml").is_file()
    assert f"Wrote {BOARD}-calibrated.toml" in out


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line 1: expected the columns model, latency_ms and, if measured, arena_bytes, "
             "flash_bytes. Received: nothing."),
        ("model\nnet0.json\n", "line 1: expected the columns model, latency_ms and, if measured, "
                               "arena_bytes, flash_bytes. Received: model."),
        ("model,latency_ms,watts\n", "flash_bytes. Received: model, latency_ms, watts."),
        ("model,latency_ms\n", "expected at least one measurement after line 1."),
        ("model,latency_ms\nnet0.json,fast\n",
         "line 2: expected latency_ms above 0. Received: 'fast'."),
        ("model,latency_ms\nnet0.json,1\nnet1.json,-3\n",
         "line 3: expected latency_ms above 0. Received: '-3'."),
        ("model,latency_ms\nnet0.json,inf\n",
         "line 2: expected latency_ms above 0. Received: 'inf'."),
        ("model,latency_ms\nnet0.json,\n",
         "line 2: expected latency_ms above 0. Received: nothing."),
        ("model,latency_ms,arena_bytes\nnet0.json,1,x\n",
         "line 2: expected arena_bytes above 0. Received: 'x'."),
        ("model,latency_ms\nnet0.json\n", "line 2: expected as many fields as line 1 has."),
        ("model,latency_ms\nnet0.json,1,2\n", "line 2: expected as many fields as line 1 has."),
        ("model,latency_ms\nnet9.json,1\n", "net9.json; there is none."),
        ("model,latency_ms\nnet0.h5,1\n", "line 2: expected a .tflite file, a candidate.json or a "
                                          "template .toml. Received: 'net0.h5'."),
        ("model,latency_ms\nlatest/1,1\n", "Received: 'latest/1'."),
    ],
)  # fmt: skip
def test_bad_measurements_give_one_line(cli: Cli, tmp_path: Path, text: str, message: str) -> None:
    candidate_files(tmp_path)
    path = tmp_path / "measured.csv"
    path.write_text(text, encoding="utf-8")
    code, out, err = cli("calibrate", "--target", BOARD, "--csv", str(path))
    assert (code, out) == (2, "")
    assert err.count("\n") == 1
    assert err.startswith(f"tune: {path}: ")
    assert err.endswith(f"{message}\n")
    assert not list(tmp_path.glob("*-calibrated.toml"))


def test_what_cannot_be_read_or_written_gives_one_line(cli: Cli, tmp_path: Path) -> None:
    path = measurements(tmp_path, load_target(BOARD), 1.0)
    for arguments, message in (
        (["--csv", "none.csv"], "Expected measurements at none.csv; there is no such file."),
        (["--csv", str(tmp_path)], "cannot be read as CSV"),
        (["--csv", str(path), "-o", "My Board.toml"], "Received: 'My Board.toml'."),
        (["--csv", str(path), "-o", "none/a.toml"], "expected a folder at none"),
    ):
        code, _, err = cli("calibrate", "--target", BOARD, *arguments)
        assert code == 2
        assert err.count("\n") == 1
        assert message in err
    (tmp_path / "binary.csv").write_bytes(b"\xff\xfe\x00")
    code, _, err = cli("calibrate", "--target", BOARD, "--csv", "binary.csv")
    assert (code, err.count("\n")) == (2, 1)


def test_an_accelerators_target_is_refused(cli: Cli, tmp_path: Path) -> None:
    path = measurements(tmp_path, load_target(BOARD), 1.0)
    code, _, err = cli("calibrate", "--target", "k230", "--csv", str(path))
    assert code == 2
    assert err.startswith("tune: target 'k230': no latency rates for kernels 'kpu'")


def test_operators_that_the_runtime_lacks_are_refused(
    cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = measurements(tmp_path, load_target(BOARD), 1.0)
    monkeypatch.setattr("tuner.runtimes.tflm.OPERATORS", frozenset({"CONV_2D", "MEAN"}))
    code, _, err = cli("calibrate", "--target", BOARD, "--csv", str(path))
    assert code == 2
    assert err == (
        f"tune: {path}: line 2: net0.json has operators that tflm lacks: FULLY_CONNECTED; it "
        "cannot have been measured there.\n"
    )


def test_edited_toml_keeps_comments_and_order(tmp_path: Path) -> None:
    source = tmp_path / "a.toml"
    source.write_text("# card\na = 1  # one\n\n[b]\nc = 2 # two\n", encoding="utf-8")
    edit_toml(source, tmp_path / "b.toml", {"a": 3, "d": {"e": 1.5, "f": None}})
    assert (tmp_path / "b.toml").read_text(encoding="utf-8") == (
        "# card\na = 3  # one\n\n[b]\nc = 2 # two\n\n[d]\ne = 1.5\n"
    )
    assert read_toml(tmp_path / "b.toml") == {"a": 3, "b": {"c": 2}, "d": {"e": 1.5}}
