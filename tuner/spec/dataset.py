"""What a run knows of its data: source, fingerprint, classes, sizes and split."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tuner.spec.candidate import Colour

Split = Literal["training", "validation", "test"]
SPLITS: tuple[Split, ...] = ("training", "validation", "test")


@dataclass(frozen=True, slots=True, kw_only=True)
class DatasetSpec:
    """Labelled images, as data.

    Args:
        source: absolute path of a folder, zip or `.npz`, or `sample:NAME`.
        fingerprint: hash of all images, labels and of the split.
        classes: names in label order.
        counts: images by split.
        image_height: median height, pixels.
        image_width: median width, pixels.
        colour: `rgb` unless every image is grey.
        split_seed: seed of the stratified split, where the source does not give one.
        left_out: files that could not be read, each with its reason.
        group_by: regular expression whose first group, in a file's name, names the images that
            stay in one split; empty for none.
        class_counts: images by split, of each class in label order; empty in runs of earlier
            versions.
        doubt: what to look at before training, each with its mend in a line of its own; empty if
            nothing.
    """

    source: str
    fingerprint: str
    classes: tuple[str, ...]
    counts: Mapping[str, int]
    image_height: int
    image_width: int
    colour: Colour
    split_seed: int
    left_out: tuple[str, ...] = ()
    group_by: str = ""
    class_counts: Mapping[str, tuple[int, ...]] = field(default_factory=dict)
    doubt: str = ""

    @property
    def warnings(self) -> list[str]:
        """What to look at before training: a text each, its mend in an indented line of it."""
        lines: list[str] = []
        for line in filter(None, self.doubt.split("\n")):
            if line.startswith(" ") and lines:
                lines[-1] += f"\n{line}"
            else:
                lines.append(f"Check the data: {line}")
        return lines
