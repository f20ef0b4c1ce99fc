"""The training loop: the steps of an epoch in one graph.

Nets of this size spend most of `fit`'s time outside the arithmetic; one `tf.function` for many
steps keeps Keras' layers, losses and its optimizers' numbers, and leaves its per-step Python out.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from tuner.data.mapped import give_back
from tuner.errors import DivergedError
from tuner.spec import Candidate, Metric
from tuner.train.augment import draw_changes
from tuner.train.checkpoint import Contender, read_checkpoint, write_checkpoint
from tuner.train.flat import FlatVariables, largest_activation
from tuner.train.forward import forward
from tuner.train.steps import Net, make_steps, parts_of_batch, scale_in_graph

if TYPE_CHECKING:
    import keras
    from numpy.typing import NDArray

WARM_UP_SHARE = 0.05
GROWTH_SHARE = 0.5
"""Of a training, in which the clock may still lengthen it: the first epochs tend to be slow. Later
the rate has fallen, and would rise again."""
UNFROZEN_PACE = 3.0
"""Seconds of an epoch that trains all layers, by those of one that trains the head: about three
passes for one. Only for the first plan of a training with a clock."""
CHECKPOINT_SECONDS = 20.0
MIN_PATIENCE_EPOCHS = 8
STEADY_CHANGE = 0.05
"""A training is steady when the loss of its last 30 to 50 epochs spans less: the rule that users of
Kendryte's online training go by, as handed down; its page was not read."""
LARGEST_LOSS = 1e9
"""Stands for a validation loss that is not a number, so that what holds it stays JSON."""
HOPELESS_BELOW = 0.1
EVALUATION_BATCH = 250
EVALUATION_BYTES = 16 * 2**20
"""Of the largest activation of an evaluation batch, which is made smaller to keep it."""
CHUNK_BYTES = 8 * 2**20
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
    validation_loss: float
    best_validation_accuracy: float
    seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Trained:
    """The outcome of a training: the weights that did best on validation are in the model.

    Args:
        epochs: done.
        planned: at its end.
        seconds: that it took.
        curve: validation accuracy after each epoch.
        losses: mean training loss of each epoch.
        validation_losses: mean cross-entropy of the validation images after each epoch.
        contenders: the best epochs by the metric, best first.
        last: the last epoch; the best one if the loss became infinite.
        hopeless: it was ended early because others had been far better by then.
    """

    epochs: int
    planned: int
    seconds: float
    curve: tuple[float, ...]
    losses: tuple[float, ...]
    validation_losses: tuple[float, ...]
    contenders: tuple[Contender, ...]
    last: Contender
    hopeless: bool

    @property
    def best_epoch(self) -> int:
        """The epoch whose weights are in the model, from 1."""
        return self.contenders[0].epoch


