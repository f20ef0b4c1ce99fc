"""The report page: what it carries, and that nothing of it is fetched or misread."""

from __future__ import annotations

import base64
import json
import re
import tomllib
import zlib
from dataclasses import replace
from fnmatch import fnmatch
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from report_support import IMAGES, made_up_run
from tuner import catalog
from tuner.dashboard.report_page import SCRIPTS, embedded_json, report_page
from tuner.dashboard.rows import report_rows
from tuner.engine.board import board
from tuner.spec import Paired, builds_key, to_plain
from tuner.store.runs import RunFolder

HOSTILE = (
    "</script><b>bold",
    "<!-- <script>",
    "a&amp;b",
    '"onload=x',
    "\u2028é",
    "@@style@@",
)


class Page(HTMLParser):
    """The tags of a page, and the text of its scripts by id."""

    def __init__(self, text: str) -> None:
        super().__init__(convert_charrefs=True)
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: dict[str, str] = {}
        self._script = ""
        self.feed(text)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag == "script":
            self._script = dict(attrs).get("id") or "program"
            self.scripts[self._script] = ""

    def handle_data(self, data: str) -> None:
        if self._script:
            self.scripts[self._script] += data

    def handle_endtag(self, tag: str) -> None:
        if tag == "script":
            self._script = ""

    def json(self, name: str) -> Any:
        return json.loads(self.scripts[name])

    def unpacked(self, name: str) -> str:
        return zlib.decompress(base64.b64decode(self.scripts[name])).decode()


def page_of(folder: RunFolder) -> Page:
    return Page(report_page(folder, board(folder)))


def fitting_and_scored(folder: RunFolder) -> int:
    results = folder.results()
    return sum(bool(result.builds) and result.costs["nano33ble"].fits for result in results)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> RunFolder:
    return made_up_run(tmp_path_factory.mktemp("runs") / "parts", 44, classes=HOSTILE)


@pytest.fixture(scope="module")
def text(folder: RunFolder) -> str:
    return report_page(folder, board(folder))


@pytest.fixture(scope="module")
def page(text: str) -> Page:
    return Page(text)


def test_columns_are_those_of_the_report(folder: RunFolder, page: Page) -> None:
    data = page.json("data-board")
    rows = report_rows(board(folder))
    columns = data["columns"]
    assert columns["id"] == [row["id"] for row in rows]
    assert columns["rank"] == list(range(1, 45))
    assert {status: columns["status"].count(status) for status in set(columns["status"])} == {
        "ok": 4, "failed": 4, "stopped": 36,
    }  # fmt: skip
    for at, row in enumerate(rows):
        cost = row["costs"]["nano33ble"]
        assert columns["ram_bytes"][at] == pytest.approx(cost["ram_bytes"], rel=1e-5)
        assert columns["fits"][at] == cost["fits"]
        for split in ("validation", "test"):
            for precision in ("int8", "float32"):
                found = columns["accuracy"][split][precision][at]
                expected = row["accuracy"][split].get(precision)
                assert found == (expected and pytest.approx(expected, rel=1e-5))
    assert data["target"]["limits"]["ram_bytes"] > 0
    assert data["run"]["ended"]
    assert data["refused"] == {"RAM": 88}


def test_the_front_is_of_what_fits(page: Page) -> None:
    data = page.json("data-board")
    columns = data["columns"]
    ranks = data["fronts"]["validation"]["int8"]["ram_bytes"]
    assert ranks
    costs = [columns["ram_bytes"][rank - 1] for rank in ranks]
    shares = [columns["accuracy"]["validation"]["int8"][rank - 1] for rank in ranks]
    assert costs == sorted(costs)
    assert shares == sorted(shares)
    assert all(columns["fits"][rank - 1] for rank in ranks)
    assert not data["fronts"]["test"]["float32"]["ram_bytes"]  # only int8 was tested


