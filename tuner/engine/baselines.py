"""Known nets of the field as they were published: what a search should beat.

* ResNet-8 at up to 32x32, the image classification model of MLPerf Tiny (Banbury et al.,
  arXiv 2106.07597);
* MobileNetV1 0.25 at up to 96x96, its visual wake words model (Howard et al., arXiv 1704.04861).

Their layers come from the spaces that have them as starting points, as wide as published whatever
the device. They read the images at their own size where that is smaller, and are trained as
starting points are.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from tuner import catalog
from tuner.propose.choices import TableChoices
from tuner.spec import Candidate, Context, DatasetSpec, Limits


@dataclass(frozen=True, slots=True, kw_only=True)
class KnownNet:
    """A published net in the words of a space.

    Args:
        space: that has its layers as a starting point.
        point: the starting point's name.
        published: the choices that make it the net that was published.
    """

    space: str
    point: str
    published: Mapping[str, Any]


KNOWN_NETS: Mapping[str, KnownNet] = {
    "ResNet-8": KnownNet(
        space="residual", point="ResNet-8", published={"resolution": 32, "width": 16}
    ),
    "MobileNetV1 0.25": KnownNet(
        space="wide_mobile",
        point="MobileNetV1",
        published={"resolution": 96, "multiplier": 0.25},
    ),
}


def draw_known_net(
    name: str, dataset: DatasetSpec, outputs: int
) -> tuple[Candidate, dict[str, Any]]:
    """The candidate of a known net, and the choices that made it.

    Args:
        name: one of KNOWN_NETS.
        dataset: its images' size and colour are read.
        outputs: logits of the task.
    """
    net = KNOWN_NETS[name]
    space = catalog.load_space(net.space)
    context = Context(
        limits=Limits(),
        kernels="",
        accelerated=True,
        image_height=dataset.image_height,
        image_width=dataset.image_width,
        colour=dataset.colour,
        outputs=outputs,
    )
    points = {point.name: point for point in space.starting_points(context)}
    choices = TableChoices({**points[net.point].sizes[0], **net.published})
    return space.draw(choices, context), choices.taken