def train(
    model: keras.Model | Net,
    candidate: Candidate,
    training: LabelledImages,
    validation: LabelledImages,
    *,
    epochs: int,
    seed: int,
    loss: Any,
    most_epochs: int | None = None,
    seconds: float | None = None,
    patience_share: float | None = None,
    patience_waits: bool = True,
    others: Sequence[float] = (),
    threads: int = 1,
    metric: Metric = "accuracy",
    contenders: int = 1,
    steady_epochs: int | None = None,
    span: tuple[float, float] = (0.0, 1.0),
    unfrozen_from: float = 0.0,
    checkpoint: Path | None = None,
    stop: Callable[[], bool] = lambda: False,
    frozen_share: float = 0.0,
    on_epoch: Callable[[Epoch], None] = lambda epoch: None,
) -> Trained:
    """Train `model` in place and leave the weights of its best epoch in it.

    Args:
        model: from `build_keras`, logits out; or a net with variables of its own.
        candidate: its preprocessing and training settings are used.
        training: what is learned from.
        validation: what decides the best epoch, and when to stop early.
        epochs: passes over the training images.
        seed: of the order of images and of the augmentation.
        loss: of (labels, logits), the mean over a batch; see `tuner.tasks.Task.loss`.
        most_epochs: that may come of `seconds`; None for the candidate's own, or `epochs` if
            those are more.
        seconds: time that the training may take. From two epochs (one, where one is planned) to
            half of all the plan is set anew to what fits; later it is only cut. None for no
            clock, which makes the outcome depend on the seed alone.
        patience_share: stop when this share of the planned epochs, 8 at least, brought nothing
            better by the metric.
        patience_waits: a rate that falls to zero gains most at its end, so then only an accuracy
            of 1 is reason to stop.
        others: the curve of another candidate, over a training like this one, that a good one
            would come near. From half of its epochs on, a training whose best accuracy is
            `HOPELESS_BELOW` under the best of that curve so far is ended.
        threads: that a batch is divided among, in equal parts which are each normalized by
            themselves; 1 trains the batch as a whole.
        metric: of the validation images, tells how good an epoch is.
        contenders: so many of the best epochs have their weights kept.
        steady_epochs: stop when the training loss of so many epochs spans less than
            `STEADY_CHANGE`.
        span: the part of the candidate's schedule of learning rates that this training is; the
            rest lies in one before or after it.
        unfrozen_from: of a span that does not begin at 0, the share of the schedule at which all
            layers began to learn; at most where the span begins.
        checkpoint: a file that is written every `CHECKPOINT_SECONDS`, and gone on from if it is
            there; the outcome is that of a training that was never interrupted.
        stop: asked after each epoch whether to end there.
        frozen_share: of the epochs, the first ones, in which only the layers from the global pool
            or flattening on are trained; all others compute as outside of training. Then the
            optimizer starts anew, at the settings' `unfrozen_rate` times the learning rate.
        on_epoch: called after each epoch.

    Returns:
        What came of it, with the weights of the best epochs and of the last.

    Raises:
        DivergedError: the loss is not a number from the first epoch on.
        TuneError: the checkpoint is not of this training.
    """
    import keras

    settings, image = candidate.training, candidate.architecture.input
    count = len(training.labels)
    batch = min(settings.batch_size, count)
    steps = count // batch
    most = max(epochs, settings.epochs) if most_epochs is None else most_epochs
    variables: Net = FlatVariables(model, settings) if isinstance(model, keras.Model) else model
    parts = parts_of_batch(batch, threads)
    body = frozenset(_body(model)) if frozen_share else frozenset()
    steps_of = {
        frozen: make_steps(variables, candidate, batch, loss, parts, frozen)
        for frozen in {body, frozenset()}
    }
    evaluate = _make_evaluator(
        validation,
        candidate.preprocessing.scaling,
        lambda images: variables.logits(images, variables.weights(), training=False)[0],
        variables.largest_activation,
        threads,
    )
    generator = np.random.default_rng(seed)
    state = _State(planned=epochs)
    if checkpoint is not None and checkpoint.exists():
        read_checkpoint(checkpoint, variables, state)
        for _ in range(state.done):  # the order of the next epoch is that of an unbroken training
            generator.permutation(count)
    clock = _Clock(state)
    written = time.monotonic()
    hopeless = diverged = False
    while state.done < state.planned:
        done, planned = state.done, state.planned
        frozen = state.is_frozen(frozen_share)
        # Where the schedule begins and ends, as shares of all that `span` is a part of.
        begin, end, rate, began = 0.0, 1.0, settings.learning_rate, 0
        if frozen:
            end = span[1] * frozen_epochs(frozen_share, planned) / planned
        else:
            if state.frozen_epochs is None:
                state.frozen_epochs = done
                if done:
                    variables.restart()
                    clock.restart()
            rate, began = rate * settings.unfrozen_rate, state.frozen_epochs
            begin = unfrozen_from if span[0] else span[1] * began / planned
        order = generator.permutation(count)[: steps * batch].reshape(steps, batch)
        gone = span[0] + (span[1] - span[0]) * (done + np.arange(steps) / steps) / planned
        rates = _learning_rates(settings.schedule, rate, (gone - begin) / (end - begin))
        changes = draw_changes(
            settings.augmentation,
            (steps, batch),
            image.height,
            image.width,
            np.random.default_rng((seed, done)),
        )
        mean_loss = 0.0
        for chunk in _chunks(steps, batch * training.images[0].nbytes):
            total = steps_of[body if frozen else frozenset()](
                np.take(training.images, order[chunk], axis=0),
                training.labels[order[chunk]].astype(np.int32),
                {name: values[chunk] for name, values in changes.items()},
                rates[chunk],
                np.float32((done - began) * steps + chunk.start + 1),
            )
            mean_loss += float(total) / steps
            give_back(training.images)
        if not math.isfinite(mean_loss):
            if not done:
                raise DivergedError(
                    "The loss became infinite in the first epoch; the learning rate "
                    f"{settings.learning_rate:g} is too high for this net."
                )
            diverged = True  # what was good before stays
            break
        accuracy, validation_loss = evaluate()
        state.add(mean_loss, accuracy, validation_loss, clock.seconds())
        state.compare(state.score(metric), variables, contenders)
        on_epoch(
            Epoch(
                number=state.done,
                planned=planned,
                loss=mean_loss,
                validation_accuracy=accuracy,
                validation_loss=validation_loss,
                best_validation_accuracy=state.best_accuracy,
                seconds=state.seconds,
            )
        )
        hopeless = state.best_accuracy < _wanted(others, state.done / planned) - HOPELESS_BELOW
        waits = patience_waits and state.best_accuracy < 1.0 and settings.schedule != "constant"
        ends = (not waits and state.gains_no_more(patience_share)) or state.is_steady(steady_epochs)
        if hopeless or stop() or ends:
            break
        if seconds is not None:
            clock.plan(seconds, most, frozen_share)
        if checkpoint is not None and time.monotonic() - written >= CHECKPOINT_SECONDS:
            write_checkpoint(checkpoint, variables, state)
            written = time.monotonic()
    best = state.contenders[0]
    variables.store(best.weights)
    return Trained(
        epochs=state.done,
        planned=state.planned,
        seconds=clock.seconds(),
        curve=tuple(state.curve),
        losses=tuple(state.losses),
        validation_losses=tuple(state.validation_losses),
        contenders=tuple(state.contenders),
        last=best if diverged else Contender(state.done, state.score(metric), variables.snapshot()),
        hopeless=hopeless,
    )


