"""A trained net to take over: residual blocks on digits, its classes not those it is used for."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np

from tuner.data import open_dataset
from tuner.spec import (
    Add,
    Candidate,
    Conv2D,
    Layers,
    ModelVersion,
    Preprocessing,
    TrainingSettings,
    with_head,
)
from tuner.store.events import now
from tuner.store.models import ModelFolder, new_version, write_version
from tuner.testing.models import template_of
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras, start_anew

PIXELS = Preprocessing(height=8, width=8, colour="grey")


def residual_candidate(outputs: int, *, filters: int = 12, **settings: object) -> Candidate:
    """Two convolutions whose result is added to a 1x1 convolution of what they read."""
    net = Layers(PIXELS)
    stem = net.add("stem", Conv2D(filters=filters))
    net.add("first", Conv2D(filters=2 * filters, stride=2))
    second = net.add("second", Conv2D(filters=2 * filters, activation="linear"))
    short = Conv2D(filters=2 * filters, kernel=1, stride=2, activation="linear")
    net.add("short", short, stem)
    net.add("sum", Add(activation="relu"), second, "short")
    return Candidate(
        preprocessing=PIXELS,
        architecture=with_head(net.without_end(), "mean", 0.0, outputs),
        training=dataclasses.replace(TrainingSettings(epochs=4, batch_size=16), **settings),
    )


def digits(path: Path, classes: range, each: int) -> Path:
    """Some digits as .npz with given splits: so many training images a class, 20 for the others."""
    from sklearn.datasets import load_digits

    data = load_digits()
    images = (data.images * 15.9).astype(np.uint8)
    rows = [np.flatnonzero(data.target == label) for label in classes]
    parts = {
        "": [found[40 : 40 + each] for found in rows],
        "_validation": [found[:20] for found in rows],
        "_test": [found[20:40] for found in rows],
    }
    arrays = {}
    for split, found in parts.items():
        chosen = np.concatenate(found)
        arrays[f"x{split}"] = images[chosen]
        arrays[f"y{split}"] = (data.target[chosen] - classes[0]).astype(np.int64)
    np.savez(path, classes=np.array([str(label) for label in classes]), **arrays)
    return path


def base_model(home: Path) -> ModelFolder:
    """`base@1`, a net for the digits 0 to 4, its weights as if trained."""
    candidate = residual_candidate(5)
    template = template_of(candidate, str(digits(home / "low.npz", range(5), 20)), "base")
    start_anew(0)
    model = build_keras(candidate.architecture)
    randomize_weights(model, 1)
    with new_version("base", "made-up") as folder:
        model.save(folder / "model.keras")
        version = ModelVersion(
            name="base",
            version=1,
            template=template,
            dataset=open_dataset(template.data, split_seed=0).spec,
            costs={},
            builds={},
            epochs=1,
            best_epoch=1,
            train_seconds=0.0,
            curve=(0.5,),
            threads=1,
            created=now(),
        )
        return write_version(folder, version)
