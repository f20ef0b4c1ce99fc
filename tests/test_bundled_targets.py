"""The bundled targets: those that were promised, and what they say beyond the contract of all."""

from __future__ import annotations

from pathlib import Path

import pytest

from tuner.catalog import load_target

SHIPPED = sorted((Path(__file__).parent.parent / "targets").glob("*.toml"))

EXPECTED = {
    "k230", "nano33ble", "esp32", "esp-eye", "esp32s3", "rp2040", "stm32f746", "stm32h743",
    "portenta-h7", "nicla-vision", "raspberry-pi-4", "linux-x86", "grove-vision-v2", "alif-e7",
    "corstone300", "imx93", "teensy41",
}  # fmt: skip


def test_the_promised_targets_are_there() -> None:
    assert {path.stem for path in SHIPPED} >= EXPECTED
    assert len(SHIPPED) >= 23


@pytest.mark.parametrize("path", SHIPPED, ids=lambda path: path.stem)
def test_reserved_sizes_say_that_they_are_assumed(path: Path) -> None:
    target = load_target(str(path))
    for name in ("ram_reserved_bytes", "flash_reserved_bytes"):
        assert target.sources[name].startswith("assumed: ")