@dataclass(slots=True)
class _State:
    """How far a training has come; with the variables, all that going on needs."""

    planned: int
    contenders: list[Contender] = field(default_factory=list)
    curve: list[float] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)
    validation_losses: list[float] = field(default_factory=list)
    best_accuracy: float = -1.0
    gained_epoch: int = 0
    seconds: float = 0.0
    frozen_epochs: int | None = None
    """With which the training began; None as long as it is in them."""

    def is_frozen(self, share: float) -> bool:
        """Whether the next epoch trains the head alone."""
        return self.frozen_epochs is None and self.done < frozen_epochs(share, self.planned)

    @property
    def done(self) -> int:
        """Epochs."""
        return len(self.curve)

    def add(self, loss: float, accuracy: float, validation_loss: float, seconds: float) -> None:
        """Note an epoch that has ended."""
        self.losses.append(loss)
        self.curve.append(accuracy)
        self.validation_losses.append(validation_loss)
        self.best_accuracy = max(self.best_accuracy, accuracy)
        self.seconds = seconds

    def score(self, metric: Metric) -> float:
        """Of the last epoch; more is better."""
        return self.curve[-1] if metric == "accuracy" else -self.validation_losses[-1]

    def compare(self, score: float, variables: Net, most: int) -> None:
        """Keep the weights of the epoch that has just ended if it is among so many best."""
        if not self.contenders or score > self.contenders[0].score:
            self.gained_epoch = self.done
        if len(self.contenders) == most and score < self.contenders[-1].score:
            return
        own = Contender(self.done, score, variables.snapshot())
        # Of equal epochs the later one comes first: it was trained longer.
        self.contenders = sorted([own, *self.contenders], key=lambda item: -item.score)[:most]

    def gains_no_more(self, patience_share: float | None) -> bool:
        """Whether a share of the planned epochs brought no better accuracy."""
        if patience_share is None:
            return False
        patience = max(MIN_PATIENCE_EPOCHS, round(patience_share * self.planned))
        return self.done - self.gained_epoch >= patience

    def is_steady(self, epochs: int | None) -> bool:
        """Whether the training loss has changed little over so many epochs."""
        recent = self.losses[-epochs:] if epochs else []
        return len(recent) == epochs and max(recent) - min(recent) < STEADY_CHANGE


class _Clock:
    """The time of a training, that of earlier processes included, and how many epochs fit."""

    def __init__(self, state: _State) -> None:
        self._state = state
        self._started = time.monotonic() - state.seconds
        self._ends: list[float] = []

    def seconds(self) -> float:
        """Since the training began."""
        return time.monotonic() - self._started

    def restart(self) -> None:
        """Measure the pace anew: other layers are trained from here on."""
        self._ends.clear()

    def plan(self, seconds: float, most: int, frozen_share: float) -> None:
        """Set the planned epochs, at most `most`, to what fits; in the second half only cut."""
        state, ends = self._state, self._ends
        ends.append(state.seconds)
        last = len(ends) - 1
        if last == 0 and not state.done == state.planned == 1:
            return  # a process' first epoch also traces the graph
        recent = last // 2  # the later half tells the pace: caches fill, other work ends
        pace = (ends[last] - ends[recent]) / (last - recent) if last else state.seconds
        affordable = state.done + max(0, int((seconds - state.seconds) / max(pace, 1e-6)))
        if state.is_frozen(frozen_share):  # the others take longer
            average = frozen_share + (1.0 - frozen_share) * UNFROZEN_PACE
            affordable = max(state.done, int(affordable / average))
        begins = state.done <= max(2, GROWTH_SHARE * state.planned)
        state.planned = min(most if begins else state.planned, affordable)


