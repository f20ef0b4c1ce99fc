"""The report page in Chromium, where it and playwright are installed."""

from __future__ import annotations

import re
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from report_support import IMAGES, add_images, made_up_run, small_pictures
from tuner.dashboard.report_page import report_page
from tuner.engine.board import board

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser")
HOSTILE = ("</script><script>window.harmed = 1</script>", "<img src=x onerror='harmed = 1'>", "c")

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(CHROMIUM is None, reason="no chromium; apt-get install chromium"),
]


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api", reason="pip install 'edge-tuner[browser]'")
    with api.sync_playwright() as play:
        browser = play.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield browser
        browser.close()


@pytest.fixture(scope="module")
def monkeypatch_module() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        yield patch


@pytest.fixture(scope="module")
def files(
    tmp_path_factory: pytest.TempPathFactory, monkeypatch_module: pytest.MonkeyPatch
) -> dict[int, Path]:
    """Pages by their number of candidates, with pictures of what the best took for another."""
    monkeypatch_module.setenv("TUNE_HOME", str(tmp_path_factory.mktemp("home")))
    found = {}
    for count in (60, 5000):
        folder = made_up_run(
            tmp_path_factory.mktemp("runs") / f"run{count}", count, classes=HOSTILE
        )
        add_images(folder, str(small_pictures(folder.path / "data.npz", HOSTILE, side=96)))
        found[count] = folder.path / "page.html"
        found[count].write_text(report_page(folder, board(folder)))
    return found


@pytest.fixture
def opened(browser: Any, files: dict[int, Path]) -> Iterator[Callable[..., Any]]:
    """Opens a page; at the end, nothing must have been fetched and nothing have failed."""
    contexts, requests, errors = [], [], []

    def open_page(count: int, **settings: Any) -> Any:
        context = browser.new_context(**settings)
        contexts.append(context)
        page = context.new_page()
        page.on("request", lambda request: requests.append(request.url))
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.on("console", lambda said: errors.append(said.text) if said.type == "error" else None)
        page.goto(files[count].as_uri())
        page.wait_for_function("document.querySelectorAll('.js-plotly-plot').length === 3")
        return page

    yield open_page
    for context in contexts:
        context.close()
    assert errors == []
    fetched = [url for url in requests if not url.startswith(("data:", "blob:"))]
    assert all(url.startswith("file://") and url.endswith("page.html") for url in fetched)


def rows(page: Any) -> int:
    return int(page.evaluate("document.querySelectorAll('#board tbody tr').length"))


def test_filters_sorting_and_switches(opened: Callable[..., Any]) -> None:
    page = opened(60, viewport={"width": 1280, "height": 900})
    assert rows(page) == 25
    page.select_option("#status", "failed")
    assert page.inner_text("#count") == "1 to 5 of 5 (60 in all)"
    page.select_option("#status", "")
    page.fill("#text", "96x96 rgb")
    shown = page.locator("#board tbody tr").all_inner_texts()
    assert shown
    assert all("96x96 rgb" in text for text in shown)
    page.fill("#text", "nothing like it")
    assert page.inner_text("#count") == "No candidate passes the filters."
    page.fill("#text", "")
    page.click("#board th button:text('RAM')")
    sizes = page.locator("#board tbody tr td:nth-child(6)").all_inner_texts()
    kilobytes = [float(re.findall(r"[\d.]+", size)[0]) for size in sizes if "KB" in size]
    assert kilobytes == sorted(kilobytes)
    page.click("#split span:text('test')")
    assert "never used to choose" in page.inner_text("#basis")


def test_a_candidate_opens_with_its_layers_and_confusion(opened: Callable[..., Any]) -> None:
    page = opened(60)
    page.click("#board tbody tr:first-child button")
    page.wait_for_selector("dialog[open] .js-plotly-plot")
    text = page.inner_text("dialog")
    assert "peak ▲" in text
    assert re.search(r"Take it with tune select \S+ c[0-9a-f]{11}\.", text)
    assert all(heading in text for heading in ("Costs", "Layers", "Learning curve", "JSON"))
    assert all(name in text for name in HOSTILE)
    layers = page.locator("dialog table:has(th:text-is('int8 signal to noise')) tbody tr")
    assert layers.nth(1).locator("td").last.inner_text() == "40 dB"
    assert f"of {IMAGES} validation images 3 lost, 1 gained" in text
    assert page.evaluate("window.harmed") is None
    first = page.inner_text("#candidate-title")
    page.click("dialog .bar button:text('Next')")
    page.wait_for_function("title => byId('candidate-title').textContent !== title", arg=first)
    page.click("dialog .bar button:text('Close')")
    assert not page.evaluate("byId('candidate').open")
    assert "#" not in page.url
    page.click("#board tbody tr:first-child button")
    page.wait_for_selector("dialog[open]")
    page.go_back()
    page.wait_for_function("!byId('candidate').open")


def test_what_a_candidate_took_for_something_else_is_seen(opened: Callable[..., Any]) -> None:
    page = opened(60)
    page.select_option("#status", "ok")
    page.click("#board tbody tr:first-child button")
    page.wait_for_selector("dialog[open] .mistakes img")
    shown = page.locator("dialog .mistakes").all()
    assert len(shown) == 2, "validation and test"
    assert shown[0].locator("figure").count() == 24
    widths = page.evaluate(
        "Promise.all([...document.querySelectorAll('.mistakes img')].map("
        "(image) => image.decode().then(() => image.naturalWidth)))"
    )
    assert len(widths) == 48
    assert set(widths) == {80}
    caption = shown[0].locator("figcaption").first.inner_text()
    assert any(name in caption for name in HOSTILE)
    assert "x_validation[" in caption
    assert page.evaluate("window.harmed") is None
    page.click("dialog .bar button:text('Close')")
    page.select_option("#status", "stopped")
    page.click("#board tbody tr:first-child button")
    page.wait_for_selector("dialog[open] h3:text('Settings')")
    assert page.locator("dialog .mistakes").count() == 0


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_shows_it_without_scrolling_sideways(
    opened: Callable[..., Any], scheme: str
) -> None:
    page = opened(60, viewport={"width": 390, "height": 844}, color_scheme=scheme)
    assert page.evaluate("document.documentElement.dataset.theme") == scheme
    assert page.evaluate("document.documentElement.scrollWidth") <= 390
    assert page.evaluate("byId('board').scrollWidth - byId('board').parentElement.clientWidth") <= 0
    page.click("#theme")
    assert page.evaluate("document.documentElement.dataset.theme") != scheme
    page.select_option("#status", "ok")
    page.click("#board tbody tr:first-child button")
    page.wait_for_selector("dialog[open] .mistakes img")
    assert page.evaluate("byId('candidate').scrollWidth - byId('candidate').clientWidth") <= 0


def test_five_thousand_open_and_filter_within_a_second(opened: Callable[..., Any]) -> None:
    page = opened(5000)
    opening = page.evaluate(
        "performance.getEntriesByType('navigation')[0].domContentLoadedEventEnd"
    )
    filtering = page.evaluate(
        """() => new Promise((resolve) => {
          const begun = performance.now();
          byId("cost-figure").once("plotly_afterplot", () => resolve(performance.now() - begun));
          byId("text").value = "96x96";
          byId("text").dispatchEvent(new Event("input"));
        })"""
    )
    print(f"5,000 candidates: open in {opening:.0f} ms, filter in {filtering:.0f} ms")
    assert opening < 1000
    assert filtering < 1000
