"""The command line: help without heavy packages, bad input in one line, exit codes."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tuner import catalog
from tuner.errors import InputError
from tuner.spec.times import parse_time

HEAVY = ("tensorflow", "keras", "optuna", "joblib", "plotly", "sklearn", "scipy", "PIL", "numpy")


def class_folder(path: Path, classes: dict[str, int]) -> Path:
    generator = np.random.default_rng(0)
    for name, count in classes.items():
        (path / name).mkdir(parents=True)
        for number in range(count):
            pixels = generator.integers(0, 256, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(path / name / f"{number}.png")
    return path


@pytest.mark.parametrize(
    "arguments",
    [
        ["--help"],
        ["targets"],
        ["targets", "show", "k230"],
        ["spaces"],
        ["spaces", "show", "residual"],
        ["report", "--help"],
        ["data"],
        ["runs", "--help"],
        ["completion", "bash"],
        ["completion", "zsh"],
        [],
    ],
)
def test_light_commands_load_nothing_heavy(arguments: list[str], tmp_path: Path):
    code = (
        "import sys; sys.argv = ['tune', *sys.argv[1:]]\n"
        "from tuner.cli.main import run\n"
        "try: run()\n"
        "except SystemExit as end: assert not end.code, end.code\n"
        f"print([name for name in {HEAVY!r} if name in sys.modules], file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip().splitlines()[-1] == "[]"
    assert done.stdout


def test_bare_tune_prints_help_and_the_next_step(cli):
    code, out, _ = cli()
    assert code == 0
    assert "--target" in out
    assert "Start with: tune --target k230" in out


def test_help_names_what_options_take(cli, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("COLUMNS", "80")
    for command in ([], ["export"]):
        out = cli(*command, "--help")[1]
        assert "range>" not in out
        assert "<list" not in out.partition("Commands:")[0]
    assert "sample:parts by default" in " ".join(cli("--help")[1].split())


@pytest.mark.parametrize(
    ("command", "usage"),
    [
        ("select", "[OPTIONS] {RUN} {CANDIDATE}"),
        ("retrain", "[OPTIONS] [TEMPLATE]"),
        ("export", "[OPTIONS] {MODEL}"),
        ("logs", "[OPTIONS] [RUN|MODEL] [CANDIDATE]"),
    ],
)
def test_help_names_arguments_by_what_they_are(cli, command: str, usage: str):
    assert f"Usage: tune {command} {usage}\n" in cli(command, "--help")[1]


def test_times():
    assert parse_time("90s") == 90
    assert parse_time("20m") == 1200
    assert parse_time("1h30m") == 5400
    for bad in ("", "20", "m", "20 minutes", "-5m", "0s"):
        with pytest.raises(InputError, match=r"for --time\. Received"):
            parse_time(bad)


def one_line(err: str) -> str:
    lines = [line for line in err.strip().splitlines() if line.startswith("tune: ")]
    assert len(lines) == 1, err
    assert "Traceback" not in err
    return lines[0]


def bad_data(tmp_path: Path, kind: str) -> Path:
    path = tmp_path / "images"
    if kind == "empty":
        path.mkdir()
    elif kind == "one class":
        class_folder(path, {"only": 12})
    elif kind == "one image":
        class_folder(path, {"many": 12, "few": 1})
    elif kind == "unreadable":
        for name in ("a", "b"):
            (path / name).mkdir(parents=True)
            for number in range(6):
                (path / name / f"{number}.png").write_bytes(b"no image")
    return path


@pytest.mark.parametrize(
    ("kind", "words"),
    [
        ("missing", ["images", "no"]),
        ("empty", ["images"]),
        ("one class", ["only", "two"]),
        ("one image", ["few", "1"]),
        ("unreadable", ["images"]),
    ],
)
def test_bad_data_is_one_clear_line(cli, home: Path, kind: str, words: list[str]):
    path = bad_data(home, kind)
    code, _, err = cli("--target", "nano33ble", "--data", str(path), "--max-candidates", "1")
    line = one_line(err)
    assert code == 2
    assert all(word in line for word in words), line
    assert not list((home / "runs").glob("*/run.json")), "no run is left behind"


def test_unreadable_images_are_left_out_and_counted(cli, home: Path):
    path = class_folder(home / "images", {"a": 10, "b": 10})
    (path / "a" / "broken.png").write_bytes(b"no image")
    code, _, err = cli("--target", "nano33ble", "--data", str(path), "--ram-kb", "0.2")
    assert code == 3, err
    from tuner.data import open_dataset

    assert len(open_dataset(str(path), split_seed=0).spec.left_out) == 1


def test_unknown_target_gets_close_matches(cli, home: Path):
    code, _, err = cli("--target", "k23O", "--data", "sample:digits")
    assert code == 2
    assert "Unknown target 'k23O'. Did you mean 'k230'" in one_line(err)


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("clock_mhz = 64", "clock_mhz = 'fast'", "clock_mhz: expected a number"),
        ("clock_mhz", "clock_ghz", "unknown field 'clock_ghz'. Did you mean 'clock_mhz'?"),
        ("flash_bytes", "#", "the field 'flash_bytes' is missing"),
        ('runtime = "', 'runtime = "x', "Unknown runtime"),
        (
            'kernels = "',
            'kernels = "x',
            "Unknown kernels 'xcmsis-nn'. Did you mean 'cmsis-nn' or 'esp-nn'? Known: cmsis-nn, "
            "esp-nn, reference. These are the kernels of the runtime 'tflm'.",
        ),
    ],
)
def test_target_file_with_a_wrong_field(cli, home: Path, old: str, new: str, words: str):
    from tuner import catalog

    lines = catalog.names("targets")["nano33ble"].read_text().splitlines()
    changed = [
        line.replace(old, new, 1) if line.startswith(old.split()[0]) else line for line in lines
    ]
    assert changed != lines
    (home / "mine.toml").write_text("\n".join(changed))
    code, _, err = cli("--target", str(home / "mine.toml"), "--data", "sample:digits")
    assert code == 2
    assert words in one_line(err)
    assert "mine.toml" in one_line(err)


def test_limit_that_nothing_can_meet(cli, home: Path):
    code, _, err = cli("--target", "nano33ble", "--data", "sample:digits", "--ram-kb", "0.5")
    line = one_line(err)
    assert code == 3
    assert "No candidate fits nano33ble. The smallest one, c" in line
    assert line.endswith("choose a larger target ('tune targets').")
    assert "RAM" in line
    assert "> 512 B" in line


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["--data", "sample:digits"], "Expected --target"),
        (["--target", "k230", "--data", "sample:digit"], "Did you mean 'digits'"),
        (["--target", "k230", "--time", "soon"], "Expected a time such as 90s"),
        (
            ["--target", "k230", "--ram-kb", "-1", "--data", "sample:digits"],
            "a number above 0 for --ram-kb",
        ),
        (["report", "nothing"], "Unknown run 'nothing'"),
        (["resume"], "Unknown run 'latest'"),
        (["select", "nothing", "1"], "Unknown run 'nothing'"),
        (["retrain", "none.toml"], "Expected a file at none.toml; there is none"),
        (["export", "none", "--to", "tflite"], "Unknown model 'none'"),
        (["targets", "show", "none"], "Unknown target 'none'"),
        (["--seed", "3", "runs"], "--seed stands before 'runs' and counts for nothing there."),
        (["targets", "--format", "json", "show", "k230"], "--format stands before 'show'"),
        (["spaces", "--format", "json", "show", "auto"], "if 'tune spaces show --help' has it."),
        (["models", "--format", "json", "get", "x", "y"], "--format stands before 'get'"),
    ],
)
def test_wrong_arguments(cli, home: Path, arguments: list[str], words: str):
    code, _, err = cli(*arguments)
    assert code == 2
    assert words in one_line(err)


def test_models_without_any(cli, home: Path):
    assert cli("models")[1] == "No models yet; 'tune retrain TEMPLATE' makes one.\n"
    assert json.loads(cli("models", "--format", "json")[1]) == []


def test_export_help_names_every_format(cli):
    code, out, _ = cli("export", "--help")
    assert code == 0
    package = Path(catalog.__file__).parent / "exporters"
    carried = [name for name, path in catalog.names("exporters").items() if path.parent == package]
    assert "tflite" in carried
    words = re.findall(r"\w+", out)
    assert [name for name in carried if name not in words] == []
