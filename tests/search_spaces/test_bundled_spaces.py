"""What the bundled search spaces promise beyond the contract of all (tuner/testing)."""

from __future__ import annotations

import dataclasses

import pytest

from tuner import catalog
from tuner.cost.lower import lower
from tuner.cost.training import train_seconds_per_image
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Context, Limits, Throughput, suits
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


def test_resnet8_is_a_starting_point_of_devices_that_it_fits() -> None:
    """With 64 kB of arena, which 55 kB of it are needed for; MLPerf Tiny's net has 12.5M MACs."""
    space = catalog.load_module("search_spaces", "residual")
    where = dataclasses.replace(context_of("nano33ble", 32, 32), outputs=10)
    where = dataclasses.replace(where, limits=Limits(ram_bytes=64_000, flash_bytes=1 << 20))
    points = {point.name: point for point in space.starting_points(where)}
    nets = [
        lower(space.draw(TableChoices(table), where).architecture)
        for table in points["ResNet-8"].sizes
    ]
    assert 12_501_632 in [net.macs for net in nets]


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


@pytest.mark.parametrize(
    ("space", "point", "size"),
    [
        ("residual", "ResNet-8", (20, 16)),  # by work alone (12, 32)
        ("inverted_residual", "MCUNet kind", (20, 0.25)),  # by work alone (12, 0.5)
        ("inverted_residual", "MobileNetV2, the first five stages", (20, 0.25)),  # (12, 0.5)
        ("plain_convolutions", "VGG kind", (24, 16)),
        ("plain_convolutions", "CMSIS-NN kind", (24, 32)),
    ],
)
def test_in_a_short_search_a_small_image_is_not_given_up_for_width(
    space: str, point: str, size: tuple[int, float]
) -> None:
    # 4 minutes of CIFAR-10 on two cores: half of them for 30 epochs of 8,667 images
    allowed_seconds = 120 / 30 / 8667
    machine = Throughput(compute_ratio=0.7, memory_ratio=1.03, overhead_ratio=1.2)
    where = context_of("nano33ble", 32, 32)
    module = catalog.load_space(space)
    (found,) = [item for item in module.starting_points(where) if item.name == point]
    first = next(
        table
        for table in found.sizes
        if train_seconds_per_image(
            module.draw(TableChoices(table), where).architecture, 64, machine
        )
        <= allowed_seconds
    )
    scale = first.get("width", first.get("multiplier"))
    assert (first["resolution"], scale) == size


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
