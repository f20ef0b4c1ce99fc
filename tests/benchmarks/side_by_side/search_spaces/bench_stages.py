"""The space that every tool of the side-by-side searches: small nets of equal stages.

A stem convolution, 2 to 4 stages, a global average pool and a classifier, for colour images of
32x32. A stage halves the map, by stride or by a max pool, until it is 4x4, widens it, and holds
one or two blocks; blocks are plain 3x3 convolutions or depthwise-separable ones. All choices are
asked for in every draw, so that the space has one shape for tools that want that.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from tuner.spec import (
    Architecture,
    Augmentation,
    Candidate,
    Choices,
    Context,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Operator,
    Preprocessing,
    StartingPoint,
    TrainingSettings,
)

RESOLUTIONS = (16, 24, 32)
WIDTHS = (8, 12, 16, 24, 32)
MAX_FILTERS = 256
SMALLEST_MAP = 4
EPOCHS = 240
WEIGHT_DECAY = 0.005
SGD_RATE = 8.0
"""A learning rate of SGD with momentum, relative to AdamW's."""

SCHEDULES: tuple[Literal["linear", "cosine", "constant"], ...] = ("linear", "cosine", "constant")
AUGMENTATIONS = {
    "none": Augmentation(),
    "flip": Augmentation(flip_horizontal=True),
    "flip+shift": Augmentation(flip_horizontal=True, shift_fraction=0.125),
}


def draw(choices: Choices, context: Context) -> Candidate:
    """Make one candidate; the first option of each choice makes the smallest."""
    side = choices.ordered("resolution", RESOLUTIONS)
    kind = choices.categorical("kind", ("separable", "plain"))
    stages = choices.ordered("stages", (2, 3, 4))
    width = choices.ordered("width", WIDTHS)
    growth = choices.ordered("growth", (1.5, 2.0))
    blocks = choices.ordered("blocks", (1, 2))
    pool = choices.categorical("downsample", ("stride", "pool")) == "pool"
    dropout = choices.ordered("dropout", (0.0, 0.1, 0.2, 0.3))
    nodes = [Node(name="image", op=Input(height=side, width=side, channels=3))]

    def add(name: str, op: Operator) -> None:
        nodes.append(Node(name=name, op=op, inputs=(nodes[-1].name,)))

    add("stem", Conv2D(filters=width))
    size = side
    for stage in range(stages):
        filters = min(MAX_FILTERS, round(width * growth ** (stage + 1) / 4) * 4)
        shrink = size > SMALLEST_MAP
        if shrink and pool:
            add(f"pool{stage}", MaxPool2D(size=2))
        for block in range(blocks):
            stride = 2 if shrink and not pool and block == 0 else 1
            name = f"stage{stage}_{block}"
            if kind == "plain":
                add(name, Conv2D(filters=filters, stride=stride))
            else:
                add(f"{name}_depthwise", DepthwiseConv2D(stride=stride))
                add(f"{name}_pointwise", Conv2D(filters=filters, kernel=1))
        if shrink:
            size = size // 2 if pool else -(-size // 2)
    add("pool", GlobalAveragePool2D())
    if dropout > 0:
        add("dropout", Dropout(rate=dropout))
    add("logits", Dense(units=context.outputs))
    schedule = choices.categorical("schedule", SCHEDULES)
    sgd = choices.categorical("optimizer", ("adamw", "sgd")) == "sgd"
    rate = choices.floating("learning_rate", 0.001, 0.02, log=True)
    return Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour="rgb"),
        architecture=Architecture(nodes=tuple(nodes), outputs=("logits",)),
        training=TrainingSettings(
            epochs=EPOCHS,
            batch_size=choices.ordered("batch_size", (32, 64, 128)),
            optimizer="sgd" if sgd else "adamw",
            learning_rate=rate * (SGD_RATE if sgd else 1.0),
            schedule=schedule,
            weight_decay=WEIGHT_DECAY,
            augmentation=AUGMENTATIONS[choices.categorical("augmentation", tuple(AUGMENTATIONS))],
        ),
    )


_TRAINED_WELL = {
    "batch_size": 64,
    "optimizer": "sgd",
    "learning_rate": 0.012,
    "schedule": "linear",
    "augmentation": "flip+shift",
    "dropout": 0.0,
}

_FORMS = {
    "plain stages": {
        "kind": "plain", "stages": 3, "growth": 2.0, "blocks": 1, "downsample": "pool",
    },
    "plain pairs": {
        "kind": "plain", "stages": 2, "growth": 2.0, "blocks": 2, "downsample": "pool",
    },
    "MobileNetV1 kind": {
        "kind": "separable", "stages": 3, "growth": 2.0, "blocks": 2, "downsample": "stride",
    },
    "DS-CNN kind": {
        "kind": "separable", "stages": 3, "growth": 2.0, "blocks": 1, "downsample": "pool",
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the largest input and width to the smallest."""
    return tuple(
        StartingPoint(
            name=name,
            sizes=tuple(
                {**_TRAINED_WELL, **form, "resolution": side, "width": width}
                for side in reversed(RESOLUTIONS)
                for width in reversed(WIDTHS)
            ),
        )
        for name, form in _FORMS.items()
    )
