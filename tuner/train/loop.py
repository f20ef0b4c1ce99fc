"""The training loop: a whole epoch in one graph over images held in memory.

Nets of this size spend most of `fit`'s time outside the arithmetic; one `tf.function` an epoch
keeps Keras' layers, losses and optimizers and leaves its per-step Python out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.errors import TuneError
from tuner.spec import Candidate
from tuner.train.augment import augment

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

WARM_UP_SHARE = 0.05
MIN_PATIENCE_EPOCHS = 8
EVALUATION_BATCH = 250
EVALUATION_BYTES = 64 * 2**20
"""Of the largest activation of an evaluation batch, which is made smaller to keep it."""


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
    """The outcome of a training: the weights that did best on validation are in the model."""

    epochs: int
    planned: int
    best_epoch: int
    seconds: float
    curve: tuple[float, ...]


def scale_in_graph(images: Any, scaling: str) -> Any:
    """uint8 tensor -> float32 tensor, as `tuner.data.preprocess.scale` does for arrays."""
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
        loss: a Keras loss over (labels, logits).
        seconds: time that the training may take. After two epochs the plan is set anew to what
            fits, at most the candidate's own epochs; later it is only cut. None for no clock,
            which makes the outcome depend on the seed alone.
        patience_share: stop when this share of the planned epochs, 8 at least, brought no better
            validation accuracy.
        on_epoch: called after each epoch.

    Returns:
        Epochs done, the best one, seconds and the curve of validation accuracy.

    Raises:
        TuneError: the loss is not a number from the first epoch on.
    """
    import keras
    import tensorflow as tf

    settings = candidate.training
    scaling = candidate.preprocessing.scaling
    count = len(training.labels)
    batch = min(settings.batch_size, count)
    steps = count // batch
    images = tf.constant(np.ascontiguousarray(training.images))
    labels = tf.constant(training.labels.astype(np.int32))
    optimizer = keras.optimizers.AdamW(settings.learning_rate, weight_decay=settings.weight_decay)
    optimizer.build(model.trainable_variables)
    variables = model.trainable_variables

    @tf.function(  # type: ignore[untyped-decorator]
        input_signature=[
            tf.TensorSpec((steps, batch), tf.int32),
            tf.TensorSpec((steps,), tf.float32),
            tf.TensorSpec((), tf.int32),
        ]
    )
    def run_epoch(order: Any, learning_rates: Any, epoch_seed: Any) -> Any:
        total = tf.constant(0.0)
        for step in tf.range(steps):
            rows = order[step]
            pixels = scale_in_graph(tf.gather(images, rows), scaling)
            pixels = augment(
                pixels, settings.augmentation, scaling, tf.stack([epoch_seed, step * 8])
            )
            with tf.GradientTape() as tape:
                value = loss(tf.gather(labels, rows), model(pixels, training=True))
            gradients = tape.gradient(value, variables)
            optimizer.learning_rate.assign(learning_rates[step])
            optimizer.apply_gradients(zip(gradients, variables, strict=True))
            total += value
        return total / tf.cast(steps, tf.float32)

    evaluate = make_evaluator(model, validation, scaling)
    generator = np.random.default_rng(seed)
    started = time.monotonic()
    curve: list[float] = []
    best_accuracy, best_epoch, best_weights = -1.0, 0, model.get_weights()
    planned = epochs
    done = gained_epoch = 0
    while done < planned:
        order = generator.permutation(count)[: steps * batch].reshape(steps, batch)
        rates = _learning_rates(settings.schedule, settings.learning_rate, done, planned, steps)
        mean_loss = float(
            run_epoch(
                tf.constant(order.astype(np.int32)), tf.constant(rates), tf.constant(seed ^ done)
            )
        )
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
            best_accuracy, best_epoch, best_weights = accuracy, done, model.get_weights()
        if patience_share is not None and done - gained_epoch >= max(
            MIN_PATIENCE_EPOCHS, round(patience_share * planned)
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
    model.set_weights(best_weights)
    return Trained(
        epochs=done,
        planned=planned,
        best_epoch=best_epoch,
        seconds=time.monotonic() - started,
        curve=tuple(curve),
    )


def make_evaluator(model: keras.Model, data: LabelledImages, scaling: str) -> Callable[[], float]:
    """A function that gives the model's accuracy on `data`, compiled once."""
    import tensorflow as tf

    images = tf.constant(np.ascontiguousarray(data.images))
    labels = tf.constant(data.labels)
    count = len(data.labels)
    largest = max(math.prod(layer.output.shape[1:]) for layer in model.layers)
    batch = max(1, min(EVALUATION_BATCH, count, EVALUATION_BYTES // (4 * largest)))
    starts = tf.range(0, count, batch)

    @tf.function  # type: ignore[untyped-decorator]
    def correct() -> Any:
        total = tf.constant(0, tf.int64)
        for start in starts:
            end = tf.minimum(start + batch, count)
            pixels = scale_in_graph(images[start:end], scaling)
            predicted = tf.argmax(model(pixels, training=False), axis=-1)
            total += tf.reduce_sum(tf.cast(predicted == labels[start:end], tf.int64))
        return total

    return lambda: int(correct()) / count


def _learning_rates(
    schedule: str, peak: float, epoch: int, epochs: int, steps: int
) -> NDArray[np.float32]:
    if schedule == "constant":
        return np.full(steps, peak, np.float32)
    progress = (epoch + np.arange(steps) / steps) / epochs
    warm = np.minimum(1.0, (progress + 1e-3) / WARM_UP_SHARE)
    fall = 0.5 * (1.0 + np.cos(np.pi * np.clip(progress, 0.0, 1.0)))
    return (peak * warm * fall).astype(np.float32)
