from __future__ import annotations

import io

import pytest
from PIL import Image

from tuner.data import scan


def picture() -> bytes:
    scan._formats()  # registers the encoder too
    content = io.BytesIO()
    Image.new("RGB", (40, 30), (200, 10, 10)).save(content, "HEIF")
    return content.getvalue()


def test_a_picture_of_a_phone_is_decoded() -> None:
    facts = scan.facts_of(picture())
    assert (facts.problem, facts.kind, facts.width, facts.height) == ("", "HEIF", 40, 30)
    assert scan.facts_of(picture()[:60]).problem


def test_without_its_package_the_way_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    content = picture()
    formats = tuple(name for name in scan._formats() if name != "HEIF")
    monkeypatch.setattr(scan, "_formats", lambda: formats)
    assert scan.facts_of(content).problem == "HEIC: pip install pillow-heif, or save as JPEG"
    assert scan.facts_of(b"no picture").problem == "not an image, or damaged at its beginning"
