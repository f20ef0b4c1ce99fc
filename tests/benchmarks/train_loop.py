"""Images a second of the training loop beside Keras' own `fit`, one thread on one core.

Both train the same nets from the same weights on the same images with AdamW at a constant rate,
without augmentation and with the same one (mirrored, shifted by up to 6 %, reflected at the
border): for `fit` it is Keras' RandomFlip and RandomTranslation before the net. Rates are medians
over the epochs after the first, of processor seconds, which equal the clock's on a machine with
nothing else to do. The loop and `fit` have a process of their own for each setting. The losses of
the last epoch stand beside them.

Prints a line a setting, then JSON with the medians:
    .venv/bin/python tests/benchmarks/train_loop.py [--seeds 3] [--core 0]
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ.setdefault(_name, "1")
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np
import tensorflow as tf

from tuner.catalog import load_module
from tuner.propose.choices import TableChoices
from tuner.spec import (
    Architecture,
    Augmentation,
    Candidate,
    Context,
    Limits,
    Preprocessing,
    TrainingSettings,
)
from tuner.testing.mlperf_tiny import resnet8
from tuner.train.build import build_keras
from tuner.train.loop import LabelledImages, train

IMAGES, EPOCHS, OUTPUTS, RATE = 1280, 5, 10, 0.002
SHIFTED = Augmentation(flip_horizontal=True, shift_fraction=0.06)

DRAWN = {
    "plain stages 16px": ("plain stages", 16, 8),
    "plain stages 32px": ("plain stages", 32, 16),
    "plain, then separable 24px": ("plain, then separable", 24, 24),
    "plain, then separable 32px": ("plain, then separable", 32, 12),
    "plain, then separable 32px, wide": ("plain, then separable", 32, 32),
    "MobileNetV1 kind 32px": ("MobileNetV1 kind", 32, 8),
    "MobileNetV1 kind 48px": ("MobileNetV1 kind", 48, 24),
    "MobileNetV1 kind 64px": ("MobileNetV1 kind", 64, 28),
    "MobileNetV1 kind 96px": ("MobileNetV1 kind", 96, 8),
    "DS-CNN kind 32px": ("DS-CNN kind", 32, 24),
    "DS-CNN kind 64px": ("DS-CNN kind", 64, 12),
}
"""Starting point of mixed_stages, side and width."""


def nets() -> dict[str, Architecture]:
    """The named nets, 2k to 200k parameters."""
    space = load_module("search_spaces", "mixed_stages")
    found = {}
    for name, (form, side, width) in DRAWN.items():
        context = Context(
            limits=Limits(ram_bytes=1 << 20),
            kernels="cmsis-nn",
            accelerated=False,
            image_height=side,
            image_width=side,
            colour="rgb",
            outputs=OUTPUTS,
        )
        points = {point.name: point for point in space.starting_points(context)}
        settings = {**points[form].sizes[0], "resolution": side, "width": width, "dropout": 0.0}
        found[name] = space.draw(TableChoices(settings), context).architecture
    found["ResNet-8 32px"] = resnet8()
    return found


def pictures(side: int) -> LabelledImages:
    """Ten noisy patterns, which a net learns within a few epochs but not at once."""
    generator = np.random.default_rng(0)
    labels = generator.integers(0, OUTPUTS, IMAGES)
    patterns = generator.normal(128, 40, (OUTPUTS, side, side, 3))
    noisy = patterns[labels] * 0.5 + generator.normal(64, 60, (IMAGES, side, side, 3))
    return LabelledImages(images=np.clip(noisy, 0, 255).astype(np.uint8), labels=labels)


def with_loop(candidate: Candidate, model: Any, data: LabelledImages, seed: int) -> tuple[Any, ...]:
    """Images a second, seconds of the first epoch, and the last loss."""
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    ends, losses = [time.process_time()], []

    def note(epoch: Any) -> None:
        ends.append(time.process_time())
        losses.append(epoch.loss)

    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    train(model, candidate, data, few, epochs=EPOCHS, seed=seed, loss=loss, on_epoch=note)
    seconds = np.diff(ends)
    return IMAGES / statistics.median(seconds[1:]), seconds[0], losses[-1]


def with_fit(candidate: Candidate, model: Any, data: LabelledImages) -> tuple[Any, ...]:
    """The same by `fit`."""
    settings = candidate.training
    scaled = (data.images.astype(np.float32) - 128) / 128
    trained = model
    if settings.augmentation.flip_horizontal:
        shift = settings.augmentation.shift_fraction
        trained = keras.Sequential(
            [
                keras.Input(data.images.shape[1:]),
                keras.layers.RandomFlip("horizontal"),
                keras.layers.RandomTranslation(shift, shift, fill_mode="reflect"),
                model,
            ]
        )
    ends = []

    class Note(keras.callbacks.Callback):  # type: ignore[misc]
        def on_epoch_end(self, epoch: int, logs: Any = None) -> None:
            ends.append(time.process_time())

    trained.compile(
        keras.optimizers.AdamW(RATE, weight_decay=settings.weight_decay),
        keras.losses.SparseCategoricalCrossentropy(from_logits=True),
    )
    ends.append(time.process_time())
    history = trained.fit(
        scaled,
        data.labels,
        batch_size=settings.batch_size,
        epochs=EPOCHS,
        verbose=0,
        callbacks=[Note()],
    )
    seconds = np.diff(ends)
    return IMAGES / statistics.median(seconds[1:]), seconds[0], history.history["loss"][-1]


def measure(name: str, batch: int, augmented: bool, by_loop: bool, seeds: int) -> Any:
    """One net at one batch size: parameters, and what each seed gave."""
    architecture = nets()[name]
    side = architecture.input.height
    candidate = Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour="rgb"),
        architecture=architecture,
        training=TrainingSettings(
            batch_size=batch,
            learning_rate=RATE,
            schedule="constant",
            weight_decay=0.01,
            augmentation=SHIFTED if augmented else Augmentation(),
        ),
    )
    data = pictures(side)
    outcomes = []
    for seed in range(seeds):
        keras.backend.clear_session()
        keras.utils.set_random_seed(seed)
        model = build_keras(architecture)
        # With a seed of TensorFlow, fit goes through the images in one order in all epochs.
        tf.random.set_seed(None)
        if by_loop:
            outcomes.append(with_loop(candidate, model, data, seed))
        else:
            outcomes.append(with_fit(candidate, model, data))
    return model.count_params(), np.array(outcomes)


def row_of(name: str, batch: int, augmented: bool, sides: tuple[Any, Any]) -> dict[str, Any]:
    """What both gave, by the loop first."""
    (parameters, _), _ = sides
    rows = [outcomes for _, outcomes in sides]
    ours, theirs = (np.median(row[:, 0]) for row in rows)
    return {
        "net": name,
        "parameters": parameters,
        "batch": batch,
        "augmented": augmented,
        "loop_images_per_second": round(float(ours)),
        "fit_images_per_second": round(float(theirs)),
        "ratio": round(float(ours / theirs), 2),
        "loop_first_epoch_seconds": round(float(np.median(rows[0][:, 1])), 2),
        "fit_first_epoch_seconds": round(float(np.median(rows[1][:, 1])), 2),
        "loop_losses": [round(float(loss), 3) for loss in rows[0][:, 2]],
        "fit_losses": [round(float(loss), 3) for loss in rows[1][:, 2]],
    }


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--core", type=int, default=0, help="the only core to use (Linux)")
    options = parser.parse_args()
    if hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {options.core})
    rows = []
    settings = itertools.product(nets(), (32, 128), (False, True))
    # Each in a process of its own: what earlier trainings leave in memory slows `fit` down.
    with ProcessPoolExecutor(1, get_context("spawn"), max_tasks_per_child=1) as processes:
        for name, batch, augmented in settings:
            sides = tuple(
                processes.submit(measure, name, batch, augmented, by_loop, options.seeds).result()
                for by_loop in (True, False)
            )
            row = row_of(name, batch, augmented, sides)
            print(json.dumps(row), file=sys.stderr, flush=True)
            rows.append(row)
    medians = {
        label: round(
            statistics.median(row["ratio"] for row in rows if row["augmented"] in kinds), 2
        )
        for label, kinds in (
            ("plain", (False,)),
            ("augmented", (True,)),
            ("all", (False, True)),
        )
    }
    print(json.dumps({"median_ratio": medians, "settings": rows}, indent=2))


if __name__ == "__main__":
    main()
