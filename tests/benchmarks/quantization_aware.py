"""What int8 loses, with quantization-aware training and without, and what each step takes.

A candidate is drawn from each space and trained in float32. From the weights that it had before the
last part it is trained once more, quantization-aware, as `tune retrain --quantization-percent`
does, on the rest of the same schedule; for as many epochs, or with `--seconds` for as much time, in
which what is made before quantization-aware epochs counts; with `--again` once more in float32 too,
the images in another order, which tells what two trainings differ by chance. Test images are run in
float32 and, with XNNPACK, as int8: of the float32 training by TFLite's converter and by the recipe
that is chosen; `--k230` runs kmodels of both weights in the simulator. A line of JSON a candidate
goes to `--out`; what is there is not done again.
`--report` prints tables of what is there.
    .venv/bin/python tests/benchmarks/quantization_aware.py --data parts --out a.jsonl
    .venv/bin/python tests/benchmarks/quantization_aware.py --seconds 60 --out a.jsonl
    .venv/bin/python tests/benchmarks/quantization_aware.py --report --out a.jsonl
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"

from tuner.train.quantization_aware import QuantizationAwareNet, import_legacy_keras

_STARTED = time.monotonic()
import_legacy_keras()
IMPORT_SECONDS = time.monotonic() - _STARTED

import numpy as np
from int8_pairs import data_set, expected_loss, mean_expected, summary

from tuner import catalog
from tuner.cost.lower import lower
from tuner.data import Dataset, open_dataset
from tuner.data.preprocess import scale, scaled_chunks
from tuner.data.stratify import stratified_rows
from tuner.engine.builds import CALIBRATION_IMAGES, CHOICE_IMAGES
from tuner.engine.compiling import compile_nearest
from tuner.engine.images import labelled
from tuner.engine.retraining import MOST_EPOCHS
from tuner.propose.choices import RandomChoices
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import Augmentation, Candidate, Context, Limits, TrainingSettings
from tuner.store.files import cache_folder
from tuner.train.build import build_keras, run_keras, start_anew
from tuner.train.camera import both_logits, camera_model, in_colour
from tuner.train.convert import INPUT_RANGES, convert_tflite, convert_with_ranges
from tuner.train.flat import FlatVariables
from tuner.train.loop import Epoch, Trained, train
from tuner.train.quantize import quantize_best


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


def measure(
    candidate: Candidate,
    dataset: Dataset,
    percent: float,
    seed: int,
    seconds: float | None,
    again: bool,
    simulated: int,
) -> dict[str, Any]:
    """Train in float32, the last part once or twice more, and count what is right."""
    training, validation, test = (
        labelled(dataset, candidate, split) for split in ("training", "validation", "test")
    )
    task = catalog.load_module("tasks", "classification")
    settings, scaling = candidate.training, candidate.preprocessing.scaling
    loss = task.loss(settings, training.labels, task.outputs(dataset.spec))
    limits = INPUT_RANGES[scaling]
    calibration, held_back = (
        scale(training.images[rows], scaling)
        for rows in stratified_rows(training.labels, (CALIBRATION_IMAGES, CHOICE_IMAGES))
    )
    row: dict[str, Any] = {
        "id": candidate.id,
        "macs": lower(candidate.architecture).macs,
        "images": len(test.labels),
        "took_seconds": {"import": round(IMPORT_SECONDS, 2)},
    }

    def fit(
        net: Any, epochs: int, seconds: float | None, order: int = seed, **options: Any
    ) -> Trained:
        return train(
            net, candidate, training, validation, epochs=epochs, seed=order, loss=loss,
            seconds=seconds, **options,
        )  # fmt: skip

    def timed(name: str, call: Callable[[], Any]) -> Any:
        started = time.monotonic()
        result = call()
        row["took_seconds"][name] = round(time.monotonic() - started, 2)
        return result

    def right(name: str, logits: Any) -> Any:
        found = logits.argmax(axis=-1) == test.labels
        row[name] = int(found.sum())
        return found

    def compare(name: str, own: Any, beside: str, others: Any) -> None:
        if others is not None:
            lost, gained = int((others & ~own).sum()), int((own & ~others).sum())
            row[f"{name}_beside_{beside}"] = [lost, gained]

    drawn = np.random.default_rng(0).permutation(len(test.labels))[:simulated]

    def simulate(name: str, model: Any, own: Any, others: Any) -> None:
        """What the K230's compiler makes of the same weights, on some test images."""
        from tuner.runtimes import kmodel, nncase

        content = convert_tflite(camera_model(model), "float32")
        chosen = compile_nearest(nncase, content, training.images, scaling)
        images = in_colour(test.images[drawn])
        logits = both_logits(kmodel.simulate_kmodel(chosen.compiled.content, images, 1))
        row[f"{name}_k230_recipe"] = chosen.compiled.recipe
        found = logits.argmax(axis=-1) == test.labels[drawn]
        compare(f"{name}_k230", found, "own", own[drawn])
        compare(f"{name}_k230", found, "whole", others[drawn])

    def score(name: str, model: Any, files: dict[str, bytes], before: Any = None) -> Any:
        chunks = list(scaled_chunks(test.images, scaling))
        float_logits = np.concatenate([run_keras(model, chunk) for chunk in chunks])
        floats = right(f"{name}_float32", float_logits)
        compare(f"{name}_float32", floats, "whole", before)
        for kind, int8 in files.items():
            logits = np.concatenate(
                [run_tflite(int8, "int8", chunk, "xnnpack") for chunk in chunks]
            )
            row[f"{name}_{kind}_expected"] = expected_loss(float_logits, logits)
            ints = right(f"{name}_{kind}", logits)
            compare(f"{name}_{kind}", ints, "own", floats)
            compare(f"{name}_{kind}", ints, "whole", before)
        return floats

    start_anew(seed)
    model = build_keras(candidate.architecture, dropout_seed=seed)
    variables = FlatVariables(model, settings)
    share = percent / 100.0
    before: list[tuple[Epoch, Any]] = []

    def note(epoch: Epoch) -> None:
        """Keep what the last part begins with."""
        if not before and epoch.number >= round((1.0 - share) * epoch.planned):
            before.append((epoch, variables.snapshot()))

    whole = timed("whole", lambda: fit(variables, settings.epochs, seconds, on_epoch=note))
    float32 = timed("float32", lambda: convert_tflite(model, "float32"))
    default = timed(
        "default", lambda: convert_tflite(model, "int8", calibration, input_range=limits)
    )
    chosen = timed("chosen", lambda: quantize_best(float32, calibration, held_back, limits))
    row["bytes"] = len(default)
    floats = score("whole", model, {"default": default, "chosen": chosen.content})
    if simulated:
        row["k230_images"] = len(drawn)
        simulate("whole", model, floats, floats)
    first, weights = before[0]
    row["took_seconds"]["first part"] = round(first.seconds, 2)
    span = (first.number / first.planned, 1.0)
    rest = settings.epochs - first.number
    variables.store(weights)
    if again:
        left = seconds and seconds - first.seconds
        fit(FlatVariables(model, settings), rest, left, order=seed + 1, span=span)
        score("again", model, {}, floats)
        variables.store(weights)
    started = time.monotonic()
    net = timed(
        "aware net",
        lambda: QuantizationAwareNet(candidate.architecture, model, settings, dropout_seed=seed),
    )
    left = seconds and seconds - first.seconds - (time.monotonic() - started)
    second = timed("aware part", lambda: fit(net, rest, left, span=span))
    net.give_weights(model)
    row["epochs"] = [whole.epochs, first.number, second.epochs]
    int8 = timed(
        "aware int8",
        lambda: convert_with_ranges(model, candidate.architecture, net.ranges(), limits),
    )
    aware = score("aware", model, {"int8": int8}, floats)
    if simulated:
        simulate("aware", model, aware, floats)
    return row


