"""What the bundled search spaces promise beyond the contract of all (tuner/testing)."""

from __future__ import annotations

import pytest

from tuner import catalog
from tuner.cost.lower import lower
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Context, Limits, suits
from tuner.testing.specs import context_of

SPACES = sorted(catalog.names("search_spaces"))
DRAWS = 18


def context(target: str, side: int) -> Context:
    return context_of(target, side, side + side // 3, colour="grey" if side == 50 else "rgb")


def test_small_and_large_devices_get_different_ranges():
    space = catalog.load_module("search_spaces", "mixed_stages")

    def device(ram_bytes: int, accelerated: bool) -> Context:
        return Context(
            limits=Limits(ram_bytes=ram_bytes, flash_bytes=1 << 20),
            kernels="reference",
            accelerated=accelerated,
            image_height=320,
            image_width=320,
            colour="rgb",
            outputs=3,
        )

    small, large = device(20 << 10, False), device(512 << 20, True)
    assert max(space.resolutions(small)) < min(max(space.resolutions(large)), 128)
    assert max(space.widths(small)) < max(space.widths(large))


@pytest.mark.parametrize("name", [name for name in SPACES if name != "mixed_stages"])
def test_starting_points_go_from_much_work_to_little(name: str) -> None:
    where = context("k230", 224)
    space = catalog.load_space(name)
    for point in space.starting_points(where):
        macs = [
            lower(space.draw(TableChoices(table), where).architecture).macs for table in point.sizes
        ]
        assert macs[0] == max(macs)
        assert macs[-1] <= 1.01 * min(macs), "the order is by width before rounding"


def test_wide_nets_suit_large_images_on_large_devices() -> None:
    wide = catalog.load_space("wide_mobile")
    assert suits(wide, context("k230", 96))
    assert suits(wide, context("raspberry-pi-4", 224))
    assert not suits(wide, context("k230", 50))
    assert not suits(wide, context("nano33ble", 224))
    assert suits(catalog.load_space("residual"), context("rp2040", 12))


def test_widths_of_wide_nets_are_multiples_of_eight() -> None:
    where = context("k230", 224)
    space = catalog.load_space("wide_mobile")
    for seed in range(DRAWS):
        net = space.draw(RandomChoices(seed), where).architecture
        widths = [node.op.filters for node in net.nodes if node.op.kind == "conv2d"]
        assert all(width % 8 == 0 for width in widths)
        assert net.input.height >= 96
