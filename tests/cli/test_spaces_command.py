"""`tune spaces` and `tune spaces show`: complete, in 80 columns, and readable by programs."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from tuner.catalog import names
from tuner.cli.spaces import choice_rows, list_spaces, show_space
from tuner.errors import UnknownNameError

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


def test_a_broken_file_is_left_out_and_named(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    folder = home / "search_spaces"
    folder.mkdir()
    (folder / "half.py").write_text("def draw(choices, context): ...\n")
    (folder / "torn.py").write_text("def draw(choices, context:\n")
    for format in ("table", "json"):
        code, out, err = cli("spaces", "--format", format)
        assert code == 0
        assert "residual" in out
        assert "torn" not in out
        assert "half" not in out
        assert f"Left out: {folder / 'torn.py'}, line 1: SyntaxError: " in err
        assert re.search(r"Left out: .*'half' \(.*half.py\) to define 'starting_points'", err)
    code, out, err = cli("spaces", "show", "torn")
    assert (code, out) == (2, "")
    assert "line 1: SyntaxError: " in err


SPACE = """\"\"\"Two convolutions.\"\"\"
from tuner.spec import (
    Candidate, Conv2D, Layers, Preprocessing, StartingPoint, TrainingSettings,
)
def draw(choices, context):
    pixels = Preprocessing(height=4, width=4, colour="grey")
    net = Layers(pixels)
    width = choices.ordered("width", (8, 16))
    for block in range(choices.ordered("blocks", (1, 2))):
        net.add(f"block{block}", Conv2D(filters=width))
    architecture = net.end(choices, context.outputs)
    return Candidate(
        preprocessing=pixels, architecture=architecture, training=TrainingSettings(epochs=3)
    )
def starting_points(context):
    return (StartingPoint(name="Two", sizes=({"blocks": 2, "width": 8},)),)
"""


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ('{"blocks": 2', '{"block": 2', "expected the starting point 'Two' to name choices that "
         "draw asks for. Received: 'block'. Did you mean 'blocks'? Known: width, blocks"),
        ("(8, 16)", "(16, 8)", "mine.py, line 8: expected the options of the ordered choice "
         "'width' to ascend. Received: 16, 8. What has no order is categorical."),
        ('"blocks", (', '"width", (', "mine.py, line 9: expected a choice to be asked for once a "
         "draw. Received: 'width'."),
        ("filters=width", "filter=width", "mine.py, line 10: TypeError: Conv2D.__init__() got an "
         "unexpected keyword argument 'filter'"),
        ("filters=width", "filters=0", "mine.py, line 10: expected filters"),
        ('(StartingPoint(name="Two"', '(StartingPoint(title="Two"', "mine.py, line 16: TypeError"),
        ('(StartingPoint(name="Two", sizes=(', '(("Two", (', "starting_points of the search space "
         "'mine' to return StartingPoints. Received: ('Two', ({'blocks': 2, 'width': 8},))."),
        ("    return Candidate", "    Candidate", "draw of the search space 'mine' to return a"),
    ],
)  # fmt: skip
def test_a_space_that_breaks_the_contract_is_told_where(
    cli: Callable[..., tuple[int, str, str]], home: Path, old: str, new: str, words: str
) -> None:
    (home / "search_spaces").mkdir()
    path = home / "search_spaces" / "mine.py"
    assert old in SPACE
    path.write_text(SPACE.replace(old, new))
    code, out, err = cli("spaces", "show", "mine")
    assert (code, out) == (2, "")
    assert "search space 'mine'" in err
    assert words in err
    search = ("--target", "nano33ble", "--data", "sample:digits", "--max-candidates", 1)
    assert cli(*search, "--space", "mine") == (2, "", err), "before anything is trained"
    assert not list(home.glob("runs/*/run.json"))


def test_a_search_names_the_line_of_a_space_that_fails(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    (home / "search_spaces").mkdir()
    (home / "search_spaces" / "mine.py").write_text(SPACE.replace("filters=", "filter="))
    arguments = ("--target", "nano33ble", "--data", "sample:digits", "--max-candidates", 1)
    code, _, err = cli(*arguments, "--space", "mine")
    assert code == 2
    assert "The search space 'mine' failed at" in err
    assert "mine.py, line 10: TypeError" in err
    assert not list(home.glob("runs/*/run.json"))


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
