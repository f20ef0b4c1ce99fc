"""The four MLPerf Tiny models as architectures, rebuilt from their published shapes.

Source: github.com/mlcommons/tiny, `benchmark/training/*/keras_model.py` and `vww_model.py`. Every
net ends in logits, without the softmax. The autoencoder's batch normalizations fold into its dense
layers, and its 640 features enter as an image of 1 x 640 x 1, which costs a RESHAPE.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Input,
    Node,
    Operator,
)


class _Net:
    """Nodes under construction; each reads the one before it unless told otherwise."""

    def __init__(self, *, height: int, width: int, channels: int) -> None:
        image = Input(height=height, width=width, channels=channels)
        self.nodes = [Node(name="input", op=image)]

    def add(self, name: str, operator: Operator, *inputs: str) -> str:
        read = inputs or (self.nodes[-1].name,)
        self.nodes.append(Node(name=name, op=operator, inputs=read))
        return name

    def finish(self) -> Architecture:
        return Architecture(nodes=tuple(self.nodes), outputs=(self.nodes[-1].name,))


def resnet8() -> Architecture:
    """Image classification: ResNet-8 for 32 x 32 x 3, 10 classes; 12.5 million MACs."""
    net = _Net(height=32, width=32, channels=3)
    block = net.add("conv", Conv2D(filters=16))
    for stage, filters in enumerate((16, 32, 64), start=1):
        stride = 1 if stage == 1 else 2
        net.add(f"stage{stage}_conv1", Conv2D(filters=filters, stride=stride), block)
        inner = net.add(f"stage{stage}_conv2", Conv2D(filters=filters, activation="linear"))
        if stride == 2:
            shortcut = Conv2D(
                filters=filters, kernel=1, stride=2, activation="linear", batch_norm=False
            )
            block = net.add(f"stage{stage}_shortcut", shortcut, block)
        block = net.add(f"stage{stage}_add", Add(activation="relu"), block, inner)
    net.add("pool", AveragePool2D(size=8))
    net.add("flatten", Flatten())
    net.add("logits", Dense(units=10))
    return net.finish()


def ds_cnn() -> Architecture:
    """Keyword spotting: DS-CNN for 49 x 10 x 1 spectral features, 12 words; 2.7 million MACs."""
    net = _Net(height=49, width=10, channels=1)
    net.add("conv", Conv2D(filters=64, kernel=10, kernel_width=4, stride=2))
    net.add("dropout1", Dropout(rate=0.2))
    for block in range(1, 5):
        net.add(f"block{block}_depthwise", DepthwiseConv2D())
        net.add(f"block{block}_pointwise", Conv2D(filters=64, kernel=1))
    net.add("dropout2", Dropout(rate=0.4))
    net.add("pool", AveragePool2D(size=25, size_width=5))
    net.add("flatten", Flatten())
    net.add("logits", Dense(units=12))
    return net.finish()


def mobilenet_v1_025() -> Architecture:
    """Visual wake words: MobileNetV1 at width 0.25 for 96 x 96 x 3, 2 classes; 7.5 million MACs."""
    net = _Net(height=96, width=96, channels=3)
    net.add("conv", Conv2D(filters=8, stride=2))
    widths = [(16, 1), (32, 2), (32, 1), (64, 2), (64, 1), (128, 2)]
    widths += [(128, 1)] * 5 + [(256, 2), (256, 1)]
    for block, (filters, stride) in enumerate(widths, start=1):
        net.add(f"block{block}_depthwise", DepthwiseConv2D(stride=stride))
        net.add(f"block{block}_pointwise", Conv2D(filters=filters, kernel=1))
    net.add("pool", AveragePool2D(size=3))
    net.add("flatten", Flatten())
    net.add("logits", Dense(units=2))
    return net.finish()


def autoencoder() -> Architecture:
    """Anomaly detection: dense layers 640-128x4-8-128x4-640; 0.26 million MACs."""
    net = _Net(height=1, width=640, channels=1)
    net.add("flatten", Flatten())
    for layer, units in enumerate((128, 128, 128, 128, 8, 128, 128, 128, 128), start=1):
        net.add(f"dense{layer}", Dense(units=units, activation="relu"))
    net.add("logits", Dense(units=640))
    return net.finish()


MLPERF_TINY: Mapping[str, Callable[[], Architecture]] = {
    "resnet8": resnet8,
    "ds_cnn": ds_cnn,
    "mobilenet_v1_025": mobilenet_v1_025,
    "autoencoder": autoencoder,
}
"""By the names used in tables."""
