"""What search spaces share: the ranges of a device, preprocessing, training and a net by layers.

A space may use these parts or write its own; they are data and arithmetic only.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

from tuner.spec.architecture import Architecture, Node
from tuner.spec.candidate import Augmentation, Preprocessing, TrainingSettings
from tuner.spec.operators import (
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Operator,
)
from tuner.spec.space import Choices, Context

SIDES = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
"""Sides of a square input, pixels."""

WIDTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
"""Filters of a first convolution."""

EPOCHS = 100
SGD_RATE = 8.0
"""A good learning rate of SGD with momentum, relative to AdamW's; see docs/search.md."""

AUGMENTATIONS = (
    Augmentation(),
    Augmentation(shift_fraction=0.125),
    Augmentation(shift_fraction=0.1, zoom_fraction=0.1, brightness_fraction=0.1),
    Augmentation(
        shift_fraction=0.1, zoom_fraction=0.15, rotate_degrees=12.0, brightness_fraction=0.2
    ),
)
"""By strength, 0 to 3; mirroring is a choice of its own."""

TRAINED_WELL: Mapping[str, str | int | float] = {
    "colour": "rgb",
    "crop": "center",
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.012,
    "augmentation": 1,
    "mirror": True,
    "dropout": 0.0,
    "weight_decay": 0.005,
}
"""Choices that starting points train with; measured in docs/search.md."""


def resolutions(context: Context, sides: Sequence[int] = SIDES) -> tuple[int, ...]:
    """Sides of the square input that the images and the device allow, ascending.

    Nothing is upsampled: no side is longer than the shorter side of the images. The grey input
    alone takes at most half of the RAM. Sides below a quarter of the largest are left out.

    Args:
        context: its image sizes and RAM are read.
        sides: to choose from, ascending, pixels; images smaller than all give their own side.
    """
    longest = min(context.image_height, context.image_width)
    found = sorted({side for side in sides if side <= longest} | {min(longest, sides[-1])})
    if context.limits.ram_bytes is not None:
        ram_bytes = context.limits.ram_bytes
        found = [side for side in found if side * side <= ram_bytes / 2] or found[:1]
    return tuple(side for side in found if side >= found[-1] / 4)


def widths(context: Context) -> tuple[int, ...]:
    """Filters of the first convolution that suit the device and the images, ascending.

    A small device gets narrow nets; an image of few pixels has little to tell to wide ones.
    """
    ram_bytes = context.limits.ram_bytes or 1 << 30
    widest = 12 if ram_bytes < 48 * 1024 else 24 if ram_bytes < 192 * 1024 else 48
    if context.accelerated:
        widest = 64
    widest = max(WIDTHS[0], min(widest, 2 * max(resolutions(context))))
    narrowest = 8 if context.accelerated and widest >= 16 else WIDTHS[0]
    return tuple(width for width in WIDTHS if narrowest <= width <= widest)


