"""What the peers share: the space's net as a Keras model for `fit`, data, callbacks, size rules.

Everything here is what a user of such a tool writes by hand: augmentation as Keras layers, the
optimizer and schedule that the space draws, arrays in memory, and rules of thumb that keep nets
small. A net of more parameters than the file may have bytes, or with a layer whose input and output
take more than the arena, is not trained. One that comes near is scored lower, because a file holds
more than weights and an arena more than activations.
"""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import keras
import numpy as np
from PIL import Image

from benchmarks.side_by_side.protocol import (
    ARENA_LIMIT_BYTES,
    CONTEXT,
    FILE_LIMIT_BYTES,
    Recorder,
)
from benchmarks.side_by_side.search_spaces import bench_stages
from tuner.data.preprocess import scale
from tuner.spec import Candidate, Choices
from tuner.spec.space import Option
from tuner.train.build import build_keras

EPOCHS = 30
"""Of a trial of a peer, at most; about 50 s of a usual net."""

PATIENCE = 5

FILE_ALLOWANCE_BYTES = 16 * 1024
ARENA_ALLOWANCE_BYTES = 12 * 1024
"""What a careful user leaves for what is not weights or activations."""


class Arrays:
    """Training and validation images in memory, resized once a resolution."""

    def __init__(self, path: Path) -> None:
        with np.load(path) as arrays:
            self._arrays = dict(arrays)
        self._resized: dict[int, tuple[Any, ...]] = {}

    @property
    def pixels(self) -> tuple[Any, ...]:
        """x, y, x_validation, y_validation at 32x32; images as uint8."""
        arrays = self._arrays
        return arrays["x"], arrays["y"], arrays["x_validation"], arrays["y_validation"]

    def at(self, side: int) -> tuple[Any, ...]:
        """x, y, x_validation, y_validation; images as float32, scaled as the nets read them."""
        if side not in self._resized:
            x, y, x_validation, y_validation = self.pixels
            self._resized[side] = (
                scale(resize(x, side), "signed"), y,
                scale(resize(x_validation, side), "signed"), y_validation,
            )  # fmt: skip
        return self._resized[side]


def resize(images: Any, side: int) -> Any:
    """Images at another side, filtered as the tool filters them."""
    if images.shape[1] == side:
        return images
    size = (side, side)
    return np.stack(
        [
            np.asarray(Image.fromarray(image).resize(size, Image.Resampling.BILINEAR))
            for image in images
        ]
    )


class Noted:
    """Passes choices on and remembers them."""

    def __init__(self, choices: Any) -> None:
        self._choices = choices
        self.taken: dict[str, Any] = {}

    def ordered(self, name: str, options: tuple[Option, ...]) -> Option:
        """Pass on."""
        self.taken[name] = value = self._choices.ordered(name, options)
        return value

    def categorical(self, name: str, options: tuple[Option, ...]) -> Option:
        """Pass on."""
        self.taken[name] = value = self._choices.categorical(name, options)
        return value

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """Pass on."""
        self.taken[name] = value = self._choices.floating(name, low, high, log=log)
        return value


class Net:
    """One draw of the shared space, as a peer trains it."""

    def __init__(self, choices: Choices) -> None:
        self.candidate: Candidate = bench_stages.draw(choices, CONTEXT)
        self.net = build_keras(self.candidate.architecture)

    @property
    def side(self) -> int:
        """Rows and columns of the input."""
        return self.candidate.preprocessing.height

    @property
    def parameters(self) -> int:
        """Numbers that the net holds."""
        return int(self.net.count_params())

    @property
    def activation_elements(self) -> int:
        """The most that a layer reads and writes; each is a byte on the device."""
        return max(
            math.prod(layer.input.shape[1:]) + math.prod(layer.output.shape[1:])
            for layer in self.net.layers
            if isinstance(
                layer,
                keras.layers.Conv2D | keras.layers.DepthwiseConv2D | keras.layers.MaxPooling2D,
            )
        )

    @property
    def refused(self) -> bool:
        """Whether it cannot fit by the rules of thumb."""
        return self.parameters > FILE_LIMIT_BYTES or self.activation_elements > ARENA_LIMIT_BYTES

    @property
    def penalty(self) -> float:
        """Taken from the accuracy: the share by which the allowances are used up."""
        over = (
            self.parameters / (FILE_LIMIT_BYTES - FILE_ALLOWANCE_BYTES) - 1.0,
            self.activation_elements / (ARENA_LIMIT_BYTES - ARENA_ALLOWANCE_BYTES) - 1.0,
        )
        return sum(max(0.0, share) for share in over)

    def compiled(self, images: int, epochs: int) -> keras.Model:
        """The net behind its augmentation layers, ready for `fit`.

        Args:
            images: in the training set.
            epochs: over which the learning rate falls.
        """
        training = self.candidate.training
        image = keras.Input(self.net.input_shape[1:])
        tensor = image
        if training.augmentation.flip_horizontal:
            tensor = keras.layers.RandomFlip("horizontal")(tensor)
        if training.augmentation.shift_fraction:
            share = training.augmentation.shift_fraction
            tensor = keras.layers.RandomTranslation(share, share, fill_mode="reflect")(tensor)
        model = keras.Model(image, self.net(tensor))
        steps = math.ceil(images / training.batch_size) * epochs
        rate: Any = training.learning_rate
        if training.schedule == "cosine":
            rate = keras.optimizers.schedules.CosineDecay(rate, steps)
        elif training.schedule == "linear":
            rate = keras.optimizers.schedules.PolynomialDecay(rate, steps, end_learning_rate=0.0)
        decay = training.weight_decay
        model.compile(
            optimizer=keras.optimizers.SGD(rate, 0.9, nesterov=True, weight_decay=decay)
            if training.optimizer == "sgd"
            else keras.optimizers.AdamW(rate, weight_decay=decay),
            loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
            metrics=["accuracy"],
        )
        return model


class KeepBest(keras.callbacks.Callback):
    """Adds `val_score`, accuracy less the size penalty, and keeps the best weights of all trials.

    Args:
        net: that is trained.
        choices: that made it.
        recorder: of the tool's run.
    """

    def __init__(self, net: Net, choices: dict[str, Any], recorder: Recorder) -> None:
        super().__init__()
        self._net, self._choices, self._recorder = net, choices, recorder
        self._penalty = net.penalty

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the epoch."""
        if logs is None:
            return
        logs["val_score"] = logs["val_accuracy"] - self._penalty

        def save(path: Path) -> None:
            np.savez(path, *self._net.net.get_weights())

        self._recorder.pick(logs["val_score"], ".npz", save, choices=self._choices, epoch=epoch)


def stop_early() -> keras.callbacks.EarlyStopping:
    """The usual callback."""
    return keras.callbacks.EarlyStopping("val_accuracy", mode="max", patience=PATIENCE)
