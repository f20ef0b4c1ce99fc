"""A Model version: a retrained candidate with its metrics and builds."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tuner.spec.cost import Cost
from tuner.spec.dataset import DatasetSpec
from tuner.spec.result import Build
from tuner.spec.template import Template


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelVersion:
    """One numbered version, never overwritten.

    Args:
        name: the model's folder below `models/`.
        version: from 1.
        parent: the version that it was trained on from; None for a training from scratch.
        template: what was trained.
        dataset: what it was trained on.
        costs: by target.
        builds: by precision, with accuracies on validation and test.
        epochs: epochs trained.
        best_epoch: the epoch whose weights were kept.
        train_seconds: seconds of training.
        curve: validation accuracy (float32) after each epoch.
        threads: TensorFlow threads used.
        created: ISO 8601, UTC.
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
