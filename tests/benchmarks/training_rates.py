"""The reference rates of tuner/cost/training.py, from short trainings on this machine.

Draws nets of mixed_stages at random, 8 to 96 pixels, with augmentation and batch as drawn, trains
each for some epochs on one core, and fits the seconds an image: least squares on relative errors,
no rate below zero. Prints the rates, and the errors that they leave, as JSON:
    .venv/bin/python tests/benchmarks/training_rates.py [--nets 60] [--core 0]
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

import keras
import numpy as np
from scipy.optimize import nnls

from tuner.catalog import load_module
from tuner.cost.lower import lower
from tuner.cost.training import RATES, training_terms
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


def seconds_per_image(candidate: Candidate) -> float:
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
    train(
        build_keras(candidate.architecture),
        candidate,
        data,
        few,
        epochs=EPOCHS,
        seed=seed,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        on_epoch=lambda epoch: ends.append(time.process_time()),
    )
    return float(statistics.median(np.diff(ends))) / shape[0]


def fit(terms: Any, seconds: Any) -> Any:
    """Rates by term, not below zero."""
    return nnls(terms / seconds[:, None], np.ones(len(seconds)))[0]


def main() -> None:
    """Measure, fit and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--nets", type=int, default=60)
    parser.add_argument("--core", type=int, default=0, help="the only core to use (Linux)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    drawn = candidates(options.nets)
    seconds = np.zeros(len(drawn))
    # In a random order, so that a change of the machine's pace falls on all kinds alike.
    for index in random.Random(0).sample(range(len(drawn)), len(drawn)):
        seconds[index] = seconds_per_image(drawn[index])
        print(f"{drawn[index].id} {seconds[index] * 1e6:.1f} us", file=sys.stderr, flush=True)
    counts = [training_terms(item.architecture, item.training.batch_size) for item in drawn]
    terms = np.array([[count[name] for name in RATES] for count in counts])
    rates = fit(terms, seconds)
    left_out = [
        float(terms[i] @ fit(np.delete(terms, i, 0), np.delete(seconds, i)) / seconds[i])
        for i in range(len(drawn))
    ]
    ratios = np.array(left_out)
    print(
        json.dumps(
            {
                "rates": {
                    name: float(f"{rate:.3g}") for name, rate in zip(RATES, rates, strict=True)
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
