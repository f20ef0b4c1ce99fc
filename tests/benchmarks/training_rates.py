"""The reference rates of tuner/cost/training.py, from short trainings on this machine.

Draws nets of mixed_stages at random, 8 to 96 pixels, with augmentation and batch as drawn, trains
each for some epochs on one core, and fits the seconds an image: least squares on relative errors,
no rate below zero. Prints the rates, and the errors that they leave, as JSON:
    .venv/bin/python tests/benchmarks/training_rates.py [--nets 60] [--core 0]
With --rounding each net is trained quantization-aware too, beside its training in float32, and
what is fitted is by how much longer that takes.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import sys
import time
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")

from tuner.train.quantization_aware import QuantizationAwareNet, import_legacy_keras

if "--rounding" in sys.argv:
    import_legacy_keras()

import keras
import numpy as np
from scipy.optimize import nnls

from tuner.catalog import load_module
from tuner.cost.lower import lower
from tuner.cost.training import RATES, ROUNDING_RATES, training_load, training_terms
from tuner.propose.choices import RandomChoices
from tuner.spec import Candidate, Context, Limits, seed_of
from tuner.train.build import build_keras
from tuner.train.loop import LabelledImages, train

SIDES = (8, 12, 16, 24, 32, 48, 64, 96)
OUTPUTS, EPOCHS, SECONDS_AN_EPOCH = 10, 5, 0.25
MOST_MACS = 20e6


def candidates(count: int) -> list[Candidate]:
    """Drawn evenly over the sides; what would take minutes is left out."""
    space = load_module("search_spaces", "mixed_stages")
    found: list[Candidate] = []
    seed = 0
    while len(found) < count:
        seed += 1
        side = SIDES[len(found) % len(SIDES)]
        context = Context(
            limits=Limits(ram_bytes=1 << 20),
            kernels="cmsis-nn",
            accelerated=False,
            image_height=side,
            image_width=side,
            colour="rgb",
            outputs=OUTPUTS,
        )
        candidate = space.draw(RandomChoices(seed), context)
        macs = sum(item.macs for item in lower(candidate.architecture).operators)
        if macs <= MOST_MACS:
            found.append(candidate)
    return found


def seconds_per_image(candidate: Candidate, rounded: bool = False) -> float:
    """Median over the epochs after the first, of processor seconds."""
    image, batch = candidate.architecture.input, candidate.training.batch_size
    generator = np.random.default_rng(0)
    macs = sum(item.macs for item in lower(candidate.architecture).operators)
    steps = max(2, round(SECONDS_AN_EPOCH / (2e-10 * macs + 1e-4) / batch))
    shape = (steps * batch, image.height, image.width, image.channels)
    data = LabelledImages(
        images=generator.integers(0, 256, shape, dtype=np.uint8),
        labels=generator.integers(0, OUTPUTS, shape[0]),
    )
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    ends: list[float] = []
    seed = seed_of(0, candidate.id)
    keras.backend.clear_session()
    keras.utils.set_random_seed(seed)
    model = build_keras(candidate.architecture)
    settings = candidate.training
    net = QuantizationAwareNet(candidate.architecture, model, settings) if rounded else model
    train(
        net,
        candidate,
        data,
        few,
        epochs=EPOCHS,
        seed=seed,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        on_epoch=lambda epoch: ends.append(time.process_time()),
    )
    return float(statistics.median(np.diff(ends))) / shape[0]


def fit(terms: Any, seconds: Any, weights: Any) -> Any:
    """Rates by term, not below zero, from errors relative to the weights."""
    return nnls(terms / weights[:, None], seconds / weights)[0]


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--core", type=int, default=0, help="the only core to use (Linux)")
    parser.add_argument("--rounding", action="store_true", help="the rates of rounding")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    drawn = candidates(options.nets)
    seconds = np.zeros(len(drawn))
    loads = np.zeros(len(drawn))
    # In a random order, so that a change of the machine's pace falls on all kinds alike.
    for index in random.Random(0).sample(range(len(drawn)), len(drawn)):
        plain = seconds[index] = seconds_per_image(drawn[index])
        text = f"{drawn[index].id} {plain * 1e6:.1f} us"
        if options.rounding:
            load = training_load(drawn[index].architecture, drawn[index].training.batch_size)
            loads[index] = load.compute + load.memory + load.overhead
            ratio = seconds_per_image(drawn[index], rounded=True) / plain
            seconds[index] = (ratio - 1.0) * loads[index]
            text += f", rounded {ratio:.2f} times as long"
        print(text, file=sys.stderr, flush=True)
    names = tuple(ROUNDING_RATES if options.rounding else RATES)
    counts = [training_terms(item.architecture, item.training.batch_size) for item in drawn]
    terms = np.array([[count[name] for name in names] for count in counts])

    def of_all(extra: Any) -> Any:
        """What a training takes: of rounding, relative to that in float32."""
        return 1.0 + extra / loads if options.rounding else extra

    weights = loads if options.rounding else seconds
    rates = fit(terms, seconds, weights)
    left_out = np.array(
        [
            terms[i] @ fit(*(np.delete(each, i, 0) for each in (terms, seconds, weights)))
            for i in range(len(drawn))
        ]
    )
    ratios = of_all(left_out) / of_all(seconds)
    print(
        json.dumps(
            {
                "rates": {
                    name: float(f"{rate:.3g}") for name, rate in zip(names, rates, strict=True)
                },
                "nets": len(drawn),
                "mean_error_left_out": round(float(np.mean(np.abs(ratios - 1))), 3),
                "within_1.3": int(np.sum((ratios < 1.3) & (ratios > 1 / 1.3))),
                "worst": [round(float(ratios.min()), 2), round(float(ratios.max()), 2)],
            },
            indent=2,
        )
    )


if __name__ == "__main__":
    main()