def test_details_hold_the_report_row_and_the_layers(folder: RunFolder, page: Page) -> None:
    details = json.loads(page.unpacked("details-0"))
    rows = json.loads(json.dumps(report_rows(board(folder))))
    assert [item["row"] for item in details] == rows
    for item in details:
        layers = item["layers"]
        assert [layer["index"] for layer in layers] == list(range(1, len(layers) + 1))
        cost = item["row"]["costs"]["nano33ble"]
        assert sum(layer["macs"] for layer in layers) == cost["macs"]
        peak = max(layers, key=lambda layer: layer["ram_bytes"])
        assert peak["ram_bytes"] <= cost["ram_bytes"]
    trained = details[0]
    assert trained["rung_ends"] == [len(trained["row"]["curve"])]
    assert (
        sum(map(sum, trained["row"]["builds"]["int8"]["accuracy"]["test"]["confusion"])) == IMAGES
    )
    assert (
        trained["choices"]["resolution"] == trained["row"]["candidate"]["preprocessing"]["height"]
    )


def test_figures_are_plotly_json(folder: RunFolder, page: Page) -> None:
    figures = page.json("data-figures")
    for cost in ("ram_bytes", "flash_bytes", "latency_ms"):
        figure = figures["cost"][cost]
        assert [trace["meta"] for trace in figure["data"]] == ["over", "stopped", "ok", "front"]
        assert not any(trace.get("x") for trace in figure["data"])
    assert "(limit " in figures["cost"]["ram_bytes"]["layout"]["xaxis"]["title"]["text"]
    best = figures["history"]["int8"]["data"][1]["y"]
    assert best == sorted(best)
    assert len(best) == fitting_and_scored(folder)
    assert sum(figures["importance"]["data"][0]["x"]) <= 100.001


def test_hostile_names_stay_data(text: str, page: Page) -> None:
    assert page.json("data-board")["run"]["classes"] == list(HOSTILE)
    assert "<b>" not in text
    names = {tag for tag, _ in page.tags}
    assert names == {
        "html", "head", "meta", "link", "title", "style", "body", "header", "div", "h1", "p",
        "button", "noscript", "main", "section", "fieldset", "legend", "label", "input", "select",
        "table", "thead", "tbody", "nav", "span", "h2", "option", "dialog", "script",
    }  # fmt: skip


def test_the_path_of_the_data_is_not_told(text: str, page: Page) -> None:
    assert page.json("data-board")["run"]["data"] == "pictures"
    assert "somebody" not in text
    assert "somebody" not in page.unpacked("details-0")


def test_nothing_is_fetched(text: str, page: Page) -> None:
    for tag, attributes in page.tags:
        for name in ("src", "href", "srcset", "action", "data", "poster"):
            assert attributes.get(name) in (None, "data:,"), (tag, name)
    policy = next(
        attributes["content"]
        for _, attributes in page.tags
        if attributes.get("http-equiv") == "Content-Security-Policy"
    )
    assert policy is not None
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    program = page.scripts["program"] + re.findall(r"<style>(.*?)</style>", text, re.S)[0]
    for word in ("http:", "https:", "url(", "@import", "fetch(", "XMLHttpRequest", "innerHTML"):
        assert word not in program
    assert "Plotly, Inc." in page.unpacked("plotly")[:400]


def test_every_place_is_filled(folder: RunFolder, text: str) -> None:
    without = text.replace(embedded_json("@@style@@"), "")
    assert not re.search(r"@@\w+@@", without)


def test_data_cannot_close_a_script() -> None:
    for name in (*HOSTILE, "not UTF-8: \udcff"):
        written = embedded_json({name: name})
        assert not set("<>&") & set(written)
        assert written.isascii()
        assert json.loads(written) == {name: name}


def test_a_run_without_results(tmp_path: Path) -> None:
    page = page_of(made_up_run(tmp_path / "empty", 0))
    assert page.json("data-board")["columns"]["id"] == []
    assert page.json("data-figures")["importance"] is None
    assert "details-0" not in page.scripts


def test_a_run_that_goes_on(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "going", 30)
    path = folder.path / "events.jsonl"
    lines = path.read_text().splitlines(keepends=True)
    path.write_text(
        "".join(line for line in lines if '"stopped"' not in line and "ended" not in line)
    )
    page = page_of(folder)
    run = page.json("data-board")["run"]
    assert not run["ended"]
    assert run["unfinished"] == 26
    # Rungs of what is still in work count for the best so far.
    points = page.json("data-figures")["history"]["int8"]["data"][0]
    assert len(points["x"]) == fitting_and_scored(folder) > 20


