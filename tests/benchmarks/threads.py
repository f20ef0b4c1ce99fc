"""Images a second of a retraining with several threads, beside one thread.

Two ways to use them: within each operation of a batch, and for equal parts of a batch side by
side, which is what `tune retrain` does. Batches of 64 images, mirrored and shifted; medians over
the epochs after the first, of the clock. Each setting has a process of its own. Prints JSON. Run
it alone:
    .venv/bin/python tests/benchmarks/threads.py [--threads 2]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from typing import Any

NETS = ("ResNet-8 32px", "plain stages 32px", "MobileNetV1 kind 48px", "DS-CNN kind 32px")


def images_per_second(name: str, threads: int) -> int:
    """Of one net, a batch in as many parts as `threads` allows."""
    import keras
    import numpy as np
    from train_loop import EPOCHS, IMAGES, RATE, SHIFTED, nets, pictures

    from tuner.spec import Candidate, Preprocessing, TrainingSettings
    from tuner.train.build import build_keras
    from tuner.train.loop import LabelledImages, train

    architecture = nets()[name]
    side = architecture.input.height
    settings = TrainingSettings(
        batch_size=64, learning_rate=RATE, schedule="constant", augmentation=SHIFTED
    )
    candidate = Candidate(
        preprocessing=Preprocessing(height=side, width=side, colour="rgb"),
        architecture=architecture,
        training=settings,
    )
    data = pictures(side)
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    ends = [time.monotonic()]
    train(
        build_keras(architecture),
        candidate,
        data,
        few,
        epochs=EPOCHS,
        seed=0,
        loss=keras.losses.SparseCategoricalCrossentropy(from_logits=True),
        threads=threads,
        on_epoch=lambda epoch: ends.append(time.monotonic()),
    )
    return round(IMAGES / statistics.median(np.diff(ends)[1:]))


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--threads", type=int, default=2)
    count = parser.parse_args().threads
    # Threads within an operation, operations side by side, parts of a batch.
    ways = {"one": (1, 1, 1), "within operations": (count, count, 1), "parts": (1, count, count)}
    rows = []
    for name in NETS:
        row: dict[str, Any] = {"net": name}
        for way, (within, beside, parts) in ways.items():
            os.environ["TF_NUM_INTRAOP_THREADS"] = os.environ["OMP_NUM_THREADS"] = str(within)
            os.environ["TF_NUM_INTEROP_THREADS"] = str(beside)
            with ProcessPoolExecutor(1, get_context("spawn")) as processes:
                row[way] = processes.submit(images_per_second, name, parts).result()
        row["parts beside one"] = round(row["parts"] / row["one"], 2)
        print(json.dumps(row), file=sys.stderr, flush=True)
        rows.append(row)
    print(json.dumps({"threads": count, "nets": rows}, indent=2))


if __name__ == "__main__":
    main()
