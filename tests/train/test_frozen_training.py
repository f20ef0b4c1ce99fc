"""Training of the head alone, then of all layers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from transfer_support import residual_candidate
from tuner.errors import SpecError
from tuner.spec import TrainingSettings
from tuner.train import loop, steps
from tuner.train.build import build_keras, start_anew
from tuner.train.flat import store
from tuner.train.loop import LabelledImages, frozen_epochs, train


def images(count: int, seed: int) -> LabelledImages:
    generator = np.random.default_rng(seed)
    labels = generator.integers(0, 3, count)
    pixels = generator.integers(0, 100, (count, 8, 8, 1)) + 50 * labels[:, None, None, None]
    return LabelledImages(images=pixels.astype(np.uint8), labels=labels)


def trained(share: float, **options: Any) -> tuple[dict[str, list[Any]], Any]:
    """Weights by layer after 6 epochs, and how the training went."""
    import keras

    settings = {"weights": "w", "weight_decay": 0.05, "unfrozen_rate": 0.5}
    candidate = residual_candidate(
        3, filters=4, optimizer=options.pop("optimizer", "sgd"), learning_rate=0.05, **settings
    )
    start_anew(0)
    model = build_keras(candidate.architecture)
    before = {layer.name: layer.get_weights() for layer in model.layers}
    outcome = train(
        model, candidate, images(96, 0), images(48, 1), epochs=options.pop("epochs", 6), seed=5,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True), frozen_share=share,
        **options,
    )  # fmt: skip
    store(model, outcome.last.weights)
    after = {layer.name: layer.get_weights() for layer in model.layers}
    changed = {
        name: [not np.array_equal(*pair) for pair in zip(before[name], after[name], strict=True)]
        for name in before
    }
    return changed, (after, outcome)


HEAD = "n7"


@pytest.fixture(params=["whole", "turns"])
def batches(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Batches that are trained whole, and in turns for want of memory."""
    if request.param == "turns":
        monkeypatch.setattr(steps, "TURN_BYTES", 1)
        monkeypatch.setattr(steps, "SMALLEST_PART", 8)


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
@pytest.mark.parametrize("threads", [1, 2])
def test_frozen_layers_stay_as_they_are_and_the_head_learns(optimizer: str, threads: int) -> None:
    changed, (_, outcome) = trained(1.0, optimizer=optimizer, threads=threads)
    assert all(changed.pop(HEAD))
    assert not any(any(parts) for parts in changed.values())
    assert outcome.epochs == 6


@pytest.mark.usefixtures("batches")
@pytest.mark.parametrize("optimizer", ["sgd", "adamw"])
def test_later_all_layers_learn(optimizer: str) -> None:
    changed, _ = trained(0.5, optimizer=optimizer)
    assert all(all(parts) for parts in changed.values())


def test_a_share_of_the_epochs_is_frozen() -> None:
    assert frozen_epochs(0.0, 10) == 0
    assert frozen_epochs(1.0, 10) == 10
    assert frozen_epochs(0.2, 10) == 2
    assert frozen_epochs(0.01, 10) == 1
    assert frozen_epochs(0.99, 10) == 9
    assert frozen_epochs(0.5, 1) == 0


def test_the_rates_of_both_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    peaks = []
    rates = loop._learning_rates

    def noted(schedule: str, peak: float, progress: np.ndarray) -> Any:
        peaks.append((peak, round(3 * progress[0], 9)))
        return rates(schedule, peak, progress)

    monkeypatch.setattr(loop, "_learning_rates", noted)
    trained(0.5)
    frozen, all_layers = [(0.05, epoch) for epoch in range(3)], [(0.025, e) for e in range(3)]
    assert peaks == frozen + all_layers


@pytest.mark.parametrize(("share", "from_zero"), [(0.4, 0.4), (0.9, 0.7)])
def test_the_rates_of_a_training_in_two_spans(
    share: float, from_zero: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As of a whole one; where the head alone learns in the first, all layers start the second."""
    found: list[np.ndarray] = []
    rates = loop._learning_rates

    def noted(*arguments: Any) -> np.ndarray:
        found.append(rates(*arguments))
        return found[-1]

    monkeypatch.setattr(loop, "_learning_rates", noted)
    trained(min(1.0, share / 0.7), epochs=7, span=(0.0, 0.7))
    trained(0.0, epochs=3, span=(0.7, 1.0), unfrozen_from=min(share, 0.7))
    spans, found[:] = found[:], []
    trained(from_zero, epochs=10)
    np.testing.assert_allclose(np.concatenate(spans[7:]), np.concatenate(found[7:]), rtol=1e-4)
    assert all((part > 0).all() for part in spans)


@pytest.mark.parametrize("killed_after", [2, 3, 5])
def test_an_interrupted_training_gives_the_same_weights(
    killed_after: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Killed in the frozen part, between the parts, and in the other."""
    monkeypatch.setattr(loop, "CHECKPOINT_SECONDS", 0.0)

    def kill(epoch: loop.Epoch) -> None:
        if epoch.number == killed_after + 1:
            raise KeyboardInterrupt

    _, (whole, _) = trained(0.5)
    with pytest.raises(KeyboardInterrupt):
        trained(0.5, checkpoint=tmp_path / "checkpoint.npz", on_epoch=kill)
    _, (resumed, outcome) = trained(0.5, checkpoint=tmp_path / "checkpoint.npz")
    assert outcome.epochs == 6
    for name, parts in whole.items():
        for mine, other in zip(resumed[name], parts, strict=True):
            assert np.array_equal(mine, other), name


def test_a_clock_leaves_time_for_both_parts() -> None:
    changed, (_, outcome) = trained(0.5, epochs=4000, seconds=2.0)
    assert outcome.epochs == outcome.planned < 4000
    assert all(all(parts) for parts in changed.values())


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"frozen_share": 0.2}, r"0 without weights\. Received: frozen_share=0\.2, weights=''"),
        ({"frozen_share": 1.5, "weights": "w"}, r"from 0 to 1.*frozen_share=1\.5"),
        ({"unfrozen_rate": 0.0}, r"above 0, at most 1\. Received: unfrozen_rate=0\.0"),
    ],
)
def test_settings_that_cannot_be_followed(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(SpecError, match=message):
        TrainingSettings(**fields)


def test_candidates_of_earlier_runs_keep_their_ids() -> None:
    plain = residual_candidate(3)
    assert plain.id == residual_candidate(3, weights="", unfrozen_rate=1.0).id
    assert plain.id != residual_candidate(3, weights="w").id
