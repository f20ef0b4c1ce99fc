"""The steps of an epoch as one graph, and how a batch is divided in it."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tuner.spec import Candidate
from tuner.train.augment import change, draw_changes
from tuner.train.forward import Average, mean_averages

if TYPE_CHECKING:
    from numpy.typing import NDArray

SMALLEST_PART = 16
"""Images of a part of a batch: batch normalization needs some."""
TURN_BYTES = 64 * 2**20
"""Of the outputs of all layers for the images that a thread trains on at a time: gradients need
them all. With 206 and 236 MB of them a process took 257 and 285 MB more than before its training,
with 52 and 59 MB 135 and 158, at the same speed (128 x 128 pixels, batches of 64, one thread)."""


class Net(Protocol):
    """A net with the variables that a training changes; see `FlatVariables`, which is one."""

    @property
    def largest_activation(self) -> int:
        """Values of the largest output of a layer, of one image."""

    @property
    def kept_activations(self) -> int:
        """Values that the gradients of one image need: the outputs of all layers."""

    def weights(self) -> list[Any]:
        """What is trained, for `logits` and `tf.gradients`."""

    def learns(self, frozen: Collection[str]) -> list[bool]:
        """Of each of `weights`, whether it is trained while the layers of these names are not."""

    def averaged(self, frozen: Collection[str]) -> list[tuple[int, ...]]:
        """Shapes of what `logits` gives for moving averages in training."""

    def logits(
        self, images: Any, weights: list[Any], *, training: bool, frozen: Collection[str] = ()
    ) -> tuple[Any, list[Average]]:
        """Logits of scaled images, inside a `tf.function`; see `forward`."""

    def restart(self) -> None:
        """Forget what the optimizer has gathered, as at the beginning of a training."""

    def update(
        self, gradients: list[Any], averages: list[Average], learning_rate: Any, step: Any
    ) -> None:
        """Make one step of the optimizer, inside a `tf.function`."""

    def everything(self) -> list[NDArray[np.float32]]:
        """Copies of all variables, the optimizer's included."""

    def set_everything(self, arrays: list[NDArray[np.float32]]) -> None:
        """Set what `everything` gave."""

    def snapshot(self) -> NDArray[np.float32]:
        """A copy of all values but the optimizer's."""

    def store(self, snapshot: NDArray[np.float32]) -> None:
        """Put what `snapshot` gave into the model."""


def scale_in_graph(images: Any, scaling: str) -> Any:
    """Pixels, 0 to 255 -> float32 tensor, as `tuner.data.preprocess.scale` does for arrays."""
    import tensorflow as tf

    pixels = tf.cast(images, tf.float32)
    return pixels / 255.0 if scaling == "unit" else (pixels - 128.0) / 128.0


