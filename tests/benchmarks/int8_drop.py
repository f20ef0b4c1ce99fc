"""What int8 costs trained nets: by TFLite's converter, and by the recipe that is chosen.

Draws candidates of every search space that fit a target, trains each for a while on the CIFAR-10
subset of `cifar10_search.py` and on the images of sample:parts in turn, makes both int8 files from
the same weights, and runs them and float32 on 10,000 and 4,800 test images with XNNPACK; some of
them also with activations of 16 bits, which tells what rounded weights alone cost. A line of JSON a
net, resumable, one thread:
    .venv/bin/python tests/benchmarks/int8_drop.py run drop.jsonl --nets 30 --seconds 60
    .venv/bin/python tests/benchmarks/int8_drop.py report drop.jsonl
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")

import numpy as np
from cifar10_search import DATA
from int8_pairs import data_set, expected_loss, mean_expected, summary
from numpy.typing import NDArray

from tuner import catalog
from tuner.cost.lower import lower
from tuner.engine.builds import CALIBRATION_IMAGES, PRECISIONS, make_builds
from tuner.engine.costs import cost_on
from tuner.engine.images import labelled
from tuner.propose.choices import RandomChoices
from tuner.spec import Candidate, Context, DatasetSpec, FilePrecision
from tuner.train.quiet import import_tensorflow

TARGETS = ("nano33ble", "stm32h743")
"""A small and a large one, in turn."""

DATA_SETS = ("cifar10", "parts")
"""In turn; see `data_set`."""

INT8 = ("default", "chosen")

WIDE_IMAGES = 2000
"""Test images, evenly spaced, with activations of 16 bits, for which LiteRT has no fast kernels."""


def draw(space: str, target_name: str, data: DatasetSpec, seed: int) -> Candidate:
    """The first random candidate of a space that fits."""
    module = catalog.load_space(space)
    target = catalog.load_target(target_name)
    context = Context(
        limits=target.model_limits, kernels=target.kernels,
        accelerated=target.accelerator != "none",
        image_height=data.image_height, image_width=data.image_width, colour=data.colour,
        outputs=len(data.classes),
    )  # fmt: skip
    generator = random.Random(f"{space}/{target_name}/{seed}")
    while True:
        candidate = module.draw(RandomChoices(generator.getrandbits(32)), context)
        if cost_on(lower(candidate.architecture), target).fits:
            return candidate


def measure(number: int, home: Path, seconds: float) -> dict[str, Any]:
    """Draw and train one net, quantize it twice and test all three."""
    from tuner.data import open_dataset
    from tuner.data.preprocess import evenly_spaced, scale
    from tuner.train.build import build_keras, start_anew
    from tuner.train.convert import INPUT_RANGES, convert_tflite
    from tuner.train.loop import train

    count, spaces = len(DATA_SETS), sorted(catalog.names("search_spaces"))
    name, space = DATA_SETS[number % count], spaces[number // count % len(spaces)]
    target = TARGETS[number // count // len(spaces) % len(TARGETS)]
    dataset = open_dataset(data_set(name, home), split_seed=0, cache=home / "cache")
    os.environ["TUNE_HOME"] = str(home)
    candidate = draw(space, target, dataset.spec, number)
    training, validation, test = (
        labelled(dataset, candidate, split) for split in ("training", "validation", "test")
    )
    task = catalog.load_module("tasks", "classification")
    start_anew(number)
    model = build_keras(candidate.architecture, dropout_seed=number)
    trained = train(
        model, candidate, training, validation, epochs=candidate.training.epochs, seed=number,
        seconds=seconds,
        loss=task.loss(candidate.training, training.labels, task.outputs(dataset.spec)),
    )  # fmt: skip
    row: dict[str, Any] = {
        "number": number, "id": candidate.id, "space": space, "target": target,
        "data": name, "macs": lower(candidate.architecture).macs,
        "epochs": trained.epochs, "train_seconds": round(trained.seconds, 1),
        "images": len(test.labels), "int8": {},
    }  # fmt: skip
    for name in INT8:
        with tempfile.TemporaryDirectory() as place:
            started = time.monotonic()
            builds = make_builds(
                model, candidate, training, [("litert", "xnnpack")], Path(place),
                chosen=name == "chosen",
            )  # fmt: skip
            took = time.monotonic() - started
            float32, rounded = (
                logits(
                    Path(place, builds[precision].artifact).read_bytes(),
                    precision,
                    test.images,
                    candidate,
                )
                for precision in PRECISIONS
            )
        exact, int8 = float32.argmax(axis=1), rounded.argmax(axis=1)
        right = exact == test.labels
        row["float32"] = int(right.sum())
        row["int8"][name] = {
            "correct": int((int8 == test.labels).sum()),
            "lost": int((right & (int8 != test.labels)).sum()),
            "gained": int((~right & (int8 == test.labels)).sum()),
            "changed": int((int8 != exact).sum()),
            "expected": expected_loss(float32, rounded),
            "seconds": round(took, 2),
            "recipe": builds["int8"].recipe,
            "least_snr_db": min(builds["int8"].snr_db, default=None),
        }
    scaling = candidate.preprocessing.scaling
    calibration = scale(
        training.images[evenly_spaced(len(training.images), CALIBRATION_IMAGES)], scaling
    )
    wide = convert_tflite(model, "int16x8", calibration, input_range=INPUT_RANGES[scaling])
    some = evenly_spaced(len(test.images), WIDE_IMAGES)
    row["weights_alone_expected"] = expected_loss(
        float32[some], logits(wide, "int16x8", test.images[some], candidate, "builtin")
    )
    return row


def logits(
    content: bytes,
    precision: FilePrecision,
    images: NDArray[np.uint8],
    candidate: Candidate,
    kernels: Any = "xnnpack",
) -> NDArray[np.float32]:
    """What a file says of each image."""
    from tuner.data.preprocess import scaled_chunks
    from tuner.runtimes.interpreter import run_tflite

    return np.concatenate(
        [
            run_tflite(content, precision, part, kernels)
            for part in scaled_chunks(images, candidate.preprocessing.scaling)
        ]
    )


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Points of accuracy lost, with the standard error of each net's pairs, and what it took."""
    table: dict[str, Any] = {
        "nets": len(rows),
        "test_images": sum(row["images"] for row in rows),
        "mean_train_seconds": round(statistics.mean(row["train_seconds"] for row in rows), 1),
    }
    for name in INT8:
        found = [row["int8"][name] for row in rows]
        images = [row["images"] for row in rows]
        table[name] = {
            **summary(
                [
                    (item["lost"], item["gained"], count)
                    for item, count in zip(found, images, strict=True)
                ]
            ),
            "expected_loss": mean_expected([item["expected"] for item in found]),
            "changed_percent": round(100 * sum(item["changed"] for item in found) / sum(images), 3),
            "mean_seconds": round(statistics.mean(item["seconds"] for item in found), 2),
        }
    table["weights_alone_expected_loss"] = mean_expected(
        [row["weights_alone_expected"] for row in rows]
    )
    words = [row["int8"]["chosen"]["recipe"].split(" over ")[0] for row in rows]
    table["recipes"] = {word: words.count(word) for word in sorted(set(words))}
    return table


def main() -> None:
    """Run or report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("action", choices=("run", "report"))
    parser.add_argument("rows", type=Path)
    parser.add_argument("--nets", type=int, default=30)
    parser.add_argument("--seconds", type=float, default=60.0, help="of training, each")
    parser.add_argument("--home", type=Path, help="a folder to keep prepared images in")
    options = parser.parse_args()
    rows = []
    if options.rows.exists():
        rows = [json.loads(line) for line in options.rows.read_text().splitlines()]
    if options.action == "run":
        if not (DATA / "cifar10-train.zip").exists():
            sys.exit(f"cifar10-train.zip and cifar10-test.zip are needed in {DATA}")
        import_tensorflow()
        home = options.home or Path(tempfile.mkdtemp())
        home.mkdir(parents=True, exist_ok=True)
        done = {row["number"] for row in rows}
        for number in (item for item in range(options.nets) if item not in done):
            row = measure(number, home, options.seconds)
            rows.append(row)
            with options.rows.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), file=sys.stderr, flush=True)
    print(json.dumps(report(rows), indent=2))


if __name__ == "__main__":
    main()
