"""`tune profile`: files and candidates on one device and on all."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests_support import make_result
from tuner.catalog import load_target, names
from tuner.cli.profile import count, short_name
from tuner.dashboard.rows import cost_row
from tuner.engine.costs import cost_on
from tuner.errors import InputError
from tuner.runtimes.tflite_file import read_graph
from tuner.spec import DatasetSpec, Limits, RunSpec, to_plain
from tuner.store.files import write_json
from tuner.store.runs import RunFolder
from tuner.testing.architectures import random_architecture
from tuner.testing.specs import small_candidate
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import convert_tflite

Cli = Callable[..., tuple[int, str, str]]

TINY = """
name = "tiny"
title = "A board with little room"
cpu = "Cortex-M4F"
clock_mhz = 64
ram_reserved_bytes = 0
flash_bytes = 131072
flash_reserved_bytes = 0
runtime = "tflm"
kernels = "cmsis-nn"
[[ram_regions]]
name = "RAM"
size_bytes = 8192
[sources]
clock_mhz = "assumed: made up"
ram_regions = "assumed: made up"
ram_reserved_bytes = "assumed: made up"
flash_bytes = "assumed: made up"
flash_reserved_bytes = "assumed: made up"
"""


@pytest.fixture
def cli(cli: Cli) -> Cli:
    """`tune profile` with arguments."""
    return lambda *arguments: cli("profile", *arguments)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    architecture = random_architecture(1)
    image = architecture.input
    keras_model = build_keras(architecture)
    randomize_weights(keras_model, 0)
    shape = (2, image.height, image.width, image.channels)
    images = np.random.default_rng(0).uniform(-1, 0.99, shape).astype(np.float32)
    path = tmp_path_factory.mktemp("models") / "small.tflite"
    path.write_bytes(convert_tflite(keras_model, "int8", images))
    return path


@pytest.fixture
def with_custom(model: Path, tmp_path: Path) -> Path:
    """The model with a custom operator for its mean."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    tables = schema.ModelT.InitFromPackedBuf(model.read_bytes(), 0)
    for code in tables.operatorCodes:
        if code.builtinCode == schema.BuiltinOperator.MEAN:
            code.builtinCode = code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
            code.customCode = "MY_MEAN"
    builder = flatbuffers.Builder(1024)
    builder.Finish(tables.Pack(builder), b"TFL3")
    path = tmp_path / "custom.tflite"
    path.write_bytes(bytes(builder.Output()))
    return path


@pytest.fixture
def tiny(home: Path) -> Path:
    path = home / "tiny.toml"
    path.write_text(TINY)
    return path


def lines_of(text: str) -> list[str]:
    lines = text.splitlines()
    assert max(map(len, lines)) <= 80
    assert "…" not in text
    return lines


def json_of(cli: Cli, *arguments: object) -> Any:
    code, out, err = cli(*arguments, "--format", "json")
    assert code == 0, err
    return json.loads(out)


def test_json_has_the_fields_of_reports_and_every_operator(cli: Cli, model: Path) -> None:
    row = json_of(cli, model, "--target", "nano33ble")
    graph, target = read_graph(model), load_target("nano33ble")
    expected = json.loads(json.dumps(cost_row(cost_on(graph, target))))
    assert {name: row[name] for name in expected} == expected
    assert row["target"] == "nano33ble"
    assert row["file_bytes"] == row["flash_parts"]["model"] == model.stat().st_size
    assert row["unsupported"] == []
    operators = row["operators"]
    assert [item["kind"] for item in operators] == [item.kind for item in graph.operators]
    assert [item["index"] for item in operators] == list(range(1, len(operators) + 1))
    assert sum(item["macs"] for item in operators) == row["macs"]
    assert sum(item["latency_ms"] for item in operators) == pytest.approx(row["latency_ms"])
    assert sum(item["share"] for item in operators) == pytest.approx(1)
    assert max(item["ram_bytes"] for item in operators) <= row["ram_bytes"]
    assert all(item["supported"] for item in operators)


def test_the_table_says_all_in_80_columns(cli: Cli, model: Path) -> None:
    code, out, _ = cli(model, "--target", "nano33ble")
    assert code == 0
    lines = lines_of(out)
    assert lines[0].strip() == "small.tflite on nano33ble: fits"
    labels = {line.split()[0] for line in lines if line[:1].isalpha()}
    assert {"RAM", "flash", "MACs", "latency"} <= labels
    operators = [line for line in lines if line[:2].strip().isdigit()]
    assert len(operators) == len(read_graph(model).operators)
    assert sum("*" in line for line in operators) == 1


def test_measured_stands_beside_estimated(cli: Cli, model: Path) -> None:
    pytest.importorskip("tflite_micro")
    row = json_of(cli, model, "--target", "nano33ble")
    measured = row["measured"]
    assert measured["arena_head_bytes"]["kind"] == "measured"
    assert measured["arena_head_bytes"]["value"] == row["ram_parts"]["arena_head"]
    assert measured["arena_tail_bytes"]["value"] > row["ram_parts"]["arena_tail"]
    _, out, _ = cli(model, "--target", "nano33ble")
    assert "measured  arena head 14.7 KB (estimated 14.7 KB on the device), arena tail" in out