def frozen_epochs(share: float, planned: int) -> int:
    """Epochs of a training in which the head alone learns: a share of all, 1 at least.

    One at least trains all layers, unless the share is 1.
    """
    if share in (0.0, 1.0):
        return round(share) * planned
    return min(max(1, round(share * planned)), planned - 1)


def _body(model: keras.Model) -> Iterator[str]:
    """Names of the layers before the head, which begins with a global pool or flattening."""
    from keras import layers

    for layer in model.layers:
        if isinstance(layer, layers.GlobalAveragePooling2D | layers.Flatten):
            return
        yield layer.name


def _wanted(others: Sequence[float], progress: float) -> float:
    """The best accuracy of another curve at this share of its training; 0 before its half."""
    if not others or not 0.5 <= progress < 1.0:
        return 0.0
    return max(others[: int(progress * len(others))], default=0.0)


def _chunks(count: int, image_bytes: int) -> list[slice]:
    """Parts of `count` things that are handed to TensorFlow together."""
    size = max(1, CHUNK_BYTES // image_bytes)
    return [slice(first, min(first + size, count)) for first in range(0, count, size)]


def make_evaluator(model: keras.Model, data: LabelledImages, scaling: str) -> Callable[[], float]:
    """A function that gives the model's accuracy on `data`, compiled once."""
    evaluate = _make_evaluator(
        data,
        scaling,
        lambda images: forward(model, images, lambda variable: variable.value, training=False)[0],
        largest_activation(model),
    )
    return lambda: evaluate()[0]


def _make_evaluator(
    data: LabelledImages,
    scaling: str,
    compute: Callable[[Any], Any],
    largest: int,
    threads: int = 1,
) -> Callable[[], tuple[float, float]]:
    """A function that gives accuracy and mean cross-entropy on `data`, compiled once."""
    import tensorflow as tf

    count = len(data.labels)
    batch = max(1, min(EVALUATION_BATCH, count, EVALUATION_BYTES // (4 * largest)))

    @tf.function(  # type: ignore[untyped-decorator]
        autograph=False,
        input_signature=[
            tf.TensorSpec((None, *data.images.shape[1:]), tf.uint8),
            tf.TensorSpec((None,), tf.int64),
        ],
    )
    def score(images: Any, labels: Any) -> Any:
        def part(start: Any, right: Any, entropy: Any) -> tuple[Any, Any, Any]:
            logits = compute(scale_in_graph(images[start : start + batch], scaling))
            wanted = labels[start : start + batch]
            same = tf.cast(tf.argmax(logits, axis=-1) == wanted, tf.int64)
            each = tf.nn.sparse_softmax_cross_entropy_with_logits(wanted, logits)
            return (
                start + batch,
                right + tf.reduce_sum(same),
                entropy + tf.reduce_sum(tf.cast(each, tf.float64)),
            )

        end = tf.shape(images)[0]
        return tf.while_loop(
            lambda start, right, entropy: start < end,
            part,
            (tf.constant(0), tf.constant(0, tf.int64), tf.constant(0.0, tf.float64)),
            parallel_iterations=1,
        )[1:]

    chunks = _chunks(count, max(data.images[0].nbytes, CHUNK_BYTES * threads // count))

    def score_chunk(chunk: slice) -> Any:
        scored = score(data.images[chunk], data.labels[chunk])
        give_back(data.images)
        return scored

    def evaluate() -> tuple[float, float]:
        with ThreadPoolExecutor(threads) as pool:
            scores = list(pool.map(score_chunk, chunks))
        right = sum(int(same) for same, _ in scores)
        loss = sum(float(entropy) for _, entropy in scores) / count
        return right / count, loss if loss < LARGEST_LOSS else LARGEST_LOSS

    return evaluate


def _learning_rates(
    schedule: str, peak: float, progress: NDArray[np.float64]
) -> NDArray[np.float32]:
    """Of steps, by how much of the schedule has gone by before each, 0 to 1."""
    if schedule == "constant":
        return np.full(progress.shape, peak, np.float32)
    warm = np.minimum(1.0, (progress + 1e-3) / WARM_UP_SHARE)
    left = 1.0 - np.clip(progress, 0.0, 1.0)
    fall = left if schedule == "linear" else 0.5 * (1.0 - np.cos(np.pi * left))
    return (peak * warm * fall).astype(np.float32)
