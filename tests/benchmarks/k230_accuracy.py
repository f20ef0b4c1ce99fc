"""What the KPU's simulator loses: float32, LiteRT int8 and kmodel on the same test images.

For the best candidates of a run that searched for `k230`: all three on the first of the run's test
images in a seeded order, with the counts of pairs that differ. Nothing is chosen by it. After the
480 test images of `sample:parts` come others that its generator draws with the next numbers: no run
has seen them. The kmodel is the run's own; a candidate that the run did not compile is compiled
here. What was simulated is kept in `--out` block by block, so that a call that is stopped goes on
where it was. Prints JSON; a candidate that is not done has fewer `images`. Run it alone:
    .venv/bin/python tests/benchmarks/k230_accuracy.py RUN --images 2000
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tuner.data.preprocess import resize_image, scaled_chunks
from tuner.data.samples import parts
from tuner.engine.board import board
from tuner.engine.builds import PRECISIONS
from tuner.engine.compiling import compile_nearest
from tuner.engine.finalists import CAMERA
from tuner.engine.images import labelled, open_data
from tuner.runtimes import kmodel, litert, nncase
from tuner.spec import Candidate, Result, RunSpec
from tuner.store.files import write_atomic
from tuner.store.runs import RunFolder, find_run
from tuner.train.camera import both_logits, in_colour
from tuner.train.loop import LabelledImages

BLOCK_IMAGES = 200


def compiles(run: RunFolder, result: Result) -> bool:
    """Whether there is what a K230 takes of a candidate.

    One that was stopped has its float32 file alone, which is the same for colour and three classes.
    """
    plain = result.candidate.preprocessing.colour == "rgb" and len(run.spec().dataset.classes) > 2
    return plain or (run.candidate(result.candidate.id) / CAMERA).exists()


def kmodel_of(run: RunFolder, spec: RunSpec, result: Result, kept: Path) -> bytes:
    """The kmodel that the run ranked by, or one compiled as it would have been."""
    if "target" in result.builds:
        return (run.candidate(result.candidate.id) / result.builds["target"].artifact).read_bytes()
    if not kept.exists():
        candidate = result.candidate
        training = labelled(open_data(spec.dataset), candidate, "training")
        model = run.candidate(candidate.id) / CAMERA
        if not model.exists():
            model = run.candidate(candidate.id) / result.builds["float32"].artifact
        scaling = candidate.preprocessing.scaling
        made = compile_nearest(nncase, model.read_bytes(), training.images, scaling)
        write_atomic(kept, made.compiled.content)
    return kept.read_bytes()


def held_out(spec: RunSpec, candidate: Candidate, count: int) -> LabelledImages:
    """The test set in a seeded order, with `sample:parts` longer than it is; `count` at most."""
    test = labelled(open_data(spec.dataset), candidate, "test")
    rows = np.random.default_rng(spec.seed).permutation(len(test.labels))[:count]
    images, labels = test.images[rows], test.labels[rows]
    numbers = parts.IMAGES + np.arange(count - len(rows))
    if spec.dataset.source != "sample:parts" or not len(numbers):
        return LabelledImages(images=images, labels=labels)
    drawn = [resize_image(parts.draw(int(number)), candidate.preprocessing) for number in numbers]
    return LabelledImages(
        images=np.concatenate([images, drawn]),
        labels=np.concatenate([labels, numbers % len(parts.CLASSES)]),
    )


def simulated(
    content: bytes, images: NDArray[np.uint8], folder: Path, until: float
) -> NDArray[np.float32]:
    """Logits of the images in order, as many as were ready by `until`; new blocks are kept."""
    blocks = []
    for start in range(0, len(images), BLOCK_IMAGES):
        stop = min(start + BLOCK_IMAGES, len(images))
        path = folder / f"{start}-{stop}.npy"
        if not path.exists():
            if time.monotonic() > until:
                break
            folder.mkdir(parents=True, exist_ok=True)
            logits = both_logits(kmodel.simulate_kmodel(content, in_colour(images[start:stop])))
            partial = path.with_suffix(".part.npy")
            np.save(partial, logits)
            partial.replace(path)
        blocks.append(np.load(path))
    return np.concatenate(blocks) if blocks else np.zeros((0, 1), np.float32)


def pairs(own: NDArray[np.bool_], other: NDArray[np.bool_]) -> dict[str, int]:
    """Images that one of two models alone has right."""
    return {"gained": int((own & ~other).sum()), "lost": int((other & ~own).sum())}


def measure(
    run: RunFolder, spec: RunSpec, result: Result, count: int, out: Path, until: float
) -> dict[str, Any]:
    """Accuracies of one candidate's three models."""
    candidate = result.candidate
    test = held_out(spec, candidate, count)
    content = kmodel_of(run, spec, result, out / f"{candidate.id}.kmodel")
    started = time.monotonic()
    logits = simulated(content, test.images, out / candidate.id, until)
    seconds = time.monotonic() - started
    images, labels = test.images[: len(logits)], test.labels[: len(logits)]
    row: dict[str, Any] = {
        "id": candidate.id,
        "input": f"{candidate.preprocessing.width}x{candidate.preprocessing.height}",
        "images": len(labels),
        "of_them_drawn_anew": max(0, len(labels) - spec.dataset.counts["test"]),
        "simulated_seconds": round(seconds, 1),
    }
    if not len(labels):
        return row
    right = {"kmodel": logits.argmax(axis=-1) == labels}
    for precision in PRECISIONS:
        model = (run.candidate(candidate.id) / result.builds[precision].artifact).read_bytes()
        given = [
            litert.predict(model, precision, part)
            for part in scaled_chunks(images, candidate.preprocessing.scaling)
        ]
        right[precision] = np.concatenate(given).argmax(axis=-1) == labels
    return {
        **row,
        **{name: float(right[name].mean()) for name in ("float32", "int8", "kmodel")},
        "kmodel_against_float32": pairs(right["kmodel"], right["float32"]),
        "kmodel_against_int8": pairs(right["kmodel"], right["int8"]),
    }


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser()
    parser.add_argument("run", help="name of a run in $TUNE_HOME/runs, or latest")
    parser.add_argument("--candidates", type=int, default=5)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--out", type=Path, help="what is kept; else k230-accuracy in the run")
    parser.add_argument("--seconds", type=float, default=float("inf"), help="then print and end")
    options = parser.parse_args()
    until = time.monotonic() + options.seconds
    run = find_run(options.run)
    spec = run.spec()
    results = [row.result for row in board(run, target_name="k230").rows]
    best = [result for result in results if result.builds and compiles(run, result)]
    out = options.out or run.path / "k230-accuracy"
    rows = []
    for result in best[: options.candidates]:
        rows.append(measure(run, spec, result, options.images, out, until))
        print(json.dumps(rows[-1]), file=sys.stderr, flush=True)
    done = [row for row in rows if "kmodel" in row]
    drops = [100 * (row["float32"] - row["kmodel"]) for row in done]
    summary = {
        "run": run.name,
        "data": spec.dataset.source,
        "nncase_kpu": kmodel.nncase_version(),
        "candidates": rows,
        "mean_drop_float32_to_kmodel_points": float(np.mean(drops)) if drops else None,
    }
    print(json.dumps(summary, indent=2))


if __name__ == "__main__":
    main()
