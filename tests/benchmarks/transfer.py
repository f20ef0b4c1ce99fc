"""Transfer to few images against training from scratch, and what int8 costs either.

A net of `mixed_stages`, "plain, then separable", is trained on 1,000 images of each of five
classes of CIFAR-10, the first by name, and taken over for the other five, of which there are few
images. Candidates are the first starting point of the space `transfer` and random draws of it;
each is trained twice for the same epochs, once with the weights and once without them, nothing
frozen. Accuracies are of test images. Prints a line a candidate, then JSON. What was done stays in
the home, so that an interrupted call can be made again. Run it alone:
    .venv/bin/python tests/benchmarks/transfer.py --home ~/transfer --candidates 8
"""

from __future__ import annotations

import argparse
import io
import json
import os
import statistics
import sys
import tempfile
import time
import zipfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from tuner.catalog import load_space, load_target
from tuner.data import open_dataset
from tuner.engine.retraining import retrain_candidate
from tuner.engine.transfer import find_backbones
from tuner.models.retrain import retrain
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.propose.transfer import TransferSpace
from tuner.spec import (
    Accuracy,
    Candidate,
    Context,
    DatasetSpec,
    Retraining,
    RunSpec,
    Template,
    from_plain,
    to_plain,
)
from tuner.store.files import cache_folder

DATA = Path(__file__).resolve().parents[3] / "shared" / "data"
TARGET = "raspberry-pi-4"
FORM = "plain, then separable"
BASE_CLASSES, NEW_CLASSES = slice(0, 5), slice(5, 10)
VALIDATION = 20
"""Images a class, beside those that are trained on."""


def read(archive: Path, classes: slice, each: int) -> tuple[list[Any], list[int], list[str]]:
    """The first images of some classes by file name, uint8, with labels and class names."""
    with zipfile.ZipFile(archive) as source:
        names = defaultdict(list)
        for name in sorted(source.namelist()):
            if name.endswith((".jpg", ".png")):
                names[name.split("/")[-2]].append(name)
        chosen = sorted(names)[classes]
        images, labels = [], []
        for label, word in enumerate(chosen):
            for name in names[word][:each]:
                images.append(np.asarray(Image.open(io.BytesIO(source.read(name))).convert("RGB")))
                labels.append(label)
    return images, labels, chosen


def write(path: Path, classes: slice, each: int, test: int) -> None:
    """An `.npz` of given splits."""
    images, labels, names = read(DATA / "cifar10-train.zip", classes, each + VALIDATION)
    held = [index % (each + VALIDATION) >= each for index in range(len(labels))]
    tested, truth, _ = read(DATA / "cifar10-test.zip", classes, test)
    np.savez(
        path,
        x=np.stack([image for image, out in zip(images, held, strict=True) if not out]),
        y=np.array([label for label, out in zip(labels, held, strict=True) if not out]),
        x_validation=np.stack([image for image, out in zip(images, held, strict=True) if out]),
        y_validation=np.array([label for label, out in zip(labels, held, strict=True) if out]),
        x_test=np.stack(tested), y_test=np.array(truth), classes=np.array(names),
    )  # fmt: skip


def train_base(home: Path, epochs: int) -> None:
    """`base@1` of the home."""
    write(home / "base.npz", BASE_CLASSES, 1000, 200)
    dataset = open_dataset(str(home / "base.npz"), split_seed=0, cache=cache_folder()).spec
    space = load_space("mixed_stages")
    points = {point.name: point for point in space.starting_points(_context(dataset))}
    table = {**points[FORM].sizes[0], "resolution": 32, "width": 16}
    candidate = space.draw(TableChoices(table), _context(dataset))
    template = Template(
        name="base", run="benchmark", candidate=candidate.id, task="classification",
        data=str(home / "base.npz"), fingerprint=dataset.fingerprint, split_seed=0, seed=0,
        preprocessing=candidate.preprocessing, training=candidate.training,
        architecture=candidate.architecture, target=load_target(TARGET),
    )  # fmt: skip
    version = retrain(template, epochs=epochs).read()
    print(f"base: {version.epochs} epochs, test {_accuracies(to_plain(version.builds))}")


def _context(dataset: DatasetSpec) -> Context:
    target = load_target(TARGET)
    return Context(
        limits=target.model_limits, kernels=target.kernels, accelerated=True, image_height=32,
        image_width=32, colour="rgb", outputs=len(dataset.classes),
    )  # fmt: skip


