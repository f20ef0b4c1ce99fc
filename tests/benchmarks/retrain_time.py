"""Predicted against real time of retraining: random candidates of mixed_stages, fixed epochs.

The prediction is the one that `tune retrain` shows before it begins. CIFAR-10 subset of
`cifar10_search.py`, all cores; candidates from 10 thousand to some millions of MACs; the last
30 % of the epochs quantization-aware, as by default. Prints a line a candidate, then JSON: the
seconds of training as predicted and as they were, and the seconds of the call. Run it alone:
    .venv/bin/python tests/benchmarks/retrain_time.py --candidates 10 --seconds 60
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import tempfile
import time
from pathlib import Path

from cifar10_search import DATA, TRAINING_IMAGES_PER_CLASS, unpack

from tuner.catalog import load_module, load_target
from tuner.cost.lower import lower
from tuner.cost.training import REFERENCE, train_seconds_per_image
from tuner.data import open_dataset
from tuner.engine.costs import cost_on
from tuner.models.retrain import retrain
from tuner.propose.choices import RandomChoices
from tuner.spec import Candidate, Context, Template, to_plain
from tuner.store.files import cache_folder

TARGET = "raspberry-pi-4"
LEAST_MACS, MOST_MACS = 1e4, 2e7


def candidates(count: int, outputs: int) -> list[Candidate]:
    """Random draws, evenly spaced by the logarithm of their MACs."""
    target = load_target(TARGET)
    space = load_module("search_spaces", "mixed_stages")
    context = Context(
        limits=target.model_limits, kernels=target.kernels, accelerated=False, image_height=32,
        image_width=32, colour="rgb", outputs=outputs,
    )  # fmt: skip
    drawn = [space.draw(RandomChoices(seed), context) for seed in range(400)]
    by_macs = {cost_on(lower(item.architecture), target).macs: item for item in drawn}
    wanted = [LEAST_MACS * (MOST_MACS / LEAST_MACS) ** (i / (count - 1)) for i in range(count)]
    return [by_macs[min(by_macs, key=lambda macs: abs(macs - want))] for want in wanted]


def main() -> None:
    """Retrain and compare."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--candidates", type=int, default=10)
    parser.add_argument("--seconds", type=float, default=60.0, help="of each, roughly")
    parser.add_argument("--quantization-percent", type=float, default=30.0)
    options = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        home = Path(folder)
        os.environ["TUNE_HOME"] = str(home)
        unpack(DATA / "cifar10-train.zip", home / "images" / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", home / "images" / "test", 100)
        dataset = open_dataset(str(home / "images"), split_seed=0, cache=cache_folder()).spec
        target = load_target(TARGET)
        for index, candidate in enumerate(candidates(options.candidates, len(dataset.classes))):
            image = train_seconds_per_image(
                candidate.architecture, candidate.training.batch_size, REFERENCE
            )
            template = Template(
                name=f"net-{index}", run="none", candidate=candidate.id, task="classification",
                data=dataset.source, fingerprint=dataset.fingerprint, split_seed=0, seed=0,
                preprocessing=candidate.preprocessing, training=candidate.training,
                architecture=candidate.architecture, target=target,
            )  # fmt: skip
            epochs = max(2, round(options.seconds / (image * dataset.counts["training"])))
            began = time.monotonic()
            version = retrain(
                template, epochs=epochs, quantization_percent=options.quantization_percent
            ).read()
            cost = version.costs[TARGET]
            assert cost.train_minutes is not None
            predicted = 60.0 * cost.train_minutes.value
            row = {
                "id": candidate.id, "macs": cost.macs, "epochs": epochs,
                "predicted_seconds": round(predicted, 1),
                "seconds": round(version.train_seconds, 1),
                "ratio": round(version.train_seconds / predicted, 3),
                "quantization_aware": version.quantization and to_plain(version.quantization),
                "call_seconds": round(time.monotonic() - began, 1),
            }  # fmt: skip
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    ratios = [row["ratio"] for row in rows]
    print(
        json.dumps(
            {
                "cores": len(os.sched_getaffinity(0)),
                "median_ratio": statistics.median(ratios),
                "worst_ratios": [min(ratios), max(ratios)],
                "within_15_percent": sum(1 / 1.15 <= ratio <= 1.15 for ratio in ratios),
                "candidates": rows,
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