def parts_of_batch(batch: int, threads: int) -> int:
    """Equal parts of a batch, one a thread at most, that are not too small to normalize by.

    Small nets gain nothing by threads within an operation; parts of a batch side by side do not
    wait for each other (see docs/training.md).
    """
    most = max(1, min(threads, batch // SMALLEST_PART))
    return next(parts for parts in range(most, 0, -1) if batch % parts == 0)


def turns_of_batch(batch: int, parts: int, kept_activations: int) -> int:
    """Equal turns in which a batch of so many parts is computed, one after the other.

    As few as keep the outputs of all layers of a part within `TURN_BYTES`, as far as no part
    becomes too small to normalize by.

    Args:
        batch: images.
        parts: that are computed side by side in each turn; they divide the batch.
        kept_activations: float32 values of one image.
    """
    allowed = [
        turns
        for turns in range(1, max(1, batch // (parts * SMALLEST_PART)) + 1)
        if batch % (parts * turns) == 0
    ]
    most = parts * TURN_BYTES
    small = [turns for turns in allowed if 4 * kept_activations * batch <= turns * most]
    return small[0] if small else allowed[-1]


def make_steps(
    variables: Net,
    candidate: Candidate,
    batch: int,
    loss: Any,
    parts: int,
    frozen: Collection[str],
) -> Callable[..., Any]:
    """A function that trains some steps and returns the sum of their losses, compiled once.

    The parts of a batch are computed beside each other, each normalized by itself; a batch that
    takes much memory in several turns. The layers of `frozen` stay as they are.
    """
    import tensorflow as tf

    learns = variables.learns(frozen)
    augmentation, scaling = candidate.training.augmentation, candidate.preprocessing.scaling
    image = candidate.architecture.input
    sizes = (image.height, image.width)
    drawn = draw_changes(augmentation, (1, batch), *sizes, np.random.default_rng(0))
    turns = turns_of_batch(batch, parts, variables.kept_activations)

    def of_steps(shape: tuple[int, ...], dtype: Any) -> Any:
        return tf.TensorSpec((None, *shape), dtype)

    def divided(values: Any) -> Any:
        return tf.reshape(values, (turns, parts, batch // (turns * parts), *values.shape[1:]))

    def of_batch(images: Any, labels: Any, changes: Any) -> tuple[Any, list[Any], list[Average]]:
        """Mean loss, its gradients by what learns, and what goes into the moving averages."""
        pixels, wanted = divided(images), divided(labels)
        split = {name: divided(values) for name, values in changes.items()}
        noted: list[Average] = []

        def of_turn(turn: Any) -> list[Any]:
            weights = variables.weights()
            losses, averages = [], []
            for part in range(parts):
                drawn = {name: values[turn, part] for name, values in split.items()}
                changed = scale_in_graph(change(pixels[turn, part], drawn, augmentation), scaling)
                logits, added = variables.logits(changed, weights, training=True, frozen=frozen)
                losses.append(loss(wanted[turn, part], logits))
                averages.append(added)
            value = tf.add_n(losses) / parts
            trained = [weight for weight, free in zip(weights, learns, strict=True) if free]
            noted[:] = mean_averages(averages)  # of the same variables in each turn
            return [value, *tf.gradients(value, trained), *(average.value for average in noted)]

        if turns == 1:
            value, *means = of_turn(0)
        else:  # the graph of a turn is made once: of large nets it takes seconds
            learned = zip(variables.weights(), learns, strict=True)
            shapes = [(), *(tuple(weight.shape) for weight, free in learned if free)]
            _, *sums = tf.while_loop(
                lambda turn, *_: turn < turns,
                lambda turn, *sums: [
                    turn + 1,
                    *(own + more for own, more in zip(sums, of_turn(turn), strict=True)),
                ],
                [tf.constant(0), *map(tf.zeros, [*shapes, *variables.averaged(frozen)])],
                parallel_iterations=1,
            )
            value, *means = [total / turns for total in sums]
        gradients, values = means[: sum(learns)], means[sum(learns) :]
        return (
            value,
            gradients,
            [replace(average, value=value) for average, value in zip(noted, values, strict=True)],
        )

    @tf.function(  # type: ignore[untyped-decorator]
        autograph=False,
        input_signature=[
            of_steps((batch, *sizes, image.channels), tf.uint8),
            of_steps((batch,), tf.int32),
            {name: of_steps(values.shape[1:], values.dtype) for name, values in drawn.items()},
            of_steps((), tf.float32),
            tf.TensorSpec((), tf.float32),
        ],
    )
    def run_steps(images: Any, labels: Any, changes: Any, rates: Any, first: Any) -> Any:
        def step(index: Any, total: Any) -> tuple[Any, Any]:
            drawn = {name: values[index] for name, values in changes.items()}
            value, found, averages = of_batch(images[index], labels[index], drawn)
            number = first + tf.cast(index, tf.float32)
            gradient = iter(found)
            gradients = [next(gradient) if free else None for free in learns]
            variables.update(gradients, averages, rates[index], number)
            return index + 1, total + value

        count = tf.shape(rates)[0]
        return tf.while_loop(
            lambda index, total: index < count,
            step,
            (tf.constant(0), tf.constant(0.0)),
            parallel_iterations=1,
        )[1]

    return run_steps  # type: ignore[no-any-return]