def test_without_the_tool_a_line_says_what_to_install(
    cli: Cli, model: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    row = json_of(cli, model, "--target", "nano33ble")
    assert row["measured"] == {}
    assert "pip install 'edge-tuner[referee]'" in row["measure_note"]
    assert row["fits"]


def test_operators_that_a_runtime_lacks_are_named(cli: Cli, with_custom: Path) -> None:
    row = json_of(cli, with_custom, "--target", "nano33ble")
    assert row["unsupported"] == ["MY_MEAN"]
    assert not row["fits"]
    assert [item["kind"] for item in row["operators"] if not item["supported"]] == ["MY_MEAN"]
    _, out, _ = cli(with_custom, "--target", "nano33ble")
    lines = lines_of(out)
    assert lines[0].strip() == "custom.tflite on nano33ble: does not fit"
    assert "over      not in tflm: MY_MEAN" in out
    assert any("MY_MEAN!" in line for line in lines)
    assert "! not in tflm." in out
    rows = json_of(cli, with_custom, "--all-targets")
    assert not any(row["fits"] or row["smallest"] for row in rows)
    assert "It fits none of them." in cli(with_custom, "--all-targets")[1]


def test_a_file_that_does_not_fit_is_told_what_must_shrink(
    cli: Cli, model: Path, tiny: Path
) -> None:
    row = json_of(cli, model, "--target", tiny)
    assert not row["fits"]
    assert row["over"][0]["limit"] == "ram_bytes"
    assert "too much, at '" in row["reasons"][0]
    assert row["advice"].startswith("a file cannot be changed here; it needs smaller tensors at '")
    assert lines_of(cli(model, "--target", tiny)[1])[0].strip() == (
        "small.tflite on tiny: does not fit"
    )


def test_all_targets_and_the_smallest(cli: Cli, model: Path, tiny: Path) -> None:
    rows = json_of(cli, model, "--all-targets", "--target", tiny)
    assert [row["target"] for row in rows] == ["tiny", *names("targets")]
    fitting = [row for row in rows if row["fits"]]
    least = min(row["limits"]["ram_bytes"] for row in fitting)
    smallest = [row for row in rows if row["smallest"]]
    assert [row["limits"]["ram_bytes"] for row in smallest] == [least]
    code, out, _ = cli(model)  # a file without --target: all of the catalog
    assert code == 0
    lines = lines_of(out)
    assert [line.split()[0] for line in lines[2 : 2 + len(names("targets"))]] == sorted(
        names("targets")
    )
    assert f"Smallest device that it fits: {smallest[0]['target']} (the least RAM" in out


@pytest.fixture
def folder(home: Path) -> RunFolder:
    """A run with one candidate, for a target with a limit of its own."""
    board = load_target("nano33ble")
    target = dataclasses.replace(
        board, limits=Limits(ram_bytes=100_000), sources={**board.sources, "limits": "a test"}
    )
    folder = RunFolder(home / "runs" / "made-up")
    folder.write_spec(
        RunSpec(
            name="made-up",
            dataset=DatasetSpec(
                source="sample:parts", fingerprint="0", classes=("a", "b"), counts={},
                image_height=8, image_width=8, colour="grey", split_seed=0,
            ),
            targets=(target,), task="classification", spaces=(), seed=0, workers=1,
            budget_seconds=None, max_candidates=1,
        )
    )  # fmt: skip
    result = make_result(0, correct=10)
    cost = next(iter(result.costs.values()))
    with folder.open_log() as log:
        log.append(
            "proposed", index=0, id=result.candidate.id, candidate=to_plain(result.candidate),
            origin="test", focus=target.name, space="test", choices={}, over_limit={},
            nearest_miss=None, costs={target.name: to_plain(cost)},
        )  # fmt: skip
        log.append("finished", index=0, status="ok", builds=to_plain(result.builds))
    write_json(folder.candidate(result.candidate.id) / "candidate.json", to_plain(result.candidate))
    return folder


def test_candidates_by_rank_id_and_file(cli: Cli, folder: RunFolder) -> None:
    identifier = folder.results()[0].candidate.id
    file = folder.candidate(identifier) / "candidate.json"
    rows = [
        json_of(cli, wanted)
        for wanted in ("made-up/1", "latest/1", f"latest/{identifier[:6]}", file)
    ]
    assert all(row == rows[0] for row in rows)
    assert rows[0]["target"] == "nano33ble"
    assert rows[0]["limits"]["ram_bytes"] == 100_000  # the run's, not the catalog's
    assert [item["name"] for item in rows[0]["operators"]] == ["stem", "pool", "logits"]
    assert rows[0]["measured"] == {}
    assert json_of(cli, "latest/1", "--target", "rp2040")["target"] == "rp2040"


def test_a_candidate_that_does_not_fit_is_told_what_would(cli: Cli, home: Path, tiny: Path) -> None:
    path = home / "candidate.json"
    write_json(path, to_plain(small_candidate(filters=16, side=32)))
    row = json_of(cli, path, "--target", tiny)
    assert not row["fits"]
    assert row["advice"] == (
        "fits with an input of 20x20 instead of 32x32, or with 1/4 of the filters"
    )
    _, out, _ = cli(path, "--target", tiny)
    assert any(line.startswith("advice") and "fits with an input" in line for line in lines_of(out))


def test_a_template(cli: Cli, folder: RunFolder, home: Path) -> None:
    from tuner.models.select import make_template
    from tuner.store.templates import read_template, write_template

    spec = folder.spec()
    grouped = dataclasses.replace(spec.dataset, group_by=r"^(.+)_\d")
    spec = dataclasses.replace(spec, dataset=grouped)
    template = make_template(spec, folder.results()[0], spec.targets[0], "mine")
    write_template(home / "mine.toml", template, "a card")
    assert read_template(home / "mine.toml").group_by == r"^(.+)_\d"
    assert json_of(cli, "mine.toml") == json_of(cli, "latest/1")
    _, out, _ = cli("mine.toml")
    assert out.startswith("mine on nano33ble: fits")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["no.tflite"], "Expected a TFLite file at no.tflite; there is none."),
        (["nonsense"], "Expected a .tflite file, a candidate.json, a template .toml, or RUN/"),
        (["no/1"], "Unknown run 'no'."),
        (["no.json"], "Expected a file at no.json; there is none."),
        (["no.toml"], "no.toml"),
    ],
)
def test_bad_input_is_one_line(cli: Cli, home: Path, arguments: list[str], message: str) -> None:
    code, out, err = cli(*arguments)
    assert code == 2
    assert out == ""
    assert err.count("\n") == 1
    assert message in err