def test_the_page_shows_the_board_that_it_is_given(folder: RunFolder) -> None:
    by_float32 = board(folder, "float32")
    few = replace(by_float32, rows=by_float32.rows[:3])
    page = Page(report_page(folder, few)).json("data-board")
    assert page["run"]["precision"] == page["run"]["rank_by"] == "float32"
    assert page["run"]["unfinished"] == 0, "what was filtered is not in work"
    assert page["target"]["option"] == ""
    other = Page(report_page(folder, board(folder, target_name="stm32h743")))
    assert other.json("data-board")["target"]["option"] == " --target stm32h743"


def test_candidates_carry_their_log_and_the_end_of_what_failed(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "failing", 12)
    failed, stopped = (
        next(result.candidate for result in folder.results() if result.status == status)
        for status in ("failed", "stopped")
    )
    for candidate in (failed, stopped):  # a later step of the latter failed
        log = folder.candidate(candidate.id) / "error.log"
        log.parent.mkdir(parents=True)
        log.write_text("x" * 5000 + "the reason")
    details = json.loads(page_of(folder).unpacked("details-0"))
    logs = {item["row"]["id"]: item["log"].split("\n") for item in details}
    assert len(logs) == 12
    assert logs[stopped.id].pop().endswith("xxthe reason")
    *happened, error = logs.pop(failed.id)
    assert error.endswith("xxthe reason")
    assert len(error) == 4000
    assert happened[-1].endswith("failed: out of memory")
    for lines in logs.values():
        assert lines[0].endswith("  proposed, random")
        assert re.search(r" (rung 0|ok), \d+ epochs in \d+ s", "\n".join(lines))


def test_another_target(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "other", 12)
    page = Page(report_page(folder, board(folder, target_name="rp2040")))
    data = page.json("data-board")
    assert data["target"]["name"] == "rp2040"
    details = json.loads(page.unpacked("details-0"))
    assert set(details[0]["row"]["costs"]) == {"nano33ble", "rp2040"}


def test_what_the_targets_simulator_gave_is_the_targets_accuracy(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "kpu", 30, target=catalog.load_target("k230"))
    best = next(row.result for row in board(folder).rows if row.result.status == "ok")
    own = replace(
        best.builds["int8"],
        runtime="nncase",
        kernels="kpu",
        recipe="by the compiler",
        artifact="nncase.kmodel",
        paired={"validation": Paired(images=50, gained=0, lost=5)},
    )
    event = {"event": "measured", "index": best.index, "measured": {}, "over": {},
             "builds": {builds_key("int8", "nncase", "kpu"): to_plain(own)}}  # fmt: skip
    with (folder.path / "events.jsonl").open("a") as log:
        log.write(json.dumps(event) + "\n")
    data = page_of(folder).json("data-board")
    shares = data["columns"]["accuracy"]["validation"]
    row = data["columns"]["id"].index(best.candidate.id)
    assert shares["target"][row] == pytest.approx(shares["int8"][row] - 0.1, abs=1e-5)
    others = [number for number in range(len(shares["int8"])) if number != row]
    assert all(shares["target"][other] == shares["int8"][other] for other in others)
    tested = data["columns"]["accuracy"]["test"]
    assert not any(tested["target"]), "int8 is shown for all, as the simulator runs none of these"
    assert any(tested["int8"])
    assert "target: the best, compiled (by the compiler)" in data["target"]["simulated"]
    assert "on 50 validation images" in data["target"]["simulated"]


def test_the_wheel_carries_the_page() -> None:
    root = Path(__file__).resolve().parents[2]
    globs = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["setuptools"][
        "package-data"
    ]["tuner.dashboard"]
    files = [f"page/{path.name}" for path in (root / "tuner" / "dashboard" / "page").iterdir()]
    assert {
        f"page/{name}"
        for name in (*SCRIPTS, "page.html", "style.css", "compare.html", "compare.js")
    } == set(files)
    assert all(any(fnmatch(name, glob) for glob in globs) for name in files)


@pytest.mark.slow
def test_five_thousand_candidates_stay_small(tmp_path: Path) -> None:
    folder = made_up_run(tmp_path / "many", 5000)
    text = report_page(folder, board(folder))
    assert len(text) < 10_000_000
    assert len(Page(text).json("data-board")["columns"]["id"]) == 5000
