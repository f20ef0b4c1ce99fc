"""1 x 1 convolutions with strides, whose gradient crashes oneDNN; each in a process of its own."""

from __future__ import annotations

import subprocess
import sys

import pytest

SCRIPT = """
import os
import sys

if sys.argv[1] == "int8":
    os.environ["TF_USE_LEGACY_KERAS"] = "1"
import numpy as np

from tuner.spec import Architecture, Candidate, Conv2D, Dense, GlobalAveragePool2D, Input, Node
from tuner.spec import Preprocessing, TrainingSettings
from tuner.train.build import build_keras
from tuner.train.loop import LabelledImages, train
from tuner.train.quantization_aware import QuantizationAwareNet, import_legacy_keras

if sys.argv[1] == "int8":
    import_legacy_keras()
import keras

operators = [
    Input(height=48, width=48, channels=3),
    Conv2D(filters=8),
    Conv2D(filters=16, kernel=1, stride=2),
    GlobalAveragePool2D(),
    Dense(units=2),
]
names = [f"layer{index}" for index in range(len(operators))]
nodes = [
    Node(name=name, op=operator, inputs=inputs)
    for name, operator, inputs in zip(names, operators, [(), *((n,) for n in names)], strict=False)
]
candidate = Candidate(
    preprocessing=Preprocessing(height=48, width=48, colour="rgb"),
    architecture=Architecture(nodes=tuple(nodes), outputs=(names[-1],)),
    training=TrainingSettings(batch_size=16, learning_rate=0.01),
)
labels = np.arange(256) % 2
images = np.random.default_rng(0).integers(0, 120, (256, 48, 48, 3)).astype(np.uint8)
images[labels == 1, ..., 0] += 100
data = LabelledImages(images=images, labels=labels)
net = model = build_keras(candidate.architecture)
if sys.argv[1] == "int8":
    net = QuantizationAwareNet(candidate.architecture, model, candidate.training)
loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
outcome = train(net, candidate, data, data, epochs=6, seed=0, loss=loss)
print(max(outcome.curve))
"""


@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_few_channels_and_many_pixels_are_trained(precision: str) -> None:
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT, precision], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-500:]
    assert float(done.stdout.splitlines()[-1]) > 0.9
