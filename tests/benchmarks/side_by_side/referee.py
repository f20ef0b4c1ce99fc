"""Score a tool's picks by one recipe: int8 file, arena by tflite-micro, top-1 on the test images.

Not every pick needs a score: one that is replaced within a hundredth of the budget is passed
over, for every tool alike, which delays a curve and never hastens it.
"""

from __future__ import annotations

import argparse
import json
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from benchmarks.side_by_side.protocol import (
    ARENA_LIMIT_BYTES,
    CONTEXT,
    CORES,
    FILE_LIMIT_BYTES,
    RUN,
    TRIALS,
    Data,
    read_lines,
)
from tuner.errors import TuneError
from tuner.spec import Candidate, from_plain

if TYPE_CHECKING:
    from numpy.typing import NDArray

CALIBRATION_IMAGES = 200
SHORTEST_SHARE = 0.01
"""Of the budget; a pick that lived shorter is not scored."""


def lasting(picks: list[dict[str, Any]], budget_seconds: float) -> list[dict[str, Any]]:
    """Picks that were the tool's best for long enough, and the last one."""
    shortest = SHORTEST_SHARE * budget_seconds
    return [
        pick
        for pick, following in zip(picks, [*picks[1:], None], strict=True)
        if following is None or following["seconds"] - pick["seconds"] >= shortest
    ]


def score(folder: Path, data: Data, seed: int, pick: dict[str, Any]) -> dict[str, Any]:
    """What one pick is worth; `accuracy` is only measured where it fits."""
    from tuner.runtimes.recorder import measure_arena

    model, side, scaling = _tflite(folder, data, seed, pick)
    scored = {
        "seconds": round(pick["seconds"], 2),
        "validation": pick["score"],
        "file_bytes": len(model),
    }
    try:
        head, tail = measure_arena(model)
    except TuneError as error:
        return {**scored, "feasible": False, "accuracy": None, "reason": str(error)[:300]}
    scored |= {"arena_bytes": head + tail, "arena_head_bytes": head}
    feasible = head + tail <= ARENA_LIMIT_BYTES and len(model) <= FILE_LIMIT_BYTES
    accuracy = _accuracy(model, data, side, scaling) if feasible else None
    return {**scored, "feasible": feasible, "accuracy": accuracy}


def _tflite(folder: Path, data: Data, seed: int, pick: dict[str, Any]) -> tuple[bytes, int, str]:
    """The int8 file, the side of its input, and how its images are scaled."""
    path = folder / pick["file"]
    if path.suffix == ".tflite":
        return path.read_bytes(), pick["side"], pick["scaling"]
    from tuner.data.preprocess import scale
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    x = calibration_images(data, seed)
    if path.suffix == ".keras":
        import autokeras  # noqa: F401 - registers the layers that its files name
        import keras

        model = keras.saving.load_model(path, compile=False)
        return convert_tflite(model, "int8", x.astype(np.float32)), x.shape[1], "none"
    from benchmarks.side_by_side.nets import Net, resize
    from tuner.propose.choices import TableChoices

    net = Net(TableChoices(pick["choices"]))
    with np.load(path) as weights:
        net.net.set_weights([weights[name] for name in weights.files])
    images = scale(resize(x, net.side), "signed")
    model = convert_tflite(net.net, "int8", images, input_range=INPUT_RANGES["signed"])
    return model, net.side, "signed"


def calibration_images(data: Data, seed: int) -> NDArray[np.uint8]:
    """Training images of all classes; the split holds them class after class."""
    from tuner.data.stratify import stratified_rows

    with np.load(data.split(seed)) as arrays:
        (rows,) = stratified_rows(arrays["y"], (CALIBRATION_IMAGES,))
        images: NDArray[np.uint8] = arrays["x"][rows]
    return images


def _accuracy(model: bytes, data: Data, side: int, scaling: str) -> float:
    from benchmarks.side_by_side.nets import resize
    from tuner.data.preprocess import scale
    from tuner.runtimes.interpreter import run_tflite

    images, labels = data.test()
    pixels = resize(images, side)
    inputs = pixels.astype(np.float32) if scaling == "none" else scale(pixels, scaling)
    logits = run_tflite(model, "int8", inputs, "xnnpack")
    return float(np.mean(np.argmax(logits, axis=1) == labels))


def over_limit(folder: Path, data: Data, seed: int, trial: dict[str, Any]) -> bool:
    """Whether a net that was trained exceeds a limit.

    Nets are judged by their own file. Of the shared space, where there is none, as of nets that
    were given up before they were converted, the cost model judges, which tests hold to the
    referee's figures.
    """
    if "file" in trial:
        return _is_over(_tflite(folder, data, seed, trial)[0])
    if "candidate" in trial:
        candidate = from_plain(Candidate, trial["candidate"], TRIALS)
        made = folder / "home" / "runs" / RUN / "candidates" / candidate.id
        if files := list(made.rglob("int8.tflite")):
            return any(_is_over(file.read_bytes()) for file in files)
    from benchmarks.side_by_side.search_spaces import bench_stages
    from tuner.cost.arena import HOST_64, plan_arena
    from tuner.cost.flash import model_file_bytes
    from tuner.cost.lower import lower
    from tuner.propose.choices import TableChoices

    if "candidate" in trial:
        architecture = candidate.architecture
    else:
        architecture = bench_stages.draw(TableChoices(trial["choices"]), CONTEXT).architecture
    graph = lower(architecture)
    return (
        plan_arena(graph, structs=HOST_64).total_bytes > ARENA_LIMIT_BYTES
        or model_file_bytes(graph).value > FILE_LIMIT_BYTES
    )


def _is_over(model: bytes) -> bool:
    from tuner.runtimes.recorder import measure_arena

    try:
        arena = sum(measure_arena(model))
    except TuneError:
        return True  # it cannot run there at all
    return arena > ARENA_LIMIT_BYTES or len(model) > FILE_LIMIT_BYTES


def main() -> None:
    """Score the picks in `FOLDER/picks.json` and judge the trials; write `FOLDER/scored.json`."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("seed", type=int)
    parser.add_argument("seconds", type=float)
    given = parser.parse_args()
    folder, data = given.folder, Data(given.data)
    picks = json.loads((folder / "picks.json").read_text(encoding="utf-8"))
    trials = [trial for trial in read_lines(folder / TRIALS) if not trial["refused"]]
    with ProcessPoolExecutor(CORES, get_context("spawn")) as pool:
        judged = [pool.submit(over_limit, folder, data, given.seed, trial) for trial in trials]
        scored = [
            pool.submit(score, folder, data, given.seed, pick)
            for pick in lasting(picks, given.seconds)
        ]
        outcome = {
            "curve": [future.result() for future in scored],
            "trained_over_limit": sum(future.result() for future in judged),
        }
    (folder / "scored.json").write_text(json.dumps(outcome), encoding="utf-8")


if __name__ == "__main__":
    main()
