"""What int8 loses, with quantization-aware training and without, at as many epochs.

A candidate is drawn from each space and trained twice from one seed: all epochs in float32, and
the last part of them quantization-aware, as `tune retrain --quantization-percent` does. Test images
are run in float32 and, with XNNPACK, as int8; the converter calibrates by the minimum and maximum
of 200 training images. A line of JSON a candidate goes to `--out`; what is there is not done again.
    .venv/bin/python tests/benchmarks/quantization_aware.py --data sample:parts --out drop.jsonl
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
from pathlib import Path
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"

from tuner.train.quantization_aware import QuantizationAwareNet, import_legacy_keras

import_legacy_keras()

import numpy as np

from tuner import catalog
from tuner.cost.lower import lower
from tuner.data import Dataset, open_dataset
from tuner.data.preprocess import evenly_spaced, scale, scaled_chunks
from tuner.engine.builds import CALIBRATION_IMAGES
from tuner.engine.images import labelled
from tuner.propose.choices import RandomChoices
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import Augmentation, Candidate, Context, Limits, TrainingSettings
from tuner.store.files import cache_folder
from tuner.train.build import build_keras, run_keras, start_anew
from tuner.train.convert import INPUT_RANGES, convert_tflite, convert_with_ranges
from tuner.train.loop import Trained, train


def candidate_of(
    space: str, seed: int, side: int, outputs: int, epochs: int, most: int
) -> Candidate:
    """The first draw from `seed` on with at most so many MACs."""
    context = Context(
        limits=Limits(ram_bytes=128 << 10, flash_bytes=512 << 10),
        kernels="cmsis-nn",
        accelerated=False,
        image_height=side,
        image_width=side,
        colour="rgb",
        outputs=outputs,
    )
    module = catalog.load_module("search_spaces", space)
    drawn = module.draw(RandomChoices(seed), context)
    while lower(drawn.architecture).macs > most:
        seed += 1000
        drawn = module.draw(RandomChoices(seed), context)
    settings = TrainingSettings(
        epochs=epochs, augmentation=Augmentation(flip_horizontal=True, shift_fraction=0.1)
    )
    return dataclasses.replace(drawn, training=settings)


def measure(candidate: Candidate, dataset: Dataset, percent: float, seed: int) -> dict[str, Any]:
    """Train twice, and count what is right."""
    training, validation, test = (
        labelled(dataset, candidate, split) for split in ("training", "validation", "test")
    )
    task = catalog.load_module("tasks", "classification")
    settings, scaling = candidate.training, candidate.preprocessing.scaling
    loss = task.loss(settings, training.labels, task.outputs(dataset.spec))
    limits = INPUT_RANGES[scaling]
    rows = evenly_spaced(len(training.labels), CALIBRATION_IMAGES)
    calibration = scale(training.images[rows], scaling)
    row: dict[str, Any] = {"macs": lower(candidate.architecture).macs, "images": len(test.labels)}

    def fit(net: Any, epochs: int, **options: Any) -> Trained:
        return train(
            net, candidate, training, validation, epochs=epochs, seed=seed, loss=loss, **options
        )

    def right(name: str, logits: list[Any]) -> Any:
        found = np.concatenate(logits).argmax(axis=-1) == test.labels
        row[name] = int(found.sum())
        return found

    def score(name: str, model: Any, int8: bytes) -> None:
        chunks = list(scaled_chunks(test.images, scaling))
        floats = right(f"{name}_float32", [run_keras(model, chunk) for chunk in chunks])
        ints = right(
            f"{name}_int8", [run_tflite(int8, "int8", chunk, "xnnpack") for chunk in chunks]
        )
        row[f"{name}_gained"] = int((ints & ~floats).sum())
        row[f"{name}_lost"] = int((floats & ~ints).sum())

    start_anew(seed)
    model = build_keras(candidate.architecture, dropout_seed=seed)
    whole = fit(model, settings.epochs)
    row["whole_seconds"] = round(whole.seconds, 1)
    score("whole", model, convert_tflite(model, "int8", calibration, input_range=limits))
    start_anew(seed)
    model = build_keras(candidate.architecture, dropout_seed=seed)
    share = percent / 100.0
    aware = round(share * settings.epochs)
    first = fit(model, settings.epochs - aware, keep="last", span=(0.0, 1.0 - share))
    net = QuantizationAwareNet(candidate.architecture, model, settings, dropout_seed=seed)
    second = fit(net, aware, span=(1.0 - share, 1.0))
    net.give_weights(model)
    row["parts_seconds"] = [round(part.seconds, 1) for part in (first, second)]
    row["epochs"] = [settings.epochs - aware, aware]
    score("aware", model, convert_with_ranges(model, candidate.architecture, net.ranges(), limits))
    return row


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="sample:parts")
    parser.add_argument("--space", action="append")
    parser.add_argument("--seeds", type=int, default=3, help="candidates of each space")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--percent", type=float, default=30)
    parser.add_argument("--most-macs", type=int, default=4_000_000)
    parser.add_argument("--out", type=Path, required=True)
    options = parser.parse_args()
    done = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    keys = [json.loads(line)["key"] for line in done]
    dataset = open_dataset(options.data, split_seed=0, cache=cache_folder())
    outputs = len(dataset.spec.classes)
    for seed in range(options.seeds):
        for space in options.space or sorted(catalog.names("search_spaces")):
            key = [options.data, space, seed, options.side, options.epochs, options.percent]
            if key in keys:
                continue
            candidate = candidate_of(
                space, seed, options.side, outputs, options.epochs, options.most_macs
            )
            row = {"key": key, **measure(candidate, dataset, options.percent, seed)}
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