def test_a_wrong_target_gets_close_matches(cli: Cli, model: Path) -> None:
    code, _, err = cli(model, "--target", "nano33bel")
    assert code == 2
    assert "Did you mean 'nano33ble'" in err


def test_short_forms() -> None:
    assert short_name("m_1/n3b_1/batchnorm/add_1;m_1/n3_1/convolution", 14) == "n3b_1/batchn.."
    assert short_name("stem", 14) == "stem"
    assert [count(number) for number in (0, 999, 1000, 27_648, 1_234_567, 3_210_000_000)] == [
        "-", "999", "1 k", "27.6 k", "1.23 M", "3.21 G",
    ]  # fmt: skip


def test_a_target_of_generated_code(cli: Cli, model: Path, home: Path) -> None:
    path = home / "code.toml"
    path.write_text(TINY.replace('"tflm"', '"generated"').replace('"tiny"', '"code"'))
    row = json_of(cli, model, "--target", path)
    assert row["runtime"] == "generated"
    assert set(row["ram_parts"]) == {"tensors", "stack", "preprocessing"}
    assert set(row["flash_parts"]) == {"constants", "code"}
    assert row["measured"] == {}


def test_a_target_that_refuses_a_model_does_not_hide_the_others(
    cli: Cli, model: Path, tiny: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(graph: object, target: object) -> None:
        raise InputError("this runtime wants another model.")

    monkeypatch.setattr("tuner.runtimes.nncase.cost", refuse)
    boards = [word for name in ("k230", "rp2040") for word in ("--target", name)]
    refused, other = json_of(cli, model, *boards)
    assert refused["reasons"] == ["this runtime wants another model"]
    assert refused["ram_bytes"] is None
    assert set(refused) == set(other)
    assert [row["smallest"] for row in (refused, other)] == [False, True]
    assert "this runtime wants" in cli(model, *boards)[1]
    code, _, err = cli(model, "--target", "k230")
    assert (code, err) == (2, "tune: this runtime wants another model.\n")


def test_retraining_refuses_with_the_change_that_would_fit(folder: RunFolder) -> None:
    from tuner.models.retrain import retrain
    from tuner.models.select import make_template

    spec = folder.spec()
    target = dataclasses.replace(spec.targets[0], limits=Limits(ram_bytes=16_000))
    result = dataclasses.replace(folder.results()[0], candidate=small_candidate(16, 32))
    template = make_template(spec, result, target, "mine")
    with pytest.raises(
        InputError,
        match=r"does not fit nano33ble: RAM .* too much, at 'stem'\. It fits with .* Edit it so, "
        r"or loosen the limits",
    ):
        retrain(template)


def test_a_run_without_candidates_says_so_and_names_one_that_has_some(cli: Cli, home: Path) -> None:
    from runs_support import make_run

    make_run(home, "full", [10], ended=True)
    make_run(home, "empty")
    code, _, err = cli("empty/1")
    assert code == 2
    assert (
        "The run 'empty' has no finished candidates; 'tune logs empty' says what happened. The "
        "newest run that has some is 'full'."
    ) in err