def multiple_of(divisor: int, channels: float) -> int:
    """The nearest multiple of `divisor`, at least one of it and at least 90 % of `channels`.

    MobileNetV2's rule for widths that a multiplier scales (Sandler et al., arXiv 1801.04381, as
    keras.applications computes it).
    """
    rounded = max(divisor, int(channels + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * channels else rounded


def draw_preprocessing(
    choices: Choices, context: Context, sides: Sequence[int] | None = None
) -> Preprocessing:
    """Choose `resolution`, `colour` and, for images that are not square, `crop`.

    Args:
        choices: asked for those.
        context: the images are not changed to a larger size or to more colours.
        sides: of the input, ascending, pixels; None for `resolutions(context)`.
    """
    side = choices.ordered("resolution", resolutions(context) if sides is None else sides)
    colour = choices.categorical("colour", ("grey", "rgb")) if context.colour == "rgb" else "grey"
    square = context.image_height == context.image_width
    crop = "stretch" if square else choices.categorical("crop", ("stretch", "center"))
    return Preprocessing(
        height=side,
        width=side,
        colour="rgb" if colour == "rgb" else "grey",
        crop="center" if crop == "center" else "stretch",
    )


def draw_training(choices: Choices) -> TrainingSettings:
    """Choose augmentation, optimizer, its rate and decay, and the batch.

    The learning rate is drawn on AdamW's scale and is `SGD_RATE` times that for SGD.
    """
    strength = choices.ordered("augmentation", (0, 1, 2, 3))
    mirrored = choices.categorical("mirror", (False, True))
    base = AUGMENTATIONS[strength]
    sgd = choices.categorical("optimizer", ("adamw", "sgd")) == "sgd"
    rate = choices.floating("learning_rate", 0.003, 0.02, log=True)
    return TrainingSettings(
        epochs=EPOCHS,
        schedule="linear",
        batch_size=choices.ordered("batch_size", (32, 64, 128)),
        optimizer="sgd" if sgd else "adamw",
        learning_rate=rate * (SGD_RATE if sgd else 1.0),
        weight_decay=choices.ordered("weight_decay", (0.0, 0.005, 0.02)),
        augmentation=Augmentation(
            flip_horizontal=mirrored,
            shift_fraction=base.shift_fraction,
            zoom_fraction=base.zoom_fraction,
            rotate_degrees=base.rotate_degrees,
            brightness_fraction=base.brightness_fraction,
        ),
    )


def draw_loss(choices: Choices, training: TrainingSettings) -> TrainingSettings:
    """Choose `label_smoothing` and `class_weights`, by which the loss counts the labels."""
    smoothing = choices.ordered("label_smoothing", (0.0, 0.05, 0.1))
    balanced = choices.categorical("class_weights", ("none", "balanced")) == "balanced"
    return replace(
        training, label_smoothing=smoothing, class_weights="balanced" if balanced else "none"
    )


def largest_first(
    form: Mapping[str, Any], sides: Sequence[int], scale: str, scales: Sequence[float]
) -> tuple[dict[str, Any], ...]:
    """A form at the sizes that shrink the image no more than the net, from the most work to least.

    Multiply-accumulates grow with side x side x width x width, so the order is that of
    side x width; of equal ones the larger side comes first. That order alone prefers wide nets on
    tiny images, which of equal work take the least memory traffic and so are the first to fit the
    training time: ResNet-8 with 32 filters at 12x12 before 16 filters at 20x20, on CIFAR-10. That
    buys nothing: after 4 minutes of search for the Nano 33 BLE on a busy machine, 24 filters at
    12x12 had 68.6 % on the test images and took 237 KB of flash, 8 filters at 32x32 69.0 % and
    77 KB (one run each, standard error .5). So a side that is a smaller part of the largest side
    than the width is of the widest is left out; at the least width all sides stay, so that what
    fits at all still fits.

    Args:
        form: choices that make the form; they are trained by `TRAINED_WELL`.
        sides: of the input, pixels.
        scale: the choice that all widths of the net are in proportion to.
        scales: its values.
    """
    longest, widest, narrowest = max(sides), max(scales), min(scales)
    sizes = sorted(
        (
            (side, value)
            for side, value in itertools.product(sides, scales)
            if value == narrowest or side * widest >= value * longest
        ),
        key=lambda size: (-size[0] * size[1], -size[0]),
    )
    return tuple(
        {**TRAINED_WELL, **form, "resolution": side, scale: value} for side, value in sizes
    )


class Layers:
    """A net, layer by layer: each reads the last one unless it is told what to read.

    Args:
        preprocessing: gives the height, width and channels of the input.
    """

    def __init__(self, preprocessing: Preprocessing) -> None:
        image = Input(
            height=preprocessing.height, width=preprocessing.width, channels=preprocessing.channels
        )
        self._nodes = [Node(name="image", op=image)]
        self._sizes = {"image": (image.height, image.width, image.channels)}

    @property
    def last(self) -> str:
        """Name of the last layer."""
        return self._nodes[-1].name

    @property
    def side(self) -> int:
        """Shorter side of the last layer's map, pixels."""
        return min(self._sizes[self.last][:2])

    def channels_of(self, name: str) -> int:
        """Channels that a layer gives."""
        return self._sizes[name][2]

    def add(self, name: str, op: Operator, *inputs: str) -> str:
        """Add a layer that reads `inputs`, or the last one; returns its name."""
        inputs = inputs or (self.last,)
        height, width, channels = self._sizes[inputs[0]]
        if isinstance(op, Conv2D | DepthwiseConv2D):
            height, width = -(-height // op.stride), -(-width // op.stride)
        if isinstance(op, Conv2D):
            channels = op.filters
        if isinstance(op, MaxPool2D | AveragePool2D):
            height, width = height // op.window[0], width // op.window[1]
        self._nodes.append(Node(name=name, op=op, inputs=inputs))
        self._sizes[name] = (height, width, channels)
        return name

    def without_end(self) -> Architecture:
        """The layers so far, the last one as the output."""
        return Architecture(nodes=tuple(self._nodes), outputs=(self.last,))

    def end(self, choices: Choices, outputs: int, *, flat: bool = False) -> Architecture:
        """Choose `dropout` and add the classifier.

        Args:
            choices: asked for the dropout.
            outputs: logits.
            flat: the classifier reads each position of the map, not the mean of all.
        """
        self.add("flat" if flat else "pool", Flatten() if flat else GlobalAveragePool2D())
        dropout = choices.ordered("dropout", (0.0, 0.1, 0.2, 0.3, 0.4))
        if dropout > 0:
            self.add("dropout", Dropout(rate=dropout))
        self.add("logits", Dense(units=outputs))
        return Architecture(nodes=tuple(self._nodes), outputs=("logits",))
