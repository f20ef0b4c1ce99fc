from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.data import mapped
from tuner.spec import Augmentation
from tuner.tasks import classification
from tuner.testing.specs import small_candidate
from tuner.train import loop, steps
from tuner.train.build import build_keras
from tuner.train.flat import FlatVariables, store
from tuner.train.loop import (
    MIN_PATIENCE_EPOCHS,
    Epoch,
    LabelledImages,
    make_evaluator,
    train,
)
from tuner.train.steps import SMALLEST_PART, TURN_BYTES, parts_of_batch, turns_of_batch


def stripes(count: int, seed: int) -> LabelledImages:
    """Horizontal against vertical stripes, with noise."""
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 2, count)
    pattern = np.where(np.arange(8) % 2, 200, 40)
    images = np.where(labels[:, None, None] == 1, pattern[None, :, None], pattern[None, None, :])
    noisy = images + generator.normal(0, 30, images.shape)
    return LabelledImages(
        images=np.clip(noisy, 0, 255).astype(np.uint8)[..., None], labels=labels.astype(np.int64)
    )


def trained(
    epochs: int = 6,
    seed: int = 3,
    learning_rate: float | None = None,
    schedule: str | None = None,
    optimizer: str | None = None,
    filters: int = 8,
    training: LabelledImages | None = None,
    **options,
):
    import keras

    keras.utils.set_random_seed(seed)
    candidate = small_candidate(filters)
    given = {"learning_rate": learning_rate, "schedule": schedule, "optimizer": optimizer}
    changes = {name: value for name, value in given.items() if value is not None}
    settings = dataclasses.replace(candidate.training, **changes)
    candidate = dataclasses.replace(candidate, training=settings)
    model = build_keras(candidate.architecture)
    outcome = train(
        model,
        candidate,
        training or stripes(256, 0),
        stripes(64, 1),
        epochs=epochs,
        seed=seed,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        **options,
    )
    return model, outcome


def test_it_learns_and_keeps_the_best_epoch():
    epochs: list[Epoch] = []
    model, outcome = trained(epochs=30, on_epoch=epochs.append)
    assert outcome.epochs == len(outcome.curve) == len(epochs) == 30
    assert max(outcome.curve) > 0.9
    assert outcome.curve[outcome.best_epoch - 1] == max(outcome.curve)
    kept = make_evaluator(model, stripes(64, 1), "signed")()
    assert kept == max(outcome.curve)
    assert epochs[-1].loss < epochs[0].loss


def test_the_same_seed_gives_the_same_weights():
    first, second, other = trained()[0], trained()[0], trained(seed=4)[0]
    for mine, same in zip(first.get_weights(), second.get_weights(), strict=True):
        assert np.array_equal(mine, same)
    assert not np.array_equal(first.get_weights()[0], other.get_weights()[0])


def test_a_clock_cuts_the_planned_epochs():
    _, outcome = trained(epochs=100_000, seconds=1.5)
    assert outcome.epochs == outcome.planned < 100_000


def test_a_clock_lets_a_fast_training_have_all_its_epochs():
    _, outcome = trained(epochs=2, seconds=60.0)
    assert outcome.epochs == small_candidate().training.epochs
    for planned in (1, 2):
        _, outcome = trained(epochs=planned, most_epochs=3, seconds=60.0)
        assert outcome.epochs == 3


def test_patience_ends_a_training_that_gets_no_better():
    _, outcome = trained(epochs=400, patience_share=0.02)
    first_best = outcome.curve.index(max(outcome.curve)) + 1
    assert outcome.epochs == first_best + MIN_PATIENCE_EPOCHS < 400


@pytest.mark.parametrize(("schedule", "early"), [("constant", True), ("linear", False)])
def test_patience_waits_for_the_end_of_a_rate_that_falls(schedule, early):
    images = stripes(256, 0).images
    noise = LabelledImages(images=images, labels=np.random.default_rng(1).integers(0, 2, 256))
    _, outcome = trained(epochs=60, patience_share=0.02, schedule=schedule, training=noise)
    assert max(outcome.curve) < 1.0
    assert (outcome.epochs < 60) is early


