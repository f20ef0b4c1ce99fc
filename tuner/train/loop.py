"""The training loop: the steps of an epoch in one graph.

Nets of this size spend most of `fit`'s time outside the arithmetic; one `tf.function` for many
steps keeps Keras' layers, losses and its optimizers' numbers, and leaves its per-step Python out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import TuneError
from tuner.spec import Candidate
from tuner.train.augment import change, draw_changes
from tuner.train.flat import FlatVariables
from tuner.train.forward import forward

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

WARM_UP_SHARE = 0.05
MIN_PATIENCE_EPOCHS = 8
HOPELESS_BELOW = 0.1
EVALUATION_BATCH = 250
EVALUATION_BYTES = 64 * 2**20
"""Of the largest activation of an evaluation batch, which is made smaller to keep it."""
CHUNK_BYTES = 32 * 2**20
"""Of the images that are handed to TensorFlow at a time; the set itself may be a memory map."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImages:
    """Images of one split: uint8, n x height x width x channels, and their labels, int64, n."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


@dataclass(frozen=True, slots=True, kw_only=True)
class Epoch:
    """What one epoch gave; `seconds` is the time from the start of training."""

    number: int
    planned: int
    loss: float
    validation_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of a training: the weights that did best on validation are in the model.

    `hopeless` if it was ended early because others had been far better by then.
    """

    epochs: int
    planned: int
    best_epoch: int
    seconds: float
    curve: tuple[float, ...]
    hopeless: bool


def scale_in_graph(images: Any, scaling: str) -> Any:
    """Pixels, 0 to 255 -> float32 tensor, as `tuner.data.preprocess.scale` does for arrays."""
    import tensorflow as tf

    pixels = tf.cast(images, tf.float32)
    return pixels / 255.0 if scaling == "unit" else (pixels - 128.0) / 128.0