def _accuracies(builds: Any) -> dict[str, float]:
    return {
        key: from_plain(Accuracy, build["accuracy"]["test"], "build").value
        for key, build in builds.items()
    }


def train(candidate: Candidate, dataset: DatasetSpec, seed: int) -> dict[str, float]:
    """Test accuracies of one training, by precision, and its seconds."""
    spec = RunSpec(
        name="transfer", dataset=dataset, targets=(load_target(TARGET),), task="classification",
        spaces=(), seed=seed, workers=1, budget_seconds=None, max_candidates=1,
    )  # fmt: skip
    retraining = Retraining(epochs=candidate.training.epochs, threads=2)
    with tempfile.TemporaryDirectory() as folder:
        fields = retrain_candidate(
            to_plain(spec), Path(folder), to_plain(candidate), to_plain(retraining), None
        )
    return {**_accuracies(fields["builds"]), "seconds": fields["train_seconds"]}


def draws(space: TransferSpace, context: Context, count: int) -> Sequence[Candidate]:
    """The first starting point and random draws."""
    first = space.draw(TableChoices(space.starting_points(context)[0].sizes[0]), context)
    return [first, *(space.draw(RandomChoices(seed), context) for seed in range(count - 1))]


def main() -> None:
    """Train, compare, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--home", type=Path)
    parser.add_argument("--base-epochs", type=int, default=40)
    parser.add_argument("--candidates", type=int, default=8, help="0 trains the base alone")
    parser.add_argument("--images", type=int, default=20, help="to train on, a class")
    parser.add_argument("--test-images", type=int, default=1000, help="a class")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    if not (DATA / "cifar10-train.zip").exists():
        sys.exit(f"cifar10-train.zip and cifar10-test.zip are needed in {DATA}")
    home = options.home or Path(tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    os.environ["TUNE_HOME"] = str(home)
    if not (home / "models" / "base" / "1").exists():
        train_base(home, options.base_epochs)
    few = home / f"few-{options.images}-{options.test_images}.npz"
    if not few.exists():
        write(few, NEW_CLASSES, options.images, options.test_images)
    dataset = open_dataset(str(few), split_seed=0, cache=cache_folder()).spec
    target, context = load_target(TARGET), _context(dataset)
    space = TransferSpace(find_backbones("base@1", {TARGET: target}, {TARGET: context}))
    known = home / f"rows-{options.images}-{options.test_images}-{options.seed}.json"
    rows = json.loads(known.read_text(encoding="utf-8")) if known.exists() else []
    candidates = draws(space, context, options.candidates) if options.candidates else ()
    for candidate in candidates[len(rows) :]:
        plain = replace(candidate.training, weights="", frozen_share=0.0, unfrozen_rate=1.0)
        began = time.monotonic()
        row: dict[str, Any] = {
            "id": candidate.id,
            "side": candidate.preprocessing.height,
            "optimizer": candidate.training.optimizer,
            "learning_rate": round(candidate.training.learning_rate, 4),
            "frozen_share": candidate.training.frozen_share,
            "unfrozen_rate": candidate.training.unfrozen_rate,
            "transfer": train(candidate, dataset, options.seed),
            "scratch": train(replace(candidate, training=plain), dataset, options.seed),
        }
        row["wall_seconds"] = round(time.monotonic() - began, 1)
        rows.append(row)
        known.write_text(json.dumps(rows), encoding="utf-8")
        print(json.dumps(row), file=sys.stderr, flush=True)
    if rows:
        print(json.dumps(summary(rows), indent=2))


def summary(rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """What transfer gains and what int8 costs, in points."""
    gains = [100 * (row["transfer"]["int8"] - row["scratch"]["int8"]) for row in rows]
    drops = {
        kind: [100 * (row[kind]["float32"] - row[kind]["int8"]) for row in rows]
        for kind in ("transfer", "scratch")
    }
    return {
        "candidates": len(rows),
        "transfer_wins": sum(gain > 0 for gain in gains),
        "mean_gain_points": round(statistics.mean(gains), 2),
        "least_gain_points": round(min(gains), 2),
        "mean_int8": {
            kind: round(statistics.mean(row[kind]["int8"] for row in rows), 4) for kind in drops
        },
        "mean_drop_points": {kind: round(statistics.mean(of), 2) for kind, of in drops.items()},
        "worst_drop_points": {kind: round(max(of), 2) for kind, of in drops.items()},
        "rows": rows,
    }


if __name__ == "__main__":
    main()
