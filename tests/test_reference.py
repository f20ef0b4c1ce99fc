"""The generated pages of docs/reference say what the code says, and all pages what there is."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("commands.md", "targets.md", "spaces.md")
TEXTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").rglob("*.md"))]
COMMAND = re.compile(r"^(?:\$ )?(tune(?: \S+)+)|`(tune [^`]+)`", re.M)


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("make_reference", ROOT / "docs/make_reference.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def written(generator: ModuleType) -> dict[str, str]:
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(ROOT)
        patch.delenv("TUNE_PATH", raising=False)
        return generator.pages()


@pytest.mark.parametrize("name", PAGES)
def test_the_page_is_fresh(name: str, written: dict[str, str]) -> None:
    page = ROOT / "docs" / "reference" / name
    fresh = page.is_file() and page.read_text(encoding="utf-8") == written[name]
    assert fresh, f"docs/reference/{name} is stale; run: make docs"


def test_there_is_no_page_beside_these(written: dict[str, str]) -> None:
    assert set(written) == set(PAGES) == {path.name for path in (ROOT / "docs/reference").iterdir()}


def test_each_target_and_space_has_a_row_and_a_section(written: dict[str, str]) -> None:
    for kind, suffix in (("targets", "toml"), ("search_spaces", "py")):
        page = written["targets.md" if kind == "targets" else "spaces.md"]
        stems = sorted(path.stem for path in (ROOT / kind).glob(f"*.{suffix}"))
        assert re.findall(r"^## (.+)$", page, re.M) == stems
        assert re.findall(r"^\| \[`(.+?)`\]", page, re.M) == stems


def test_every_command_is_there_with_its_options(written: dict[str, str]) -> None:
    page = written["commands.md"]
    sections = dict(re.findall(r"^## (tune.*)\n((?:(?!^## ).*\n?)*)", page, re.M))
    files = {path.stem for path in (ROOT / "tuner/cli").glob("*.py")}
    helpers = {
        "__init__",
        "main",
        "background",
        "board_table",
        "complete",
        "epochs",
        "given",
        "output",
        "show",
        "run",
        "search",
    }
    assert {name.split()[1] for name in sections if " " in name} == files - helpers
    assert "| `--time` | text |" in sections["tune"]
    assert "`target`, `int8`, `float32` | `target` |" in sections["tune"]
    assert "tune select RUN CANDIDATE [OPTIONS]" in sections["tune select"]
    assert "| `-o`, `--output` | path |" in sections["tune select"]
    assert "| `k230` |" in sections["tune export"]


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(path: Path) -> None:
    for link in re.findall(r"\]\(([^)]+)\)", path.read_text(encoding="utf-8")):
        place, _, anchor = link.partition("#")
        if "://" in place:
            continue
        found = (path.parent / place) if place else path
        assert found.exists(), link
        if anchor:
            headings = re.findall(r"^#+ (.+)$", found.read_text(encoding="utf-8"), re.M)
            assert anchor in {heading.lower().replace(" ", "-") for heading in headings}, link


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_commands_in_the_text_exist(path: Path, generator: ModuleType) -> None:
    known = {
        name: {
            flag
            for parameter, _, info, _ in generator._parameters(call)
            if isinstance(info, generator.OptionInfo)
            for flag in generator._flags(parameter, info)
        }
        for name, call in generator._commands(generator.app, ("tune",))
    }
    for found in COMMAND.finditer(path.read_text(encoding="utf-8")):
        words = (found[1] or found[2]).split()
        depth = max(depth for depth in (1, 2, 3) if " ".join(words[:depth]) in known)
        command, rest = " ".join(words[:depth]), words[depth:]
        if command in ("tune", "tune data"):  # what follows is an option or nothing
            assert not rest or not rest[0].isidentifier(), found[0]
        options = {word.partition("=")[0] for word in rest if word.startswith("-")}
        assert options <= known[command] | {"--help", "--debug"}, found[0]
