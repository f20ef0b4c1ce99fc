"""Random architectures for tests: every operator, odd sizes, and widths from thin to wide."""

from __future__ import annotations

import random

from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    GlobalAveragePool2D,
    Input,
    MaxPool2D,
    Node,
    Operator,
)
from tuner.spec.operators import Activation

_ACTIVATIONS: tuple[Activation, ...] = ("relu", "relu6", "linear")


def random_architecture(seed: int) -> Architecture:
    """Draw an image classifier; the same seed always gives the same one.

    Resolution 8 to 96 (odd ones too, not always square), rgb or grey, 1 to 4 stages of plain or
    depthwise-separable convolutions with kernels of 1, 3 or 5 and strides of 1 or 2, with or
    without batch normalization, max pools, dropout, and 2 to 20 outputs.

    Args:
        seed: any whole number.

    Returns:
        The architecture; its only output is the node `logits`.
    """
    generator = random.Random(seed)
    height = generator.randint(8, 96)
    width = height if generator.random() < 0.7 else generator.randint(8, 96)
    nodes: list[Node] = [
        Node(
            name="input",
            op=Input(height=height, width=width, channels=generator.choice([1, 3])),
        )
    ]

    def add(name: str, operator: Operator) -> None:
        nodes.append(Node(name=name, op=operator, inputs=(nodes[-1].name,)))

    separable = generator.random() < 0.5
    batch_norm = generator.random() < 0.8
    channels = generator.choice([4, 5, 8, 12, 16])
    for stage in range(generator.randint(1, 4)):
        for block in range(generator.randint(1, 2)):
            prefix = f"stage{stage + 1}_block{block + 1}"
            kernel, stride = generator.choice([1, 3, 5]), generator.choice([1, 1, 2])
            activation = generator.choice(_ACTIVATIONS)
            if separable and (len(nodes) > 1 or generator.random() < 0.2):
                add(
                    f"{prefix}_depthwise",
                    DepthwiseConv2D(
                        kernel=kernel, stride=stride, activation=activation, batch_norm=batch_norm
                    ),
                )
                kernel, stride = 1, 1
            add(
                f"{prefix}_conv",
                Conv2D(
                    filters=channels,
                    kernel=kernel,
                    stride=stride,
                    activation=activation,
                    batch_norm=batch_norm,
                ),
            )
        shape = Architecture(nodes=tuple(nodes), outputs=(nodes[-1].name,)).shapes()[nodes[-1].name]
        if min(shape[0], shape[1]) >= 2 and generator.random() < 0.4:
            add(f"stage{stage + 1}_pool", MaxPool2D(size=2))
        channels = min(128, int(channels * generator.choice([1, 1.5, 2])))
    add("global_pool", GlobalAveragePool2D())
    if generator.random() < 0.5:
        add("dropout", Dropout(rate=0.2))
    if generator.random() < 0.3:
        add("hidden", Dense(units=generator.randint(4, 64), activation="relu"))
    add("logits", Dense(units=generator.randint(2, 20)))
    return Architecture(nodes=tuple(nodes), outputs=("logits",))
