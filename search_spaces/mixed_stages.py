"""Small nets of plain and depthwise-separable stages.

A stem convolution, 2 to 5 stages, a global average pool and a classifier. Each stage is made of
plain 3x3 convolutions or of depthwise-separable ones (depthwise, then 1x1): on a CPU plain
stages train faster and reach more at the same flash, on a device separable ones cost less, so
the search decides stage by stage. Each stage halves the resolution, by stride or by a max pool,
until the map is 4x4, and widens it.

Sources of the forms: plain stages with pools as in the CIFAR-10 net of CMSIS-NN (Lai et al.,
arXiv 1801.06601); separable ones as in DS-CNN (Zhang et al., arXiv 1711.07128) and MobileNetV1
(Howard et al., arXiv 1704.04861).

Assumptions: padding `same`, ReLU, batch normalization after each convolution.
"""

from __future__ import annotations

from collections.abc import Sequence

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
    Preprocessing,
    StartingPoint,
    TrainingSettings,
)

RESOLUTIONS = (8, 12, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 96, 112, 128, 160, 192, 224, 256, 320)
WIDTHS = (4, 6, 8, 12, 16, 24, 32, 48, 64)
MAX_FILTERS = 256
EPOCHS = 100
SGD_RATE = 8.0
"""A good learning rate of SGD with momentum, relative to AdamW's; see docs/search.md."""

SMALLEST_MAP = 4

AUGMENTATIONS = (
    Augmentation(),
    Augmentation(shift_fraction=0.125),
    Augmentation(shift_fraction=0.1, zoom_fraction=0.1, brightness_fraction=0.1),
    Augmentation(
        shift_fraction=0.1, zoom_fraction=0.15, rotate_degrees=12.0, brightness_fraction=0.2
    ),
)
"""By strength, 0 to 3; mirroring is a choice of its own."""


def resolutions(context: Context) -> tuple[int, ...]:
    """Sides of the square input that the images and the device allow, ascending.

    Nothing is upsampled: no side is longer than the shorter side of the images. The grey input
    alone takes at most half of the RAM. Sides below a quarter of the largest are left out.
    """
    longest = min(context.image_height, context.image_width)
    sides = sorted({side for side in RESOLUTIONS if side <= longest} | {min(longest, 320)})
    if context.limits.ram_bytes is not None:
        ram_bytes = context.limits.ram_bytes
        sides = [side for side in sides if side * side <= ram_bytes / 2] or sides[:1]
    return tuple(side for side in sides if side >= sides[-1] / 4)


def widths(context: Context) -> tuple[int, ...]:
    """Filters of the stem that suit the device and the images, ascending.

    A small device gets narrow nets; an image of few pixels has little to tell to wide ones.
    """
    ram_bytes = context.limits.ram_bytes or 1 << 30
    widest = 12 if ram_bytes < 64 * 1024 else 24 if ram_bytes < 192 * 1024 else 48
    if context.accelerated:
        widest = 64
    widest = max(WIDTHS[0], min(widest, 2 * max(resolutions(context))))
    narrowest = 8 if context.accelerated and widest >= 16 else WIDTHS[0]
    return tuple(width for width in WIDTHS if narrowest <= width <= widest)


def draw(choices: Choices, context: Context) -> Candidate:
    """Make one candidate; the first option of each choice makes the smallest."""
    side = choices.ordered("resolution", resolutions(context))
    colour = choices.categorical("colour", ("grey", "rgb")) if context.colour == "rgb" else "grey"
    square = context.image_height == context.image_width
    crop = "stretch" if square else choices.categorical("crop", ("stretch", "center"))
    preprocessing = Preprocessing(
        height=side,
        width=side,
        colour="rgb" if colour == "rgb" else "grey",
        crop="center" if crop == "center" else "stretch",
    )
    return Candidate(
        preprocessing=preprocessing,
        architecture=_architecture(choices, context, preprocessing),
        training=_training(choices),
    )


