"""The catalog: where names are looked for, what counts as an entry, and the text of its errors."""

from __future__ import annotations

import pickle
import sys
from pathlib import Path

import pytest

from tuner import catalog
from tuner.catalog import load_exporter, load_module, load_space, load_target, names
from tuner.errors import SpecError, UnknownNameError

CHECKOUT = Path(catalog.__file__).parent.parent
BOARD = (CHECKOUT / "targets" / "nano33ble.toml").read_text()


@pytest.fixture(autouse=True)
def _elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An empty current folder and no search path, whatever the machine has."""
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("TUNE_PATH", raising=False)


def write(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def board(name: str, **changes: str) -> str:
    text = BOARD.replace('name = "nano33ble"', f'name = "{name}"', 1)
    for old, new in changes.items():
        assert old in text
        text = text.replace(old, new, 1)
    return text


def test_the_package_carries_targets_and_spaces_from_any_folder() -> None:
    assert "k230" in names("targets")
    assert list(names("targets")) == sorted(names("targets"))
    assert names("search_spaces")
    assert load_target("nano33ble").cpu == "Cortex-M4F"


def test_look_up_order_is_here_then_tune_path_then_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    monkeypatch.setenv("TUNE_PATH", f"{first}:{second}")
    bundled = names("targets")["nano33ble"]
    write(second / "targets" / "nano33ble.toml", board("nano33ble"))
    assert names("targets")["nano33ble"] == second / "targets" / "nano33ble.toml"
    write(first / "targets" / "nano33ble.toml", board("nano33ble"))
    assert names("targets")["nano33ble"] == first / "targets" / "nano33ble.toml"
    write(Path("targets/nano33ble.toml"), board("nano33ble"))
    assert names("targets")["nano33ble"] == Path("targets/nano33ble.toml")
    assert bundled != names("targets")["nano33ble"]


def test_a_target_by_path_may_have_any_name(tmp_path: Path) -> None:
    path = write(tmp_path / "my board.toml", board("my-board"))
    assert load_target(str(path)).name == "my-board"
    write(Path("local.toml"), board("my-board"))
    assert load_target("local.toml").name == "my-board"


def test_a_named_target_must_be_called_as_its_file() -> None:
    write(Path("targets/other.toml"), board("board"))
    with pytest.raises(SpecError) as caught:
        load_target("other")
    assert str(caught.value) == (
        "targets/other.toml: expected name = 'other', as the file is called. "
        "Received: name='board'."
    )


def test_an_unknown_target_gets_close_matches_and_the_file_to_add() -> None:
    with pytest.raises(UnknownNameError) as caught:
        load_target("nano33")
    text = str(caught.value)
    assert text.startswith("Unknown target 'nano33'. Did you mean 'nano33ble'? Known: alif-e7, ")
    assert text.endswith(". Or add targets/nano33.toml.")


def test_unknown_modules_name_their_kind() -> None:
    with pytest.raises(UnknownNameError, match=r"^Unknown search space 'x'\..*search_spaces/x.py"):
        load_module("search_spaces", "x")
    with pytest.raises(UnknownNameError, match=r"^Unknown runtime 'ncase'. Did you mean 'nncase'"):
        load_module("runtimes", "ncase")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clock_mhz = ", "not a TOML file: Invalid value (at end of document)."),
        (board("x", clock_mhz="clock_mzh"),
         "unknown field 'clock_mzh'. Did you mean 'clock_mhz'?"),
        (board("x", **{'cpu = "Cortex-M4F"': ""}),
         "the field 'cpu' is missing; it has to be given."),
        (board("x", **{"clock_mhz = 64": "clock_mhz = '64'"}),
         "clock_mhz: expected a number. Received: '64'."),
        (board("x", **{"size_bytes = 262_144": "size_bytes = 1.5"}),
         "ram_regions[0]: size_bytes: expected a whole number. Received: 1.5."),
        (board("x", **{"[[ram_regions]]": "[ram_regions]"}),
         "ram_regions: expected a list. Received: {"),
        (board("x", **{"flash_bytes = \"arduino": "cpu = \"arduino"}),
         "expected a source for flash_bytes: where the number comes from"),
    ],
)  # fmt: skip
def test_errors_in_a_target_name_file_and_field(text: str, message: str) -> None:
    write(Path("mine.toml"), text)
    with pytest.raises(SpecError) as caught:
        load_target("mine.toml")
    assert str(caught.value).startswith("mine.toml: ")
    assert message in str(caught.value)


def test_files_that_cannot_be_read() -> None:
    with pytest.raises(SpecError, match=r"^none.toml: there is no such file.$"):
        load_target("none.toml")
    Path("folder.toml").mkdir()
    with pytest.raises(SpecError, match=r"^folder.toml: expected a TOML file. Received a folder.$"):
        load_target("folder.toml")
    Path("latin.toml").write_bytes(b'name = "caf\xe9"')
    with pytest.raises(SpecError, match=r"^latin.toml: expected UTF-8 text. Byte 11 is not.$"):
        load_target("latin.toml")


def test_helpers_and_private_files_are_no_runtimes() -> None:
    runtimes = Path("runtimes")
    write(runtimes / "_private.py", "KERNELS = frozenset()\ndef cost(): ...\n")
    write(runtimes / "__init__.py", "KERNELS = frozenset()\ndef cost(): ...\n")
    write(runtimes / "interpreter.py", '"""Shared by several; see KERNELS and cost."""\n')
    write(runtimes / "mine.py", "KERNELS: frozenset[str] = frozenset()\ndef cost(): ...\n")
    found = names("runtimes")
    assert "mine" in found
    assert "nncase" in found
    assert not {"_private", "__init__", "interpreter"} & set(found)


def test_a_drop_in_is_imported_once_under_a_stable_name_and_can_be_pickled() -> None:
    write(
        Path("search_spaces/my_space.py"),
        "class Mark:\n    pass\ndef draw(choices, context):\n    return Mark()\n",
    )
    module = load_module("search_spaces", "my_space")
    assert load_module("search_spaces", "my_space") is module
    assert module.__name__.startswith("tuner_dropin_search_spaces_my_space_")
    assert sys.modules[module.__name__] is module
    assert isinstance(pickle.loads(pickle.dumps(module.Mark())), module.Mark)


def test_bundled_modules_are_imported_the_usual_way() -> None:
    assert load_module("runtimes", "nncase").__name__ == "tuner.runtimes.nncase"


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("def draw(:\n    pass\n", "line 1: SyntaxError: "),
        ("def draw(a, b): ...\n\n1 / 0\n", "line 3: ZeroDivisionError: division by zero."),
        ("def draw(a, b): ...\nimport nothing_like_it\n", "line 2: ModuleNotFoundError: No module"),
    ],
)
def test_errors_in_a_drop_in_name_file_and_line(body: str, message: str) -> None:
    path = write(Path("search_spaces/broken.py"), body)
    with pytest.raises(SpecError) as caught:
        load_module("search_spaces", "broken")
    assert str(caught.value).startswith(f"{path.resolve()}, {message}")


def test_a_drop_in_without_a_function_names_its_guide() -> None:
    write(Path("search_spaces/half.py"), "def draw(choices, context): ...\n")
    with pytest.raises(SpecError, match=r"'starting_points'; see docs/guides/own-space\.md\.$"):
        load_space("half")
    write(Path("exporters/half.py"), "def export(model, version, folder): ...\n")
    with pytest.raises(SpecError) as caught:
        load_exporter("half")
    assert str(caught.value) == (
        f"Expected the exporter 'half' ({Path('exporters/half.py').resolve()}) to define 'run'; "
        "see docs/guides/own-exporter.md."
    )


def test_a_broken_drop_in_can_be_mended() -> None:
    path = write(Path("search_spaces/mended.py"), "def draw(a, b): ...\n1 / 0\n")
    with pytest.raises(SpecError):
        load_module("search_spaces", "mended")
    path.write_text("def draw(a, b): ...\nANSWER = 42\n")
    assert load_module("search_spaces", "mended").ANSWER == 42
