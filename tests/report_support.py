"""Runs made up from real draws and costs, with events like those of the supervisor."""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from tuner import catalog
from tuner.cost.lower import lower
from tuner.data import Dataset, open_dataset
from tuner.engine.costs import costs_on
from tuner.engine.predictions import SplitPredictions, predictions_of, write_predictions
from tuner.propose.choices import RandomChoices
from tuner.spec import Build, Candidate, Context, DatasetSpec, RunSpec, Target, to_plain
from tuner.store.runs import RunFolder

IMAGES = 200
"""Of validation, and of test."""


def made_up_run(
    path: Path,
    count: int,
    *,
    classes: Sequence[str] = ("a", "b", "c"),
    target: Target | None = None,
) -> RunFolder:
    """Write a finished run of so many different candidates.

    Every tenth is trained to the end and tested, every eleventh fails; the others are stopped at
    the first rung. Accuracy rises with the resolution, and with chance.
    """
    target = target or catalog.load_target("nano33ble")
    spec = RunSpec(
        name=path.name,
        dataset=DatasetSpec(
            source="/home/somebody/secret/pictures", fingerprint="0", classes=tuple(classes),
            counts={"training": 1000, "validation": IMAGES, "test": IMAGES},
            image_height=96, image_width=96, colour="rgb", split_seed=0,
        ),
        targets=(target,), task="classification", spaces=("mixed_stages",), seed=0, workers=2,
        budget_seconds=None, max_candidates=count, versions={"keras": "3"},
        created="2026-01-02T03:04:05.000+00:00",
    )  # fmt: skip
    folder = RunFolder(path)
    folder.write_spec(spec)
    lines = "".join(json.dumps(event) + "\n" for event in _events(spec, count))
    (path / "events.jsonl").write_text(lines)
    return folder


def add_images(folder: RunFolder, source: str) -> Dataset:
    """Give a made-up run real images and predictions of what was trained to its end.

    Of each split about every fifth image is taken for another class, by each precision alone.
    """
    dataset = open_dataset(source, split_seed=0)
    folder.write_spec(replace(folder.spec(), dataset=dataset.spec))
    outputs = len(dataset.spec.classes)
    for result in folder.results():
        if result.status != "ok":
            continue
        generator = np.random.default_rng(result.index)
        for split in ("validation", "test"):
            labels = dataset.labels(split)
            builds = {}
            for precision in ("float32", "int8"):
                logits = np.zeros((len(labels), outputs), np.float32)
                wrong = generator.random(len(labels)) < 0.2
                taken = (labels + wrong) % outputs
                logits[np.arange(len(labels)), taken] = generator.uniform(0.5, 6, len(labels))
                builds[precision] = predictions_of(logits)
            write_predictions(
                folder.candidate(result.candidate.id),
                split,
                SplitPredictions(labels=labels, builds=builds),
            )
    return dataset


def small_pictures(path: Path, classes: Sequence[str], *, side: int = 24) -> Path:
    """Coloured noise as .npz: IMAGES of validation and of test, and as many to learn from."""
    generator = np.random.default_rng(0)
    arrays = {"classes": np.array(classes)}
    for ending in ("", "_validation", "_test"):
        labels = np.arange(IMAGES) % len(classes)
        noise = generator.integers(0, 100, (IMAGES, side, side, 3))
        shade = (labels * 150 // len(classes))[:, None, None, None]
        arrays[f"x{ending}"] = (noise + shade * np.array([1, 0, 1])).astype(np.uint8)
        arrays[f"y{ending}"] = labels
    np.savez(path, **arrays)
    return path


def _events(spec: RunSpec, count: int) -> list[dict[str, Any]]:
    space = catalog.load_module("search_spaces", "mixed_stages")
    target = spec.targets[0]
    context = Context(
        limits=target.model_limits, kernels=target.kernels, accelerated=False, image_height=96,
        image_width=96, colour="rgb", outputs=len(spec.dataset.classes),
    )  # fmt: skip
    events: list[dict[str, Any]] = [{"event": "opened", "elapsed": 0.0}]
    known: set[str] = set()
    seed = 0
    for index in range(count):
        while True:
            seed += 1
            choices = RandomChoices(seed)
            candidate = space.draw(choices, context)
            if candidate.id not in known:
                known.add(candidate.id)
                break
        chance = random.Random(index)
        costs = costs_on(candidate.architecture, [target])
        events.append(
            {
                "event": "proposed", "elapsed": 2.0 * index, "index": index, "id": candidate.id,
                "origin": "random", "focus": target.name, "space": "mixed_stages",
                "choices": choices.taken, "candidate": to_plain(candidate),
                "costs": to_plain(costs), "over_limit": {"ram_bytes": 2}, "nearest_miss": None,
                "known": 0, "others": [],
            }
        )  # fmt: skip
        if index % 11 == 10:
            events.append(
                {"event": "finished", "elapsed": 2.0 * index + 1, "index": index,
                 "status": "failed", "reason": "out of memory"}
            )  # fmt: skip
            continue
        share = min(0.99, 0.3 + candidate.preprocessing.height / 200 + 0.2 * chance.random())
        ended = index % 10 == 0
        events.append(
            {
                "event": "finished" if ended else "rung", "elapsed": 2.0 * index + 1,
                "index": index, "rung": 1 if ended else 0, "epochs": 4, "train_seconds": 8.0,
                "curve": [round(share * part, 4) for part in (0.4, 0.7, 0.9, 1.0)],
                "builds": {
                    precision: _build(precision, share, spec.dataset.classes, chance)
                    | (_loss(candidate) if ended and precision == "int8" else {})
                    for precision in ("float32", "int8")
                },
                **({"status": "ok"} if ended else {}),
            }
        )  # fmt: skip
        if ended:
            tested = _build("int8", share - 0.02, spec.dataset.classes, chance)
            events.append(
                {"event": "tested", "elapsed": 2.0 * count, "index": index,
                 "accuracy": {"int8": tested["accuracy"]["validation"]}}
            )  # fmt: skip
        else:
            events.append(
                {"event": "finished", "elapsed": 2.0 * count, "index": index, "status": "stopped",
                 "reason": "cut at rung 0 of 1, after 4 epochs; others went on"}
            )  # fmt: skip
    events.append({"event": "ended", "elapsed": 2.0 * count})
    return events


def _loss(candidate: Candidate) -> dict[str, Any]:
    """What is known of the int8 build of a candidate that was trained to its end."""
    operators = len(lower(candidate.architecture).operators)
    return {
        "recipe": "least-error over 200 training images",
        "beside_float32": {"validation": {"images": IMAGES, "gained": 1, "lost": 3}},
        "snr_db": [40.0 - index / 2 for index in range(operators)],
    }


def _build(
    precision: str, share: float, classes: Sequence[str], chance: random.Random
) -> dict[str, Any]:
    """A build with the confusion of as many images as IMAGES, spread over the classes."""
    size = len(classes)
    confusion = [[0] * size for _ in range(size)]
    for image in range(IMAGES):
        truth = image % size
        right = chance.random() < share
        confusion[truth][truth if right else (truth + 1) % size] += 1
    return to_plain(
        Build(
            runtime="litert", kernels="builtin", precision=precision, recipe="",
            artifact=f"{precision}.tflite", size_bytes=1000, accuracy={},
        )
    ) | {"accuracy": {"validation": {"confusion": confusion}}}  # fmt: skip