def _architecture(choices: Choices, context: Context, preprocessing: Preprocessing) -> Architecture:
    image = Input(
        height=preprocessing.height, width=preprocessing.width, channels=preprocessing.channels
    )
    nodes = [Node(name="image", op=image)]

    def add(name: str, op: Conv2D | DepthwiseConv2D | MaxPool2D | GlobalAveragePool2D | Dropout
            | Dense) -> None:  # fmt: skip
        nodes.append(Node(name=name, op=op, inputs=(nodes[-1].name,)))

    size = preprocessing.height
    width = choices.ordered("width", widths(context))
    growth = choices.ordered("growth", (1.0, 1.5, 2.0))
    stages = choices.ordered("stages", (2, 3, 4, 5))
    pool = choices.categorical("downsample", ("stride", "pool")) == "pool"
    stem_stride = choices.categorical("stem_stride", (2, 1))
    stem_kernel = choices.ordered("stem_kernel", (3, 5))
    add("stem", Conv2D(filters=width, kernel=stem_kernel, stride=stem_stride))
    size = -(-size // stem_stride)
    for stage in range(stages):
        filters = min(MAX_FILTERS, max(4, round(width * growth ** (stage + 1) / 4) * 4))
        plain = choices.categorical(f"kind{stage}", ("separable", "plain")) == "plain"
        blocks = choices.ordered(f"blocks{stage}", (1, 2))
        kernel = choices.ordered(f"kernel{stage}", (3, 5))
        shrink = size > SMALLEST_MAP
        if shrink and pool:
            add(f"pool{stage}", MaxPool2D(size=2))
            size //= 2
        for block in range(blocks):
            stride = 2 if shrink and not pool and block == 0 else 1
            name = f"stage{stage}_{block}"
            if plain:
                add(name, Conv2D(filters=filters, kernel=kernel, stride=stride))
            else:
                add(f"{name}_depthwise", DepthwiseConv2D(kernel=kernel, stride=stride))
                add(f"{name}_pointwise", Conv2D(filters=filters, kernel=1))
            size = -(-size // stride)
    add("pool", GlobalAveragePool2D())
    dropout = choices.ordered("dropout", (0.0, 0.1, 0.2, 0.3, 0.4))
    if dropout > 0:
        add("dropout", Dropout(rate=dropout))
    add("logits", Dense(units=context.outputs))
    return Architecture(nodes=tuple(nodes), outputs=("logits",))


def _training(choices: Choices) -> TrainingSettings:
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


_TRAINED_WELL = {
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

_FORMS: dict[str, dict[str, str | int | float]] = {
    "plain stages": {
        "growth": 2.0, "stages": 3, "downsample": "pool", "stem_stride": 1,
        "kind0": "plain", "kind1": "plain", "kind2": "plain",
    },
    "plain, then separable": {
        "growth": 2.0, "stages": 3, "downsample": "pool", "stem_stride": 1, "stem_kernel": 3,
        "kind0": "plain", "kind1": "plain", "kind2": "separable", "blocks2": 2,
    },
    "MobileNetV1 kind": {
        "growth": 2.0, "stages": 4, "downsample": "stride", "stem_stride": 2,
        "kind0": "separable", "kind1": "separable", "kind2": "separable", "kind3": "separable",
        "blocks1": 2, "blocks2": 2,
    },
    "DS-CNN kind": {
        "growth": 1.0, "stages": 4, "downsample": "stride", "stem_stride": 2, "stem_kernel": 5,
    },
}  # fmt: skip


def starting_points(context: Context) -> Sequence[StartingPoint]:
    """Known good forms, each from the largest input and width to the smallest."""
    return tuple(
        StartingPoint(
            name=name,
            sizes=tuple(
                {**_TRAINED_WELL, **form, "resolution": side, "width": width}
                for side in reversed(resolutions(context))
                for width in reversed(widths(context))
            ),
        )
        for name, form in _FORMS.items()
    )
