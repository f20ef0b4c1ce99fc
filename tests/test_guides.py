"""The complete files that the guides begin with work as they stand."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from pictures_support import fill
from tuner import catalog
from tuner.spec import Input
from tuner.spec.operators import OPERATORS
from tuner.store.models import ModelFolder
from tuner.testing.specs import context_of
from walk_support import tune

ROOT = Path(__file__).parent.parent
GUIDES = ROOT / "docs" / "guides"


def write_example(guide: str, root: Path) -> Path:
    """Write the first file of a guide below a folder, where the guide puts it."""
    text = (GUIDES / guide).read_text(encoding="utf-8")
    found = re.search(r"^`([\w/.-]+)`\n```(?:toml|python)\n(.*?)^```$", text, re.M | re.S)
    assert found, f"{guide} has no block under a line with its path"
    path = root / found[1]
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(found[2], encoding="utf-8")
    return path


@pytest.fixture
def shelf(
    home: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> Path:
    """A folder outside the current one that `$TUNE_PATH` names."""
    folder = tmp_path_factory.mktemp("shelf")
    monkeypatch.setenv("TUNE_PATH", str(folder))
    return folder


def test_own_data(home: Path) -> None:
    script = write_example("own-data.md", home)
    fill(home / "pictures", {"day": 12, "night": 12})
    files = sorted(path.relative_to(home / "pictures") for path in home.rglob("*.png"))
    rows = [f"{path},{path.parent.name}" for path in files]
    (home / "pictures" / "labels.csv").write_text("\n".join(["file,label", *rows]))
    subprocess.run([sys.executable, script, "pictures/labels.csv", "images"], cwd=home, check=True)
    report = json.loads(tune(home, "data", "stats", "images", "--format", "json").stdout)
    counts = {row["name"]: row["images"] for row in report["classes"]}
    assert counts == {"day": 12, "night": 12}


def test_own_target(shelf: Path, home: Path) -> None:
    from tuner.engine.search import SearchRequest, prepare_run

    name = write_example("own-target.md", shelf).stem
    assert name not in {path.stem for path in (ROOT / "targets").iterdir()}
    assert catalog.load_target(name).title in tune(home, "targets", "show", name).stdout
    run = prepare_run(SearchRequest(targets=(name,), data="sample:digits", max_candidates=2))
    assert [target.name for target in run.spec().targets] == [name]


def test_own_space(shelf: Path, home: Path) -> None:
    from tuner.cost.lower import lower
    from tuner.propose.choices import RandomChoices
    from tuner.train.build import build_keras

    name = write_example("own-space.md", shelf).stem
    assert "starting points: DS-CNN" in tune(home, "spaces", "show", name).stdout
    space = catalog.load_space(name)
    for seed, target in enumerate(("rp2040", "nano33ble", "k230")):
        candidate = space.draw(RandomChoices(seed), context_of(target, 96, 128))
        assert lower(candidate.architecture).macs > 0
    assert build_keras(candidate.architecture).output_shape == (None, 5)


def test_own_space_lists_every_operator_as_it_is() -> None:
    text = (GUIDES / "own-space.md").read_text(encoding="utf-8")
    told = {
        name: re.findall(r"`([^`]+)`", re.sub(r"\(.*?\)", "", cell))
        for name, cell in re.findall(r"^\| `(\w+)` \| (.*) \|$", text, re.M)
    }
    assert told == {
        operator.__name__: [
            item.name
            if item.default is dataclasses.MISSING
            else f"{item.name}={item.default!r}".replace("'", '"')
            for item in dataclasses.fields(operator)
        ]
        for operator in OPERATORS.values()
        if operator is not Input
    }


def test_own_exporter_names_fields_that_a_version_has(small_model: ModelFolder) -> None:
    version = small_model.read()
    text = (GUIDES / "own-exporter.md").read_text(encoding="utf-8")
    paths = re.findall(r"`(version\.[^`]+)`", text)
    assert "version.dataset.classes" in paths
    for path in paths:
        value: object = version
        for name, key in re.findall(r"\.(\w+)|\[\"(\w+)\"\]", path):
            value = getattr(value, name) if name else value[key]
        assert value
    (row,) = re.findall(r"^  \| `version.template.preprocessing` \| (.*?) \|$", text, re.M)
    for name in ("height", "width", "colour", "crop", "scaling"):
        assert f"`{name}`" in row
        assert hasattr(version.template.preprocessing, name)


def test_own_exporter(shelf: Path, small_model: ModelFolder, home: Path) -> None:
    from tuner.models.export import export

    name = write_example("own-exporter.md", shelf).stem
    folder = export(small_model, [name], home / "out")
    report = json.loads((folder / "export_report.json").read_text())
    assert report["passed"]
    assert [row["format"] for row in report["artifacts"]] == [name]
    header = (folder / "digits.h").read_text()
    size = (small_model.path / "int8.tflite").stat().st_size
    assert header.count("0x") == size
    assert f"model_data_size = {size};" in header
    assert "// input: 8 x 8 pixels, grey" in header
    for label in small_model.read().dataset.classes:
        assert f'    "{label}",' in header


def test_the_contract_tests_take_them(shelf: Path, home: Path) -> None:
    """As the guides say: without a checkout or a new test, once `$TUNE_PATH` names their folder."""
    kinds = {"target": "targets", "space": "spaces", "exporter": "exporters"}
    names = [write_example(f"own-{kind}.md", shelf).stem for kind in kinds]
    done = contract_tests(home, "--collect-only", "-q")
    for name, kind in zip(names, kinds.values(), strict=True):
        found = [line for line in done.stdout.splitlines() if name in line]
        assert len(found) >= 2, f"the contract of {kind} does not take {name}"
        assert all(line.startswith(f"test_{kind}.py") for line in found)


def test_a_drop_in_that_breaks_its_contract_fails(shelf: Path, home: Path) -> None:
    path = write_example("own-space.md", shelf)
    text = path.read_text(encoding="utf-8")
    path.write_text(text.replace("net.end(choices, context.outputs)", "net.end(choices, 7)"))
    done = contract_tests(home, "-k", f"valid and {path.stem}", code=1)
    assert re.search(r"assert \[\(7,\)\] == \[\(\d+,\)\]", done.stdout), done.stdout


@pytest.mark.parametrize(
    ("old", "new", "test", "words"),
    [
        ('{"blocks": 4}', '{"block": 4}', "guide", "Received: 'block'. Did you mean 'blocks'?"),
        ("(2, 3, 4, 5, 6)", "(6, 5, 4, 3, 2)", "guide", "ordered choice 'blocks' to ascend"),
        ("stride=2))", 'stride=__import__("random").choice((1, 2))))', "valid",
         "the same choices gave another net"),
    ],
)  # fmt: skip
def test_a_space_that_breaks_a_rule_fails(
    shelf: Path, home: Path, old: str, new: str, test: str, words: str
) -> None:
    path = write_example("own-space.md", shelf)
    text = path.read_text(encoding="utf-8")
    assert old in text
    path.write_text(text.replace(old, new))
    done = contract_tests(home, "-k", f"{test} and {path.stem}", code=1)
    assert words in done.stdout


def test_a_source_that_names_nothing_is_told_what_to_write(shelf: Path, home: Path) -> None:
    path = write_example("own-target.md", shelf)
    text = path.read_text(encoding="utf-8")
    public = "docs.zephyrproject.org 4.0.0 board grand_central_m4_express, 120 MHz"
    assert public in text
    words = ("-k", f"source and {path.stem}")
    path.write_text(text.replace(public, "my board's data sheet, 120 MHz"))
    done = contract_tests(home, *words, code=1)
    assert "name a public page or repository, or begin with 'assumed:'" in done.stdout
    path.write_text(text.replace(public, "assumed: data sheet of our own board, rev B"))
    contract_tests(home, *words)


def contract_tests(folder: Path, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-p", "no:cacheprovider", *words,
         "--pyargs", "tuner.testing"],
        cwd=folder, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == code, done.stdout + done.stderr
    return done