def images_of(row: dict[str, Any], name: str) -> int:
    """That a count of a row is of."""
    return int(row["k230_images" if "_k230_" in name else "images"])


def report(rows: list[dict[str, Any]]) -> None:
    """Print what was lost and what it took, as tables of Markdown."""
    steps = list(rows[0]["took_seconds"])
    kinds = {
        "float32 training, default int8": "whole_default_beside_own",
        "float32 training, chosen int8": "whole_chosen_beside_own",
        "quantization-aware, int8": "aware_int8_beside_own",
        "that int8 beside the float32 training's float32": "aware_int8_beside_whole",
    }
    if all("again_float32" in row for row in rows):
        kinds["last part once more in float32, beside the same"] = "again_float32_beside_whole"
    if all("k230_images" in row for row in rows):
        kinds["float32 training, kmodel"] = "whole_k230_beside_own"
        kinds["quantization-aware, kmodel"] = "aware_k230_beside_own"
        kinds["that kmodel beside the float32 training's float32"] = "aware_k230_beside_whole"
    print("| net | images | float32 % |" + "".join(f" {kind} |" for kind in kinds))
    print("|" + "---|" * (3 + len(kinds)))
    for row in rows:
        percent = 100 * row["whole_float32"] / row["images"]
        cells = [*row["key"][1:3], row["images"], f"{percent:.1f}"]
        for name in kinds.values():
            lost, gained = row[name]
            share = 100 / images_of(row, name)
            cells.append(f"{share * (lost - gained):.2f} ± {share * (lost + gained) ** 0.5:.2f}")
        print(f"| {cells[0]} {cells[1]} |" + "".join(f" {cell} |" for cell in cells[2:]))
    for kind, name in kinds.items():
        pairs = [(*row[name], images_of(row, name)) for row in rows]
        print(f"{kind}: {json.dumps(summary(pairs))}")
    print("\npoints lost by float32's own probabilities, and the standard error")
    for kind in ("default", "chosen"):  # what is quantization-aware learned to be right as int8
        print(f"{kind}: {mean_expected([row[f'whole_{kind}_expected'] for row in rows])}")
    print("\n| net | KB | epochs |" + "".join(f" {step} |" for step in steps))
    print("|" + "---|" * (3 + len(steps)))
    for row in rows:
        cells = [f"{row['key'][1]} {row['key'][2]}", round(row["bytes"] / 1000), row["epochs"]]
        cells += [row["took_seconds"][step] for step in steps]
        print("|" + "".join(f" {cell} |" for cell in cells))


