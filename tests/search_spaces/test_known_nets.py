"""Starting points that bear the name of a published net have its layers."""

from __future__ import annotations

import pytest

from tuner import catalog
from tuner.cost.latency_nets import architecture
from tuner.cost.lower import lower
from tuner.propose.choices import TableChoices
from tuner.spec import Architecture, Context, Conv2D, Dense, DepthwiseConv2D, Limits


def context(side: int, outputs: int) -> Context:
    return Context(
        limits=Limits(),
        kernels="cmsis-nn",
        accelerated=True,
        image_height=side,
        image_width=side,
        colour="rgb",
        outputs=outputs,
    )


def layers(net: Architecture) -> list[tuple[object, ...]]:
    """Kind, width, kernel and stride of all layers with weights."""
    found: list[tuple[object, ...]] = []
    for node in net.nodes:
        if isinstance(node.op, Conv2D):
            found.append(("conv", node.op.filters, node.op.kernel, node.op.stride))
        elif isinstance(node.op, DepthwiseConv2D):
            found.append(("depthwise", node.op.kernel, node.op.stride))
        elif isinstance(node.op, Dense):
            found.append(("dense", node.op.units))
    return found


@pytest.mark.parametrize(
    ("space", "point", "scale", "published", "side", "outputs"),
    [
        ("residual", "ResNet-8", {"width": 16}, "resnet8", 32, 10),
        ("wide_mobile", "MobileNetV1", {"multiplier": 0.25}, "mobilenet_v1 0.25 96 3 2", 96, 2),
        ("wide_mobile", "MobileNetV1", {"multiplier": 1.0}, "mobilenet_v1 1.0 224 3 9", 224, 9),
        ("inverted_residual", "MobileNetV2", {"multiplier": 0.35},
         "mobilenet_v2 0.35 96 3 10", 96, 10),
        ("inverted_residual", "MobileNetV2", {"multiplier": 1.0},
         "mobilenet_v2 1.0 224 3 10", 224, 10),
    ],
)  # fmt: skip
def test_a_starting_point_has_the_layers_of_its_net(
    space: str, point: str, scale: dict[str, float], published: str, side: int, outputs: int
) -> None:
    where = context(side, outputs)
    module = catalog.load_space(space)
    (found,) = [item for item in module.starting_points(where) if item.name == point]
    (table,) = [table for table in found.sizes if {**table, **scale, "resolution": side} == table]
    ours = module.draw(TableChoices(table), where).architecture
    theirs = architecture(published)
    assert layers(ours) == layers(theirs)
    sums = [sum(node.op.kind == "add" for node in net.nodes) for net in (ours, theirs)]
    assert sums[0] == sums[1]
    assert lower(ours).macs == lower(theirs).macs
