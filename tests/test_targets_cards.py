"""Contract of every target that the package carries: one file is one device, fully sourced."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tuner.catalog import load_module, load_target, names
from tuner.spec.target import NEED_SOURCES

SHIPPED = Path(__file__).parent.parent / "targets"
FILES = sorted(SHIPPED.glob("*.toml"))

EXPECTED = {
    "k230", "nano33ble", "esp32", "esp-eye", "esp32s3", "rp2040", "stm32f746", "stm32h743",
    "portenta-h7", "nicla-vision", "raspberry-pi-4", "linux-x86", "grove-vision-v2", "alif-e7",
    "corstone300", "imx93", "teensy41",
}  # fmt: skip


def test_the_promised_targets_are_there() -> None:
    assert {path.stem for path in FILES} >= EXPECTED
    assert len(FILES) >= 23


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
class TestCard:
    def test_opens_with_a_card(self, path: Path) -> None:
        assert path.read_text().startswith("# ")

    def test_loads_under_its_name(self, path: Path) -> None:
        target = load_target(str(path))
        assert target.name == path.stem
        assert re.fullmatch(r"[a-z0-9-]+", target.name)
        assert len(target.name) <= 16

    def test_each_number_has_a_source(self, path: Path) -> None:
        target = load_target(str(path))
        for name in NEED_SOURCES:
            text = target.sources[name]
            # A public page or repository, or a statement that there is none.
            assert "assumed: " in text or re.search(r"\w[./]\w", text), (name, text)

    def test_reserved_sizes_say_that_they_are_assumed(self, path: Path) -> None:
        target = load_target(str(path))
        for name in ("ram_reserved_bytes", "flash_reserved_bytes"):
            assert target.sources[name].startswith("assumed: ")

    def test_leaves_a_model_something(self, path: Path) -> None:
        limits = load_target(str(path)).model_limits
        assert limits.ram_bytes is not None
        assert limits.flash_bytes is not None
        assert limits.ram_bytes >= 64 * 1024
        assert limits.flash_bytes >= 256 * 1024

    def test_an_accelerator_has_a_source(self, path: Path) -> None:
        target = load_target(str(path))
        if target.runtime == "ethos_u":
            assert re.search(r"\w[./]\w", target.sources["accelerator"])

    def test_its_runtime_exists_and_lists_its_kernels(self, path: Path) -> None:
        target = load_target(str(path))
        assert target.runtime in names("runtimes")
        assert target.kernels in load_module("runtimes", target.runtime).KERNELS
