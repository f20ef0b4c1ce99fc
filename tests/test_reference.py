"""The generated pages of docs/reference say what the code says."""

from __future__ import annotations

import importlib.util
import re
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent
PAGES = ("commands.md", "targets.md", "spaces.md")


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
    helpers = {"__init__", "main", "complete", "show", "run", "search"}
    assert {name.split()[1] for name in sections if " " in name} == files - helpers
    assert "| `--time` | text |" in sections["tune"]
    assert "`target`, `int8`, `float32` | `target` |" in sections["tune"]
    assert "tune select RUN CANDIDATE [OPTIONS]" in sections["tune select"]
    assert "| `-o`, `--output` | path |" in sections["tune select"]
    assert "| `k230` |" in sections["tune export"]


def test_links_lead_to_sections(written: dict[str, str]) -> None:
    for text in written.values():
        headings = {heading.replace(" ", "-") for heading in re.findall(r"^## (.+)$", text, re.M)}
        assert set(re.findall(r"\]\(#(.+?)\)", text)) <= headings
