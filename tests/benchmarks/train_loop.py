"""Images a second of the training loop beside Keras' own `fit`, in one process, one thread.

Prints JSON: for each net the median rates of both and their ratio. Run it alone:
    .venv/bin/python tests/benchmarks/train_loop.py
"""

from __future__ import annotations

import json
import os
import statistics
import time

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1")

import keras
import numpy as np

from tuner.catalog import load_module
from tuner.propose.choices import TableChoices
from tuner.spec import Candidate, Context, Limits
from tuner.train.build import build_keras
from tuner.train.loop import LabelledImages, train

IMAGES, EPOCHS = 2000, 6


def candidates() -> dict[str, Candidate]:
    """One net of each starting point, at 32x32."""
    space = load_module("search_spaces", "mixed_stages")
    context = Context(
        limits=Limits(ram_bytes=128 << 10),
        kernels="cmsis-nn",
        accelerated=False,
        image_height=32,
        image_width=32,
        colour="rgb",
        outputs=10,
    )
    small = {"width": 12, "mirror": False, "augmentation": 0}
    return {
        point.name: space.draw(TableChoices({**point.sizes[0], **small}), context)
        for point in space.starting_points(context)
    }


def main() -> None:
    """Measure and print."""
    generator = np.random.default_rng(0)
    data = LabelledImages(
        images=generator.integers(0, 256, (IMAGES, 32, 32, 3), dtype=np.uint8),
        labels=generator.integers(0, 10, IMAGES),
    )
    scaled = (data.images.astype(np.float32) - 128) / 128
    few = LabelledImages(images=data.images[:8], labels=data.labels[:8])
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    rows = []
    for name, candidate in candidates().items():
        ends: list[float] = []
        train(
            build_keras(candidate.architecture), candidate, data, few, epochs=EPOCHS, seed=0,
            loss=loss, on_epoch=lambda epoch, ends=ends: ends.append(time.perf_counter()),
        )  # fmt: skip
        ours = IMAGES / statistics.median(np.diff(ends))
        model = build_keras(candidate.architecture)
        model.compile(keras.optimizers.AdamW(candidate.training.learning_rate), loss)
        marks: list[float] = []
        model.fit(
            scaled, data.labels, batch_size=candidate.training.batch_size, epochs=EPOCHS, verbose=0,
            callbacks=[keras.callbacks.LambdaCallback(
                on_epoch_end=lambda epoch, logs, marks=marks: marks.append(time.perf_counter()))],
        )  # fmt: skip
        theirs = IMAGES / statistics.median(np.diff(marks))
        rows.append(
            {
                "net": name,
                "parameters": model.count_params(),
                "loop_images_per_second": round(ours, 1),
                "fit_images_per_second": round(theirs, 1),
                "ratio": round(ours / theirs, 2),
            }
        )
    print(json.dumps(rows, indent=2))


if __name__ == "__main__":
    main()