def main() -> None:
    """Measure what is not there yet, or print what is."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--data", default="parts", help="parts, cifar10, or what tune takes")
    parser.add_argument("--home", type=Path, help="a folder to keep prepared images in")
    parser.add_argument("--space", action="append")
    parser.add_argument("--seeds", type=int, default=3, help="candidates of each space")
    parser.add_argument("--side", type=int, default=32)
    parser.add_argument("--epochs", type=int, default=30)
    parser.add_argument("--seconds", type=float, help="of each training, in place of epochs")
    parser.add_argument("--percent", type=float, default=30)
    parser.add_argument("--again", action="store_true", help="the last part in float32 once more")
    parser.add_argument("--k230", type=int, default=0, metavar="IMAGES", help="that are simulated")
    parser.add_argument("--most-macs", type=int, default=4_000_000)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--report", action="store_true")
    options = parser.parse_args()
    done = options.out.read_text(encoding="utf-8").splitlines() if options.out.exists() else []
    rows = [json.loads(line) for line in done]
    if options.report:
        report(rows)
        return
    keys = [row["key"] for row in rows]
    epochs = options.epochs if options.seconds is None else MOST_EPOCHS
    home = options.home or Path(tempfile.mkdtemp())
    dataset = open_dataset(data_set(options.data, home), split_seed=0, cache=cache_folder())
    outputs = len(dataset.spec.classes)
    for seed in range(options.seeds):
        for space in options.space or sorted(catalog.names("search_spaces")):
            key = [options.data, space, seed, options.side, epochs, options.percent]
            if options.seconds is not None:
                key.append(options.seconds)
            if key in keys:
                continue
            candidate = candidate_of(space, seed, options.side, outputs, epochs, options.most_macs)
            row = {
                "key": key,
                **measure(
                    candidate,
                    dataset,
                    options.percent,
                    seed,
                    options.seconds,
                    options.again,
                    options.k230,
                ),
            }
            with options.out.open("a", encoding="utf-8") as file:
                file.write(json.dumps(row) + "\n")
            print(json.dumps(row), flush=True)


if __name__ == "__main__":
    main()
