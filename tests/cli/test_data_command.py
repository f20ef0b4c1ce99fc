"""`tune data check` and `tune data stats`."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from odd_images_support import odd_files
from pictures_support import fill, picture


def test_a_data_set_that_can_be_used(cli, home: Path):
    root = fill(home / "my images", {"cat": 6, "dog[b]": 5})
    (root / "cat" / "broken\n.png").write_bytes(b"")
    code, out, err = cli("data", "check", root)
    assert (code, err) == (0, "")
    assert f"{root}: 11 images, classes: 2" in out
    assert "cat/broken\\x0a.png: empty file" in out
    assert "warning: Few images in 2 of 2 classes" in out
    assert "It can be used; warnings: 2." in out
    assert all(len(line) <= 80 or line.startswith(("  ", str(root))) for line in out.splitlines())
    code, out, err = cli("data", "stats", root)
    assert (code, err) == (0, "")
    rows = [line.split() for line in out.splitlines()]
    assert ["cat", "6", "4", "1", "1"] in rows
    assert ["dog[b]", "5", "3", "1", "1"] in rows
    assert ["all", "11", "7", "2", "2"] in rows
    assert ["width,", "pixels", "12", "12", "12"] in rows
    assert "Left out: 1" in out


def test_json(cli, home: Path):
    root = fill(home / "images", {"cat": 6, "dog": 5})
    for command in ("check", "stats"):
        code, out, _ = cli("data", command, root, "--format", "json", "--seed", "3")
        report = json.loads(out)
        assert code == 0
        assert report["usable"] is True
        assert report["classes"][0] == {
            "name": "cat", "images": 6, "training": 4, "validation": 1, "test": 1,
        }  # fmt: skip
        assert {item["kind"] for item in report["problems"]} == {"few_images"}


def test_a_data_set_that_cannot(cli, home: Path):
    root = fill(home / "images", {"": 1, "top/cat": 6, "top/dog": 5})
    code, out, err = cli("data", "check", root)
    assert code == 2
    assert f"  tune data check {root}/top" in out.splitlines()
    assert err.startswith(f"tune: {root} has no folder per class.")
    assert err.count("\n") == 1
    code, out, _ = cli("data", "check", root, "--format", "json")
    assert code == 2
    assert json.loads(out)["usable"] is False
    code, out, err = cli("data", "stats", root)
    assert (code, out) == (2, "")
    code, _, err = cli("data", "check", home / "none")
    assert code == 2
    assert "does not exist" in err


def test_a_terminal_shows_an_error_once(cli, home: Path, monkeypatch: pytest.MonkeyPatch):
    root = fill(home / "images", {"": 6})
    monkeypatch.setattr("sys.stdout.isatty", lambda: True)
    code, out, err = cli("data", "check", root)
    assert (code, err) == (2, "")
    assert out.count("error: ") == 1


def test_a_search_refuses_wrong_packing_with_its_mend(cli, home: Path):
    root = fill(home / "images", {"": 1, "top/cat": 6, "top/dog": 5})
    code, _, err = cli("--target", "nano33ble", "--data", root)
    assert code == 2
    assert err.count("\n") == 1
    assert "The command below leaves out 1 of 12 images." in err
    assert err.endswith(f" tune data check {root}/top\n")


def test_groups(cli, home: Path):
    root = home / "images"
    for number in range(40):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        picture(number).save(folder / f"clip{number // 4}-{number}.png")
    code, out, _ = cli("data", "check", root, "--group-by", "^(clip[0-9]+)")
    assert code == 0
    assert "--group-by gives 10 groups" in out
    code, _, err = cli("data", "check", root, "--group-by", "clip")
    assert code == 2
    assert "without a group" in err


def test_a_run_keeps_the_groups(cli, home: Path):
    """Nothing fits so little RAM, so the search ends before any training."""
    root = fill(home / "images", {"a": 8, "b": 8})
    arguments = ("--target", "nano33ble", "--data", root, "--ram-kb", "0.2")
    assert cli(*arguments, "--group-by", r"(\d)\.png")[0] == 3
    code, _, err = cli(*arguments, "--group-by", "(x)")
    assert code == 2
    assert "names no group in any of 16 names" in err


def test_bare_data_prints_help(cli):
    code, out, err = cli("data")
    assert (code, err) == (0, "")
    assert "check" in out
    assert "stats" in out


@pytest.mark.parametrize("seed", range(3))
def test_odd_images_never_end_in_a_traceback(cli, home: Path, seed: int):
    root = home / "images"
    for number, (ending, content, _) in enumerate(odd_files(40, seed)):
        folder = root / "ab"[number % 2]
        folder.mkdir(parents=True, exist_ok=True)
        (folder / f"{number}{ending}").write_bytes(content)
    code, out, err = cli("data", "check", root)
    assert (code, err) == (0, "")
    assert "cannot be read" in out
