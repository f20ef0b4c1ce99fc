"""Small specs for tests."""

from __future__ import annotations

from typing import Literal

from tuner import catalog
from tuner.spec import (
    Architecture,
    Candidate,
    Context,
    Conv2D,
    Dense,
    GlobalAveragePool2D,
    Input,
    Node,
    Preprocessing,
    TrainingSettings,
)


def small_candidate(filters: int = 8, side: int = 8, outputs: int = 2) -> Candidate:
    """A net of one convolution over a grey image."""
    return Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour="grey"),
        architecture=Architecture(
            nodes=(
                Node(name="image", op=Input(height=side, width=side, channels=1)),
                Node(name="stem", op=Conv2D(filters=filters), inputs=("image",)),
                Node(name="pool", op=GlobalAveragePool2D(), inputs=("stem",)),
                Node(name="logits", op=Dense(units=outputs), inputs=("pool",)),
            ),
            outputs=("logits",),
        ),
        training=TrainingSettings(epochs=3),
    )


def context_of(
    target: str, height: int, width: int, *, colour: Literal["rgb", "grey"] = "rgb"
) -> Context:
    """What spaces know of a target of the catalog and images of one size, for 5 classes."""
    device = catalog.load_target(target)
    return Context(
        limits=device.model_limits,
        kernels=device.kernels,
        accelerated=device.accelerator != "none" or device.runtime == "litert",
        image_height=height,
        image_width=width,
        colour=colour,
        outputs=5,
    )
