"""`tune targets` and `tune targets show`: complete, in 80 columns, and readable by programs."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tuner.catalog import load_target, names
from tuner.cli.targets import list_targets, show_target, size_text
from tuner.errors import UnknownNameError


def test_the_list_has_a_line_for_each_target_in_80_columns(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list_targets("table")
    lines = capsys.readouterr().out.splitlines()
    for name in names("targets"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert max(len(line) for line in lines) <= 80
    assert "…" not in "".join(lines)


@pytest.mark.parametrize("name", sorted(names("targets")))
def test_one_target_shows_every_number_and_source(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    show_target(name, "table")
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    assert "…" not in out
    target = load_target(name)
    # Words wrap: compare without spaces.
    flat = "".join(out.split())
    assert f"{target.clock_mhz:g}MHz" in flat
    for region in target.ram_regions:
        assert "".join(size_text(region.size_bytes).split()) in flat
    for field in ("clock_mhz", "flash_reserved_bytes"):
        assert target.sources[field].split()[0][:20] in flat
    assert "amodelmayuse" in flat


def test_json_holds_the_file_and_the_effective_limits(capsys: pytest.CaptureFixture[str]) -> None:
    show_target("nano33ble", "json")
    shown = json.loads(capsys.readouterr().out)
    assert shown["ram_regions"][0]["size_bytes"] == 262144
    assert shown["model_limits"]["ram_bytes"] == 262144 - 48 * 1024
    assert shown["file"].endswith("nano33ble.toml")
    list_targets("json")
    assert shown in json.loads(capsys.readouterr().out)


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'rp2040'"):
        show_target("rp2400", "table")


@pytest.mark.parametrize(
    ("size_bytes", "text"),
    [(512, "0.5 KB"), (240 * 1024, "240 KB"), (2 * 1024**2, "2 MB"), (3 * 1024**3, "3 GB"),
     (1020 * 1024, "0.996 MB")],
)  # fmt: skip
def test_sizes(size_bytes: int, text: str) -> None:
    assert size_text(size_bytes) == text


def write_board(folder: Path, name: str, **changes: str) -> None:
    """The bundled nano33ble as a target of its own, some of its lines changed."""
    text = names("targets")["nano33ble"].read_text().replace('"nano33ble"', f'"{name}"', 1)
    for old, new in changes.items():
        assert f'"{old}"' in text
        text = text.replace(f'"{old}"', f'"{new}"', 1)
    (folder / "targets").mkdir(exist_ok=True)
    (folder / "targets" / f"{name}.toml").write_text(text)


@pytest.mark.parametrize(
    ("cpu", "words"),
    [
        ("M4F", "unknown core 'M4F', did you mean 'Cortex-M4F'? Its latency is extrapolated"),
        ("Cortex M7", "unknown core 'Cortex M7', did you mean 'Cortex-M7'?"),
        ("ARM cortex-a53", "did you mean 'Cortex-A53'?"),
        ("AVR32", "unknown core 'AVR32'. Its latency is extrapolated from other cores."),
    ],
)
def test_a_core_without_points_is_told_once(cli, home: Path, cpu: str, words: str) -> None:
    from tuner.engine.notices import notices
    from tuner.engine.search import SearchRequest, prepare_run
    from tuner.spec import to_plain
    from tuner.testing.specs import small_candidate

    write_board(home, "mine", **{"Cortex-M4F": cpu})
    (home / "candidate.json").write_text(json.dumps(to_plain(small_candidate())))
    for words_of_command in (
        ("targets", "show", "mine"),
        ("profile", "candidate.json", "--target", "mine"),
        ("profile", "candidate.json", "--all-targets"),
    ):
        code, _, err = cli(*words_of_command)
        assert code == 0
        assert err.count("unknown core") == 1
        assert f"mine: {words}"[6 if words.startswith("did") else 0 :] in err
    run = prepare_run(SearchRequest(targets=("mine",), data="sample:digits", max_candidates=1))
    assert [words in line for line in notices(run.spec()) if "core" in line] == [True]


def test_no_bundled_target_has_an_unknown_core(cli, home: Path) -> None:
    from tuner.cost.latency import unknown_core

    assert [unknown_core(load_target(name)) for name in names("targets")] == [""] * len(
        names("targets")
    )


def test_a_broken_file_hides_no_other_target(cli, home: Path) -> None:
    from tuner.spec import to_plain
    from tuner.testing.specs import small_candidate

    write_board(home, "mine")
    (home / "targets" / "torn.toml").write_text("name = ")
    (home / "candidate.json").write_text(json.dumps(to_plain(small_candidate())))
    for words in (("targets",), ("profile", "candidate.json", "--all-targets")):
        for format in ("table", "json"):
            code, out, err = cli(*words, "--format", format)
            assert code == 0
            assert "mine" in out
            assert "k230" in out
            assert "torn" not in out
            assert "Left out: targets/torn.toml: not a TOML file" in err


def test_unknown_kernels_are_named_with_their_file(cli, home: Path) -> None:
    from tuner.spec import to_plain
    from tuner.testing.specs import small_candidate

    write_board(home, "mine", **{"cmsis-nn": "cmsis_nn"})
    (home / "candidate.json").write_text(json.dumps(to_plain(small_candidate())))
    for words in (
        ("targets", "show", "mine"),
        ("profile", "candidate.json", "--target", "mine"),
        ("--target", "mine", "--data", "sample:digits"),
    ):
        code, out, err = cli(*words)
        assert code == 2
        assert (
            "targets/mine.toml: Unknown kernels 'cmsis_nn'. Did you mean 'cmsis-nn'? Known: "
            "cmsis-nn, esp-nn, reference. These are the kernels of the runtime 'tflm'."
        ) in err
        assert out == "", "no card of a target that cannot be used"
