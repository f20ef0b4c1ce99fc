"""The space of a search that begins with trained weights: their layers with a new head.

Searched are the backbone where there are several, the resolution, the dropout before the new
classifier, and the training: which share of the epochs trains the classifier alone, and at which
rate the rest learns afterwards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from tuner.errors import SpecError
from tuner.spec import (
    TRAINED_WELL,
    Backbone,
    Candidate,
    Choices,
    Context,
    Preprocessing,
    StartingPoint,
    at_side,
    draw_loss,
    draw_training,
    resolutions,
    with_head,
)

TRANSFER = "transfer"
"""Name of the space in a run."""

FROZEN_SHARES = (0.1, 0.2, 0.4, 1.0)
UNFROZEN_RATES = (0.1, 0.3, 1.0)
"""Lower ones learned too little: 0.03 lost to training from scratch (docs/transfer.md)."""

STARTING = {"frozen_share": 0.2, "unfrozen_rate": 0.3}
"""Of starting points; measured with one net (docs/transfer.md)."""


class TransferSpace:
    """A SearchSpace over backbones.

    Args:
        backbones: at least one, of different names.
    """

    def __init__(self, backbones: Sequence[Backbone]) -> None:
        self._backbones = {backbone.name: backbone for backbone in backbones}

    def draw(self, choices: Choices, context: Context) -> Candidate:
        """Make one candidate."""
        names = tuple(self._backbones)
        name = choices.categorical("backbone", names) if len(names) > 1 else names[0]
        backbone = self._backbones[name]
        wanted = choices.ordered("resolution", self._all_sides(context))
        sides = _sides(backbone, context)
        side = next((item for item in reversed(sides) if item <= wanted), sides[0])
        square = context.image_height == context.image_width
        crop = "stretch" if square else choices.categorical("crop", ("stretch", "center"))
        preprocessing = _preprocessing(backbone, side, center=crop == "center")
        dropout = choices.ordered("dropout", (0.0, 0.1, 0.2, 0.3, 0.4))
        layers = at_side(backbone.architecture, preprocessing)
        training = draw_loss(choices, draw_training(choices))
        frozen = choices.ordered("frozen_share", FROZEN_SHARES)
        rate = choices.ordered("unfrozen_rate", UNFROZEN_RATES) if frozen < 1.0 else 1.0
        return Candidate(
            preprocessing=preprocessing,
            architecture=with_head(layers, backbone.head, dropout, context.outputs),
            training=replace(
                training,
                weights=backbone.weights_at(side),
                frozen_share=frozen,
                unfrozen_rate=rate,
            ),
        )

    def starting_points(self, context: Context) -> Sequence[StartingPoint]:
        """Each backbone, from the largest input to the smallest."""
        return tuple(
            StartingPoint(
                name=name,
                sizes=tuple(self._table(name, side) for side in _sides(backbone, context)[::-1]),
            )
            for name, backbone in self._backbones.items()
        )

    def _table(self, name: str, side: int) -> dict[str, Any]:
        return {**TRAINED_WELL, **STARTING, "backbone": name, "resolution": side}

    def _all_sides(self, context: Context) -> tuple[int, ...]:
        found = [_sides(backbone, context) for backbone in self._backbones.values()]
        return tuple(sorted(set().union(*found)))


def _sides(backbone: Backbone, context: Context) -> tuple[int, ...]:
    """Sides of the input, ascending: those with weights, or those about as large as they were for.

    Nothing is upsampled, unless the images are smaller than all that there are weights for. Filters
    know things at the size they had: a net for 32 pixels brought 4 to 7 points there and
    nothing at 12 (tests/benchmarks/transfer.py). So a net of a known side serves from half of it
    to twice, or as near to that as the images are.
    """
    if backbone.sides:
        longest = min(context.image_height, context.image_width)
        return tuple(side for side in backbone.sides if side <= longest) or backbone.sides[:1]
    possible = [side for side in resolutions(context) if _readable(backbone, side)]
    own = backbone.trained_side
    if own is not None:
        possible = [side for side in possible if own / 2 <= side <= 2 * own] or possible[-1:]
    return tuple(possible) or (backbone.architecture.input.height,)


def _readable(backbone: Backbone, side: int) -> bool:
    try:
        at_side(backbone.architecture, _preprocessing(backbone, side, center=False))
    except SpecError:
        return False
    return True


def _preprocessing(backbone: Backbone, side: int, *, center: bool) -> Preprocessing:
    return Preprocessing(
        height=side,
        width=side,
        colour="grey" if backbone.architecture.input.channels == 1 else "rgb",
        crop="center" if center else "stretch",
        scaling=backbone.scaling,
    )