def test_a_loss_that_explodes_is_refused():
    from tuner.errors import TuneError

    with pytest.raises(TuneError, match=r"infinite in the first epoch; the learning rate 1e\+30"):
        trained(learning_rate=1e30)


def test_images_handed_over_in_parts_give_the_same_weights(monkeypatch):
    whole = trained()[0]
    monkeypatch.setattr(loop, "CHUNK_BYTES", 100 * 8 * 8)
    parts, outcome = trained()
    assert outcome.epochs == 6
    for mine, same in zip(parts.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(mine, same)


@pytest.mark.parametrize("kept_bytes", [mapped.KEPT_BYTES, 0])
def test_a_memory_map_trains_as_an_array_does(tmp_path, monkeypatch, kept_bytes):
    monkeypatch.setattr(mapped, "KEPT_BYTES", kept_bytes)
    data = stripes(256, 0)
    np.save(tmp_path / "images.npy", data.images)
    of_file = LabelledImages(
        images=np.load(tmp_path / "images.npy", mmap_mode="r"), labels=data.labels
    )
    array, memory_map = trained()[0], trained(training=of_file)[0]
    for mine, same in zip(memory_map.get_weights(), array.get_weights(), strict=True):
        assert np.array_equal(mine, same)


@pytest.mark.parametrize(
    ("name", "threads", "turns"),
    [
        ("adamw", 1, 1),
        ("sgd", 1, 1),
        ("sgd", 2, 1),
        ("adamw", 3, 1),
        ("adamw", 1, 4),
        ("sgd", 2, 2),
    ],
)
def test_it_trains_as_keras_does(name, threads, turns, monkeypatch):
    """The same steps by Keras' own call, gradients, optimizer and moving averages.

    With more threads a batch of 32 is two parts, each normalized by itself; and so is each turn of
    a batch that takes more memory than it may.
    """
    import keras
    import tensorflow as tf

    if turns > 1:
        monkeypatch.setattr(steps, "TURN_BYTES", 1)
        monkeypatch.setattr(steps, "SMALLEST_PART", 8)
    settings = dataclasses.replace(
        small_candidate().training,
        batch_size=32,
        schedule="constant",
        weight_decay=0.05,
        augmentation=Augmentation(),
        optimizer=name,
    )
    candidate = dataclasses.replace(small_candidate(filters=12), training=settings)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    data = stripes(256, 0)
    keras.utils.set_random_seed(1)
    ours = build_keras(candidate.architecture)
    theirs = keras.models.clone_model(ours)
    theirs.set_weights(ours.get_weights())
    outcome = train(
        ours, candidate, data, stripes(1, 5), epochs=1, seed=9, loss=loss, threads=threads
    )
    assert outcome.best_epoch == 1
    optimizer = {
        "adamw": keras.optimizers.AdamW(settings.learning_rate, weight_decay=0.05),
        "sgd": keras.optimizers.SGD(
            settings.learning_rate, momentum=0.9, nesterov=True, weight_decay=0.05
        ),
    }[name]
    for rows in np.random.default_rng(9).permutation(256).reshape(8, 32):
        pixels = (data.images[rows].astype(np.float32) - 128.0) / 128.0
        before = [value.numpy() for value in theirs.non_trainable_weights]
        slopes, averages = [], []
        for part in np.split(np.arange(32), min(threads, 2) * turns):
            for variable, value in zip(theirs.non_trainable_weights, before, strict=True):
                variable.assign(value)
            with tf.GradientTape() as tape:
                value = loss(data.labels[rows[part]], theirs(pixels[part], training=True))
            slopes.append(tape.gradient(value, theirs.trainable_variables))
            averages.append([value.numpy() for value in theirs.non_trainable_weights])
        gradients = [sum(same) / len(same) for same in zip(*slopes, strict=True)]
        optimizer.apply_gradients(zip(gradients, theirs.trainable_variables, strict=True))
        for variable, same in zip(
            theirs.non_trainable_weights, zip(*averages, strict=True), strict=True
        ):
            variable.assign(np.mean(same, axis=0))
    for mine, same in zip(ours.get_weights(), theirs.get_weights(), strict=True):
        np.testing.assert_allclose(mine, same, rtol=1e-3, atol=1e-4)


@pytest.mark.parametrize(
    ("batch", "threads", "parts"),
    [
        (64, 1, 1),
        (64, 2, 2),
        (64, 16, 4),
        (48, 2, 2),
        (50, 4, 2),
        (17, 8, 1),
        (9, 4, 1),
        (97, 4, 1),
    ],
)
def test_parts_of_a_batch_are_equal_and_not_small(batch, threads, parts):
    assert parts_of_batch(batch, threads) == parts


def test_the_graph_of_a_turn_is_made_once(monkeypatch):
    """Of large nets it takes seconds."""
    made: list[bool] = []
    logits = FlatVariables.logits

    def noted(self, *arguments, training, **options):
        made.append(training)
        return logits(self, *arguments, training=training, **options)

    monkeypatch.setattr(FlatVariables, "logits", noted)
    monkeypatch.setattr(steps, "TURN_BYTES", 1)
    monkeypatch.setattr(steps, "SMALLEST_PART", 8)
    assert trained()[1].epochs > 1
    assert made.count(True) == 1


@given(
    batch=st.integers(1, 512),
    threads=st.integers(1, 8),
    kept_activations=st.integers(1, 50_000_000),
)
def test_turns_keep_to_their_memory_or_have_no_smaller_part(batch, threads, kept_activations):
    parts = parts_of_batch(batch, threads)
    turns = turns_of_batch(batch, parts, kept_activations)
    assert batch % (parts * turns) == 0
    assert turns == 1 or batch // (parts * turns) >= SMALLEST_PART

    def takes(number: int) -> int:
        return 4 * kept_activations * batch // number

    fewer = [number for number in range(1, turns) if batch % (parts * number) == 0]
    assert all(takes(number) > parts * TURN_BYTES for number in fewer)
    if takes(turns) > parts * TURN_BYTES:
        more = range(turns + 1, batch // (parts * SMALLEST_PART) + 1)
        assert all(batch % (parts * number) for number in more)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd"])
def test_a_killed_training_goes_on_as_if_it_had_not_been(tmp_path, monkeypatch, optimizer):
    class Killed(BaseException):
        pass

    def kill_after(epoch: Epoch) -> None:
        if epoch.number == 4:
            raise Killed

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    options = {
        "epochs": 8,
        "optimizer": optimizer,
        "checkpoint": tmp_path / "checkpoint.npz",
        "contenders": 2,
    }
    with pytest.raises(Killed):
        trained(on_epoch=kill_after, **options)
    numbers: list[int] = []
    model, outcome = trained(on_epoch=lambda epoch: numbers.append(epoch.number), **options)
    assert numbers == [4, 5, 6, 7, 8]
    whole, expected = trained(epochs=8, optimizer=optimizer, contenders=2)
    for name in ("curve", "losses", "validation_losses"):
        assert getattr(outcome, name) == getattr(expected, name)
    for mine, same in zip(outcome.contenders, expected.contenders, strict=True):
        assert (mine.epoch, mine.score) == (same.epoch, same.score)
        assert np.array_equal(mine.weights, same.weights)
    for mine, same in zip(model.get_weights(), whole.get_weights(), strict=True):
        assert np.array_equal(mine, same)


def test_the_checkpoint_of_another_net_is_refused(tmp_path, monkeypatch):
    from tuner.errors import TuneError

    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)
    checkpoint = tmp_path / "checkpoint.npz"
    trained(epochs=2, checkpoint=checkpoint)
    with pytest.raises(TuneError, match=r"Expected the checkpoint of this training in .*weights"):
        trained(epochs=2, checkpoint=checkpoint, filters=12)


def noise() -> LabelledImages:
    """Stripes whose labels say nothing."""
    labels = np.random.default_rng(1).integers(0, 2, 256)
    return LabelledImages(images=stripes(256, 0).images, labels=labels)


def test_the_best_few_epochs_and_the_last_have_their_weights():
    options = {"schedule": "constant", "learning_rate": 0.02, "training": noise()}
    model, outcome = trained(epochs=12, contenders=3, **options)
    assert outcome.last.epoch == 12
    assert [item.score for item in outcome.contenders] == sorted(outcome.curve)[:-4:-1]
    assert outcome.best_epoch == outcome.contenders[0].epoch
    for item in (*outcome.contenders, outcome.last):
        store(model, item.weights)
        assert make_evaluator(model, stripes(64, 1), "signed")() == outcome.curve[item.epoch - 1]


def test_the_epoch_of_the_lowest_loss_is_the_best_if_asked():
    options = {"schedule": "constant", "learning_rate": 0.02, "training": noise()}
    model, outcome = trained(epochs=12, metric="loss", **options)
    losses = outcome.validation_losses
    assert losses[outcome.best_epoch - 1] == min(losses)
    data = stripes(64, 1)
    pixels = (data.images.astype(np.float32) - 128.0) / 128.0
    logits = model.predict(pixels, verbose=0)
    assert classification.mean_loss(logits, data.labels) == pytest.approx(min(losses), rel=1e-4)


def test_it_ends_when_the_loss_has_changed_little():
    _, outcome = trained(epochs=300, steady_epochs=6, schedule="constant")
    losses = outcome.losses
    assert len(losses) == outcome.epochs < 300
    spans = [max(part) - min(part) for part in np.lib.stride_tricks.sliding_window_view(losses, 6)]
    assert spans[-1] < loop.STEADY_CHANGE <= min(spans[:-1], default=np.inf)


def test_it_stops_after_an_epoch_when_asked():
    _, outcome = trained(epochs=50, stop=lambda: True)
    assert (outcome.epochs, outcome.planned) == (1, 50)


def test_two_parts_have_the_learning_rates_of_a_whole(monkeypatch: pytest.MonkeyPatch):
    rates: list[np.ndarray] = []
    real = loop._learning_rates

    def noted(*arguments):
        rates.append(real(*arguments))
        return rates[-1]

    monkeypatch.setattr(loop, "_learning_rates", noted)
    trained(epochs=10, learning_rate=0.01)
    trained(epochs=7, learning_rate=0.01, span=(0.0, 0.7))
    trained(epochs=3, learning_rate=0.01, span=(0.7, 1.0))
    np.testing.assert_allclose(np.concatenate(rates[10:]), np.concatenate(rates[:10]), rtol=1e-4)


def test_two_threads_learn_and_score_as_one_does():
    model, outcome = trained(epochs=30, threads=2)
    assert max(outcome.curve) > 0.9
    assert make_evaluator(model, stripes(64, 1), "signed")() == max(outcome.curve)


def test_a_training_far_behind_another_is_ended_from_its_half_on():
    _, outcome = trained(epochs=10, learning_rate=1e-7, others=(0.2, 0.9, 0.95, 0.95))
    assert outcome.hopeless
    assert outcome.epochs == 5


def test_a_training_near_another_goes_on():
    for others in ((), (0.05, 0.05, 0.05, 0.99)):
        _, outcome = trained(epochs=8, others=others)
        assert not outcome.hopeless
        assert outcome.epochs == 8


def test_a_clock_lengthens_the_first_half_of_a_training_and_cuts_the_second() -> None:
    state = loop._State(planned=100)
    clock = loop._Clock(state)

    def epochs(count: int, seconds: float) -> None:
        for _ in range(count):
            state.curve.append(0.5)
            state.seconds += seconds
            clock.plan(100.0, 240, 0.0)

    epochs(20, 2.0)  # something else still runs
    assert state.planned == 50
    epochs(20, 1.0)
    assert 75 <= state.planned <= 80
    epochs(20, 1.0)
    planned = state.planned
    epochs(10, 0.5)
    assert state.planned == planned, "the rate would rise again"
    epochs(5, 4.0)
    assert state.planned < planned
