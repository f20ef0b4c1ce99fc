"""How int8 is made of a trained net: the recipes that are tried, as data."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Ranges = Literal["min-max", "averaged", "percentile", "least-error"]
"""What the int8 values of a tensor cover, of its values over the calibration images: all of them;
the mean of the images' lowest and of their highest; all but `LEFT_OUT` at each end; those whose
rounding and cutting off err least."""

LEFT_OUT = 1e-4
"""Share of a tensor's values beyond each end of a `percentile` range."""

EQUALIZED = "equalized channels"


@dataclass(frozen=True, slots=True, kw_only=True)
class Recipe:
    """One way from float32 to int8.

    Args:
        ranges: of the activations.
        equalized: channels are scaled so that one range fits all of a tensor; see
            `FloatNet.equalize`.
        corrected: biases make up for what rounding the weights adds in the mean; see
            `FloatNet.correct_biases`.
        fine_logits: logits too small to matter are cut off; see `logits_range`.
    """

    ranges: Ranges
    equalized: bool = False
    corrected: bool = True
    fine_logits: bool = True

    @property
    def words(self) -> str:
        """What distinguishes it from the other recipes; a stable name."""
        steps = {
            EQUALIZED: self.equalized,
            "corrected biases": self.corrected,
            "fine logits": self.fine_logits,
        }
        return ", ".join([self.ranges, *(step for step, taken in steps.items() if taken)])


RECIPES = (
    Recipe(ranges="min-max", corrected=False, fine_logits=False),
    Recipe(ranges="min-max"),
    Recipe(ranges="min-max", equalized=True),
    Recipe(ranges="averaged"),
    Recipe(ranges="percentile"),
    Recipe(ranges="percentile", equalized=True),
    Recipe(ranges="least-error"),
    Recipe(ranges="least-error", equalized=True),
)
"""What is tried. The first one is what TFLite's converter does by itself."""
