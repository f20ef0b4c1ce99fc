"""What int8 costs nets that are hard to quantize: by default, by the chosen recipe, on the KPU.

Images are CIFAR-10's. `scaled channels`: a tenth of a trained net's channels are made 100 times
larger and the weights that read them smaller, which changes no logit. `wide channel`: one channel
of each layer begins its training with a bias of 100. `frozen transfer`: a net learns five classes,
then its head alone learns the other five from 20 images of each; `old statistics` keeps the
normalization of the first five, where `tune --weights` takes it anew. Nets are a MobileNet with its
activations cut off at 6, and one of plain and separable convolutions, which are not. With `--k230`
the KPU's compiler quantizes the float32 file too, as it is and with its channels equalized, and its
simulator runs some test images; `recipe` there says which of both a search takes. One line of JSON
a case, resumable, one thread:
    .venv/bin/python tests/benchmarks/int8_hard.py hard.jsonl --home ~/hard --k230 400
"""

from __future__ import annotations

import argparse
import json
import os
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")

import numpy as np
from numpy.typing import NDArray
from transfer import BASE_CLASSES, NEW_CLASSES, write

from tuner import catalog
from tuner.data import Dataset, open_dataset
from tuner.data.preprocess import evenly_spaced, scale, scaled_chunks
from tuner.data.stratify import stratified_rows
from tuner.engine.builds import CALIBRATION_IMAGES, CHOICE_IMAGES
from tuner.engine.compiling import COMPILED_WITH_IMAGES, compile_nearest, equalized_by
from tuner.engine.images import labelled
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import (
    MOBILENETS,
    Augmentation,
    Candidate,
    Conv2D,
    DepthwiseConv2D,
    Layers,
    Preprocessing,
    TrainingSettings,
    with_head,
)
from tuner.train.convert import INPUT_RANGES, convert_tflite
from tuner.train.float_net import FloatNet
from tuner.train.quantize import Quantizer, quantize_best
from tuner.train.quiet import import_tensorflow
from tuner.train.recipes import RECIPES

SCALE = 100.0
FEW = 20
HEAD_EPOCHS = 300
"""Images of each class that a head learns from, and how often."""

CASES = tuple(
    (net, case)
    for net in ("MobileNet", "plain and separable")
    for case in (
        "as trained",
        "scaled channels",
        "wide channel",
        "frozen transfer",
        "frozen transfer, old statistics",
    )
    if (net, case) != ("MobileNet", "scaled channels")  # a cut at 6 does not move with the scale
)


def candidate_of(net: str) -> Candidate:
    """An untrained net for five classes."""
    side = 64 if net == "MobileNet" else 32
    pixels = Preprocessing(height=side, width=side, colour="rgb")
    layers = Layers(pixels)
    if net == "MobileNet":
        next(item for item in MOBILENETS if item.name == "MobileNet 0.25").add_to(layers)
    else:
        layers.add("stem", Conv2D(filters=16))
        for stage, filters in enumerate((24, 48, 96)):
            layers.add(f"plain{stage}", Conv2D(filters=filters, stride=2))
            layers.add(f"depthwise{stage}", DepthwiseConv2D())
            layers.add(f"pointwise{stage}", Conv2D(filters=filters, kernel=1))
    augmentation = Augmentation(flip_horizontal=True, shift_fraction=0.1)
    return Candidate(
        preprocessing=pixels,
        architecture=with_head(layers.without_end(), "mean", 0.0, 5),
        training=TrainingSettings(epochs=30, learning_rate=0.004, augmentation=augmentation),
    )


def fit(model: Any, candidate: Candidate, dataset: Dataset, seconds: float, **options: Any) -> None:
    """Train in place."""
    from tuner.train.loop import train

    training, validation = (
        labelled(dataset, candidate, split) for split in ("training", "validation")
    )
    task = catalog.load_module("tasks", "classification")
    loss = task.loss(candidate.training, training.labels, task.outputs(dataset.spec))
    epochs = candidate.training.epochs
    train(
        model, candidate, training, validation, epochs=epochs, seed=0, loss=loss, seconds=seconds,
        **options,
    )  # fmt: skip


def trained(candidate: Candidate, dataset: Dataset, seconds: float, kept: Path, wide: bool) -> Any:
    """A net that knows the dataset; its weights are kept."""
    from tuner.train.build import build_keras, start_anew
    from tuner.train.weights import read_weights, write_weights

    start_anew(0)
    model = build_keras(candidate.architecture)
    if kept.exists():
        read_weights(kept, model)
        return model
    for layer in model.layers:
        if wide and layer.name.endswith("b"):
            bias = layer.beta.numpy()
            bias[0] = SCALE
            layer.beta.assign(bias)
    fit(model, candidate, dataset, seconds)
    write_weights(kept, model)
    return model


def transferred(base: Any, candidate: Candidate, dataset: Dataset, anew: bool) -> Any:
    """The base's layers with a head that has learned other classes."""
    from tuner.train.backbones import reestimate_statistics
    from tuner.train.build import build_keras, start_anew

    weights = [layer.get_weights() for layer in base.layers[:-1]]
    start_anew(0)
    model = build_keras(candidate.architecture)
    for layer, values in zip(model.layers, weights, strict=False):
        layer.set_weights(values)
    if anew:
        images = labelled(dataset, candidate, "training").images
        reestimate_statistics(model, images, candidate.preprocessing.scaling)
    settings = replace(candidate.training, epochs=HEAD_EPOCHS, learning_rate=0.02)
    fit(model, replace(candidate, training=settings), dataset, 60.0, frozen_share=1.0)
    return model