def train(
    model: keras.Model,
    candidate: Candidate,
    training: LabelledImages,
    validation: LabelledImages,
    *,
    epochs: int,
    seed: int,
    loss: Any,
    seconds: float | None = None,
    patience_share: float | None = None,
    others: Sequence[float] = (),
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Train `model` in place and leave the weights of its best epoch in it.

    Args:
        model: from `build_keras`, logits out.
        candidate: its preprocessing and training settings are used.
        training: what is learned from.
        validation: what decides the best epoch, and when to stop early.
        epochs: passes over the training images.
        seed: of the order of images and of the augmentation.
        loss: of (labels, logits), the mean over a batch; see `tuner.tasks.Task.loss`.
        seconds: time that the training may take. After two epochs the plan is set anew to what
            fits, at most the candidate's own epochs; later it is only cut. None for no clock,
            which makes the outcome depend on the seed alone.
        patience_share: stop when this share of the planned epochs, 8 at least, brought no better
            validation accuracy. A rate that falls to zero gains most at its end, so then only an
            accuracy of 1 is reason to stop.
        others: the curve of another candidate, over a training like this one, that a good one
            would come near. From half of its epochs on, a training whose best accuracy is
            `HOPELESS_BELOW` under the best of that curve so far is ended.
        on_epoch: called after each epoch.

    Returns:
        Epochs done, the best one, seconds and the curve of validation accuracy.

    Raises:
        TuneError: the loss is not a number from the first epoch on.
    """
    settings, image = candidate.training, candidate.architecture.input
    count = len(training.labels)
    batch = min(settings.batch_size, count)
    steps = count // batch
    variables = FlatVariables(model, settings)
    run_steps = _make_steps(model, variables, candidate, batch, loss)
    evaluate = _make_evaluator(
        model,
        validation,
        candidate.preprocessing.scaling,
        lambda: variables.reader(variables.weights()),
    )
    generator = np.random.default_rng(seed)
    started = time.monotonic()
    curve: list[float] = []
    best_accuracy, best_epoch, best_weights = -1.0, 0, variables.snapshot()
    planned = epochs
    hopeless = False
    done = gained_epoch = 0
    while done < planned:
        order = generator.permutation(count)[: steps * batch].reshape(steps, batch)
        rates = _learning_rates(settings.schedule, settings.learning_rate, done, planned, steps)
        changes = draw_changes(
            settings.augmentation,
            (steps, batch),
            image.height,
            image.width,
            np.random.default_rng((seed, done)),
        )
        mean_loss = 0.0
        for chunk in _chunks(steps, batch * training.images[0].nbytes):
            total = run_steps(
                np.take(training.images, order[chunk], axis=0),
                training.labels[order[chunk]].astype(np.int32),
                {name: values[chunk] for name, values in changes.items()},
                rates[chunk],
                np.float32(done * steps + chunk.start + 1),
            )
            mean_loss += float(total) / steps
        if not math.isfinite(mean_loss):
            if not done:
                raise TuneError(
                    "The loss became infinite in the first epoch; the learning rate "
                    f"{settings.learning_rate:g} is too high for this net."
                )
            break  # what was best before stays
        accuracy = evaluate()
        done += 1
        curve.append(accuracy)
        elapsed = time.monotonic() - started
        on_epoch(
            Epoch(
                number=done,
                planned=planned,
                loss=mean_loss,
                validation_accuracy=accuracy,
                seconds=elapsed,
            )
        )
        if accuracy > best_accuracy:
            gained_epoch = done
        if accuracy >= best_accuracy:  # of equal epochs the later one, trained longer
            best_accuracy, best_epoch, best_weights = accuracy, done, variables.snapshot()
        hopeless = best_accuracy < _wanted(others, done / planned) - HOPELESS_BELOW
        if hopeless:
            break
        may_gain = best_accuracy < 1.0 and settings.schedule != "constant"
        if (
            patience_share is not None
            and not may_gain
            and done - gained_epoch >= max(MIN_PATIENCE_EPOCHS, round(patience_share * planned))
        ):
            break
        if done == 1:
            first_epoch_seconds = elapsed
        elif seconds is not None:
            # The first epoch also traces the graph, so the others tell the pace.
            pace = (elapsed - first_epoch_seconds) / (done - 1)
            affordable = done + max(0, int((seconds - elapsed) / max(pace, 1e-6)))
            longest = max(epochs, settings.epochs) if done == 2 else planned
            planned = min(longest, affordable)
    variables.store(best_weights)
    return Trained(
        epochs=done,
        planned=planned,
        best_epoch=best_epoch,
        seconds=time.monotonic() - started,
        curve=tuple(curve),
        hopeless=hopeless,
    )


def _wanted(others: Sequence[float], progress: float) -> float:
    """The best accuracy of another curve at this share of its training; 0 before its half."""
    if not others or not 0.5 <= progress < 1.0:
        return 0.0
    return max(others[: int(progress * len(others))], default=0.0)


def _make_steps(
    model: keras.Model, variables: FlatVariables, candidate: Candidate, batch: int, loss: Any
) -> Callable[..., Any]:
    """A function that trains some steps and returns the sum of their losses, compiled once."""
    import tensorflow as tf

    augmentation, scaling = candidate.training.augmentation, candidate.preprocessing.scaling
    image = candidate.architecture.input
    sizes = (image.height, image.width)
    drawn = draw_changes(augmentation, (1, batch), *sizes, np.random.default_rng(0))

    def of_steps(shape: tuple[int, ...], dtype: Any) -> Any:
        return tf.TensorSpec((None, *shape), dtype)

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
            weights = variables.weights()
            read = variables.reader(weights)
            drawn = {name: values[index] for name, values in changes.items()}
            pixels = scale_in_graph(change(images[index], drawn, augmentation), scaling)
            logits, averages = forward(model, pixels, read, training=True)
            value = loss(labels[index], logits)
            number = first + tf.cast(index, tf.float32)
            variables.update(tf.gradients(value, weights), averages, rates[index], number)
            return index + 1, total + value

        count = tf.shape(rates)[0]
        return tf.while_loop(
            lambda index, total: index < count,
            step,
            (tf.constant(0), tf.constant(0.0)),
            parallel_iterations=1,
        )[1]

    return run_steps  # type: ignore[no-any-return]


def _chunks(count: int, image_bytes: int) -> list[slice]:
    """Parts of `count` things that are handed to TensorFlow together."""
    size = max(1, CHUNK_BYTES // image_bytes)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def make_evaluator(model: keras.Model, data: LabelledImages, scaling: str) -> Callable[[], float]:
    """A function that gives the model's accuracy on `data`, compiled once."""
    return _make_evaluator(model, data, scaling, lambda: lambda variable: variable.value)


def _make_evaluator(
    model: keras.Model,
    data: LabelledImages,
    scaling: str,
    reader: Callable[[], Callable[[Any], Any]],
) -> Callable[[], float]:
    import tensorflow as tf

    count = len(data.labels)
    largest = max(math.prod(layer.output.shape[1:]) for layer in model.layers)
    batch = max(1, min(EVALUATION_BATCH, count, EVALUATION_BYTES // (4 * largest)))

    @tf.function(  # type: ignore[untyped-decorator]
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, *data.images.shape[1:]), tf.uint8),
            tf.TensorSpec((None,), tf.int64),
        ],
    )
    def correct(images: Any, labels: Any) -> Any:
        read = reader()

        def part(start: Any, total: Any) -> tuple[Any, Any]:
            pixels = scale_in_graph(images[start : start + batch], scaling)
            logits, _ = forward(model, pixels, read, training=False)
            right = tf.argmax(logits, axis=-1) == labels[start : start + batch]
            return start + batch, total + tf.reduce_sum(tf.cast(right, tf.int64))

        end = tf.shape(images)[0]
        return tf.while_loop(
            lambda start, total: start < end,
            part,
            (tf.constant(0), tf.constant(0, tf.int64)),
            parallel_iterations=1,
        )[1]

    chunks = _chunks(count, data.images[0].nbytes)
    return lambda: sum(int(correct(data.images[i], data.labels[i])) for i in chunks) / count


def _learning_rates(
    schedule: str, peak: float, epoch: int, epochs: int, steps: int
) -> NDArray[np.float32]:
    if schedule == "constant":
        return np.full(steps, peak, np.float32)
    progress = (epoch + np.arange(steps) / steps) / epochs
    warm = np.minimum(1.0, (progress + 1e-3) / WARM_UP_SHARE)
    left = 1.0 - np.clip(progress, 0.0, 1.0)
    fall = left if schedule == "linear" else 0.5 * (1.0 - np.cos(np.pi * left))
    return (peak * warm * fall).astype(np.float32)
