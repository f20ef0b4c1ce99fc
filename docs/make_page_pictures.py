"""Make the pictures of the report page in README.md: `make page-pictures RUN=runs/NAME`.

Needs the extra `browser` and the system's Chromium.

Usage: make_page_pictures.py RUN-FOLDER OUTPUT-FOLDER
"""

from __future__ import annotations

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image

from tuner.dashboard.report_page import report_page
from tuner.engine.board import board
from tuner.store.runs import RunFolder

SIZES = {"report.png": (1280, 600), "report_phone.png": (390, 844)}
"""Width and height of the upper part of the page, pixels."""

FIGURE = "report_figure.png"
"""Accuracy against cost, as wide as the first of these."""

COLOURS = 128
"""Of the palette; keeps a picture well below 200 KB."""


def take(page: Path, output: Path) -> None:
    """Open the page in light colours at each size and keep its upper part, and one figure."""
    from playwright.sync_api import sync_playwright

    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        raise SystemExit("Expected Chromium; there is none. Install it: apt-get install chromium")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        for name, (width, height) in SIZES.items():
            opened = browser.new_page(
                viewport={"width": width, "height": height}, color_scheme="light"
            )
            opened.goto(page.as_uri())
            opened.wait_for_selector("#cost-figure .js-plotly-plot, #cost-figure.js-plotly-plot")
            opened.wait_for_timeout(1000)  # the figures' transitions
            keep(opened.screenshot(), output / name)
            if width == max(width for width, _ in SIZES.values()):
                keep(opened.locator("section:has(#cost-figure)").screenshot(), output / FIGURE)
        browser.close()


def keep(screenshot: bytes, path: Path) -> None:
    """Write a screenshot with few colours."""
    picture = Image.open(io.BytesIO(screenshot)).convert("RGB")
    picture.quantize(COLOURS).save(path, optimize=True)
    print(f"Written: {path}, {path.stat().st_size / 1000:.0f} KB")


if __name__ == "__main__":
    folder, output = RunFolder(Path(sys.argv[1])), Path(sys.argv[2])
    output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as scratch:
        page = Path(scratch) / "page.html"
        page.write_text(report_page(folder, board(folder)), encoding="utf-8")
        take(page, output)