def scaled_channels(content: bytes) -> bytes:
    """A float32 file with a tenth of the channels between two layers `SCALE` times larger."""
    net, generator = FloatNet(content), np.random.default_rng(0)
    readers = net.readers()
    for operator in net.operators:
        reader = operator.weights >= 0 and net._next_weighted(operator.output, readers)
        if reader:
            large = generator.random(net.shape(operator.output)[-1]) < 0.1
            factors = np.where(large, SCALE, 1.0)
            net._scale_outputs(operator, factors)
            net._scale_inputs(reader, factors)
    return net.content()


def measure(
    content: bytes, candidate: Candidate, dataset: Dataset, simulated: int
) -> dict[str, Any]:
    """Quantize a float32 file, and count which test images it has right."""
    scaling = candidate.preprocessing.scaling
    training, test = (labelled(dataset, candidate, split) for split in ("training", "test"))
    rows, others = stratified_rows(training.labels, (CALIBRATION_IMAGES, CHOICE_IMAGES))
    calibration, held_back = (scale(training.images[part], scaling) for part in (rows, others))
    limits = INPUT_RANGES[scaling]
    best = quantize_best(content, calibration, held_back, limits)

    def right(file: bytes, precision: Any) -> NDArray[np.bool_]:
        chunks = scaled_chunks(test.images, scaling)
        logits = [run_tflite(file, precision, chunk, "xnnpack") for chunk in chunks]
        return np.concatenate(logits).argmax(axis=1) == test.labels

    exact = right(content, "float32")
    files = {
        "default": Quantizer(content, calibration, limits).quantize(RECIPES[0]),
        "chosen": best.content,
    }
    found = {name: right(file, "int8") for name, file in files.items()}
    row = {
        "recipe": best.recipe.words,
        **points(exact, found),
    }
    if simulated:
        from tuner.runtimes import kmodel, nncase

        images = training.images[evenly_spaced(len(training.labels), COMPILED_WITH_IMAGES)]
        drawn = np.random.default_rng(0).permutation(len(test.labels))[:simulated]
        nets = {
            "kmodel": content,
            "kmodel, equalized": equalized_by(content, training.images, scaling),
        }
        found = {}
        for name, file in nets.items():
            compiled = nncase.compile_model(file, images, limits)
            logits = kmodel.simulate_kmodel(compiled.content, test.images[drawn], 1)
            found[name] = logits.argmax(axis=1) == test.labels[drawn]
        chosen = compile_nearest(nncase, content, training.images, scaling)
        row["k230"] = {
            "recipe": chosen.compiled.recipe,
            "reason": chosen.reason,
            **points(exact[drawn], found),
        }
    return row


def points(exact: NDArray[np.bool_], found: dict[str, NDArray[np.bool_]]) -> dict[str, Any]:
    """Images right in float32; of others the points lost, with the standard error of the pairs."""
    row: dict[str, Any] = {"images": len(exact), "float32": int(exact.sum())}
    for name, right in found.items():
        lost, gained = int((exact & ~right).sum()), int((right & ~exact).sum())
        share = 100.0 / len(exact)
        row[name] = {
            "lost_points": round(share * (lost - gained), 2),
            "standard_error": round(share * (lost + gained) ** 0.5, 2),
        }
    return row


def main() -> None:
    """Measure what is not there yet."""
    parser = argparse.ArgumentParser()
    parser.add_argument("rows", type=Path)
    parser.add_argument("--home", type=Path, help="a folder to keep images and nets in")
    parser.add_argument("--case", action="append", help="words of its name; all cases by default")
    parser.add_argument("--seconds", type=float, default=60.0, help="of training a net")
    parser.add_argument("--k230", type=int, default=0, metavar="IMAGES", help="that are simulated")
    options = parser.parse_args()
    rows = options.rows.read_text().splitlines() if options.rows.exists() else []
    done = [(row["net"], row["case"]) for row in map(json.loads, rows)]
    home = options.home or Path(tempfile.mkdtemp())
    home.mkdir(parents=True, exist_ok=True)
    os.environ["TUNE_HOME"] = str(home)
    import_tensorflow()
    for net, case in (item for item in CASES if item not in done):
        if options.case and not any(words in f"{net}, {case}" for words in options.case):
            continue
        few = "frozen" in case
        datasets = []
        for path, classes, each in (
            (home / "five.npz", BASE_CLASSES, 1000),
            (home / "few.npz", NEW_CLASSES, FEW),
        ):
            if not path.exists():
                write(path, classes, each, 1000)
            datasets.append(open_dataset(str(path), split_seed=0, cache=home / "cache"))
        dataset, candidate = datasets[few], candidate_of(net)
        wide = case == "wide channel"
        kept = home / f"{net}{' wide' if wide else ''} {options.seconds:g}.npz"
        model = trained(candidate, datasets[0], options.seconds, kept, wide)
        if few:
            model = transferred(model, candidate, dataset, "old" not in case)
        content = convert_tflite(model, "float32")
        if case == "scaled channels":
            content = scaled_channels(content)
        row = {"net": net, "case": case, **measure(content, candidate, dataset, options.k230)}
        with options.rows.open("a") as file:
            file.write(json.dumps(row) + "\n")
        print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
