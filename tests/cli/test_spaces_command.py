"""`tune spaces` and `tune spaces show`: complete, in 80 columns, and readable by programs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.catalog import names
from tuner.cli.spaces import choice_rows, list_spaces, show_space
from tuner.errors import SpecError, UnknownNameError

Captured = pytest.CaptureFixture[str]


def test_the_list_has_a_line_for_each_space_in_80_columns(capsys: Captured) -> None:
    list_spaces("table")
    lines = capsys.readouterr().out.splitlines()
    for name in names("search_spaces"):
        assert any(line.startswith(f"{name} ") for line in lines), name
    assert max(len(line) for line in lines) <= 80


@pytest.mark.parametrize("name", sorted(names("search_spaces")))
def test_one_space_shows_its_card_starting_points_and_choices(name: str, capsys: Captured) -> None:
    show_space(name, "json")
    row = json.loads(capsys.readouterr().out)
    show_space(name, "table")
    out = capsys.readouterr().out
    assert max(len(line) for line in out.splitlines()) <= 80
    flat = "".join(out.split())
    for text in (*row["card"], *row["starting_points"], row["choices"][0]["name"]):
        assert "".join(text.split()) in flat
    assert row["file"].endswith(f"{name}.py")


@pytest.mark.parametrize(
    "name",
    ["inverted_residual", "mixed_stages", "plain_convolutions", "residual", "wide_mobile"],
)
def test_a_bundled_space_names_its_source_and_known_nets(name: str, capsys: Captured) -> None:
    show_space(name, "json")
    row = json.loads(capsys.readouterr().out)
    assert len(row["starting_points"]) >= 3
    card = "\n".join(row["card"])
    assert "arXiv" in card
    assert "Assumptions:" in card
    resolution = next(item for item in row["choices"] if item["name"] == "resolution")
    assert resolution["kind"] == "ordered"
    assert resolution["options"] == sorted(resolution["options"])
    assert 96 in resolution["options"]
    rate = next(item for item in row["choices"] if item["name"] == "learning_rate")
    assert rate == {"name": "learning_rate", "kind": "floating", "options": [0.003, 0.02]}


def test_the_list_as_json_holds_what_show_gives(capsys: Captured) -> None:
    show_space("residual", "json")
    shown = json.loads(capsys.readouterr().out)
    list_spaces("json")
    assert shown in json.loads(capsys.readouterr().out)


def test_choices_that_differ_by_a_number_are_one_row() -> None:
    def choice(name: str, *options: object, kind: str = "ordered") -> dict[str, object]:
        return {"name": name, "kind": kind, "options": options}

    rows = choice_rows(
        [choice("kernel0", 3, 5), choice("mirror", False, True), choice("kernel1", 3, 5),
         choice("kernel2", 3), choice("rate", 0.5, 2.0, kind="floating")]
    )  # fmt: skip
    assert rows == [
        ("kernel0 to 1", "3, 5"), ("mirror", "no, yes"), ("kernel2", "3"), ("rate", "0.5 to 2"),
    ]  # fmt: skip


def test_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match="Did you mean 'residual'"):
        show_space("residuals", "table")


def test_a_file_that_lacks_a_function_is_named(home: Path) -> None:
    (home / "search_spaces").mkdir()
    (home / "search_spaces" / "mine.py").write_text("def draw(choices, context): ...\n")
    with pytest.raises(SpecError, match=r"'mine' \(.*mine.py\) to define 'starting_points'"):
        list_spaces("table")


def test_a_search_space_file_that_cannot_be_used_is_one_line(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    path = home / "mine.json"
    path.write_text('[{"inputBlocks": [], "dspBlocks": [], "learnBlocks": []}]')
    (home / "search_spaces").mkdir()
    (home / "search_spaces" / "empty.py").write_text(
        "def draw(choices, context): ...\ndef starting_points(context): return ()\n"
    )
    arguments = ("--target", "nano33ble", "--data", "sample:digits", "--max-candidates", 1)
    for name, words in (
        ("mine.json", "mine.json: nothing in it can be searched here."),
        ("none.json", "none.json: cannot be read: No such file or directory."),
        ("resid", "Unknown search space 'resid'. Did you mean 'residual'?"),
        (
            "empty",
            "Expected draw of the search space 'empty' to return a Candidate. Received: None.",
        ),
    ):
        code, _, err = cli(*arguments, "--space", name)
        assert code == 2
        assert words in err
        assert "Traceback" not in err
        assert not list(home.glob("runs/*/run.json"))
