"""A Model version: a retrained candidate with its metrics and builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tuner.spec.cost import Cost
from tuner.spec.dataset import DatasetSpec
from tuner.spec.result import Build, Precision
from tuner.spec.template import Template

Metric = Literal["accuracy", "loss"]
"""Of the validation images: the share of them that is right, or their mean cross-entropy."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Retraining:
    """How a template is trained.

    Args:
        epochs: planned at first; with a clock, its pace decides.
        threads: that a batch is divided among.
        seconds: that the training may take; None for no clock.
        patience_share: it ends when this share of it brought nothing better by the metric; None
            to end early only where nothing can be gained.
        steady_epochs: it ends when its loss has changed little over so many epochs; None to not
            look at it.
        keep: the weights of the best epoch, or of the last.
        metric: that tells which epoch is the best, as int8.
        seed_shift: added to the template's seed; one that continues a version is another training.
        quantization_share: of the epochs, or the seconds, at their end, in which the net rounds
            as its int8 file does; 0 for none.
        span: the part of the template's schedule of learning rates that is trained.
        unfrozen_from: of the schedule, where all layers began to learn, if before `span`.
    """

    epochs: int
    threads: int
    seconds: float | None = None
    patience_share: float | None = None
    steady_epochs: int | None = None
    keep: Literal["best", "last"] = "best"
    metric: Metric = "accuracy"
    seed_shift: int = 0
    quantization_share: float = 0.0
    span: tuple[float, float] = (0.0, 1.0)
    unfrozen_from: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizationAware:
    """The quantization-aware part of a training, its last.

    Args:
        epochs: epochs trained.
        train_seconds: seconds of training.
    """

    epochs: int
    train_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class ScoredEpoch:
    """How the weights after an epoch did on the validation images.

    Args:
        epoch: from 1.
        accuracy: share of the images that is right, 0 to 1, by precision; of a quantization-aware
            epoch as int8 alone.
        loss: mean cross-entropy of the images, likewise.
    """

    epoch: int
    accuracy: Mapping[Precision, float]
    loss: Mapping[Precision, float]


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """What a version is called in the home that published it; such names mean nothing here.

    Args:
        reference: NAME@VERSION.
        parent: NAME@VERSION that it was trained on from there, if any.
    """

    reference: str
    parent: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One numbered version, never overwritten.

    Args:
        name: the model's folder below `models/`.
        version: from 1.
        parent: NAME@VERSION here that it was trained on from; None for a training from scratch.
        template: what was trained.
        dataset: what it was trained on.
        costs: by target.
        builds: by precision, with accuracies on validation and test.
        epochs: epochs trained.
        best_epoch: the best of `scored` by the metric, as int8.
        train_seconds: seconds of training.
        curve: validation accuracy after each epoch: float32, of quantization-aware ones as int8.
        loss_curve: mean training loss of each epoch.
        validation_loss_curve: mean cross-entropy of the validation images after each, likewise.
        scored: the epochs that were compared as int8, the last one among them, by number.
        threads: TensorFlow threads used.
        created: ISO 8601, UTC.
        retraining: how it was trained; None in versions of before it was kept.
        stopped: the user ended it before its last epoch.
        quantization: the quantization-aware part, if there was one.
        origin: of one that was fetched.
    """

    name: str
    version: int
    template: Template
    dataset: DatasetSpec
    costs: Mapping[str, Cost]
    builds: Mapping[str, Build]
    epochs: int
    best_epoch: int
    train_seconds: float
    curve: tuple[float, ...]
    threads: int
    created: str
    parent: str | None = None
    retraining: Retraining | None = None
    loss_curve: tuple[float, ...] = ()
    validation_loss_curve: tuple[float, ...] = ()
    scored: tuple[ScoredEpoch, ...] = ()
    stopped: bool = False
    quantization: QuantizationAware | None = None
    origin: Origin | None = None
