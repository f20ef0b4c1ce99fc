"""Do early rungs rank? Spearman of each rung's accuracy against that of the full training.

Trains random candidates of the spaces that a search draws from, which fit the Arduino Nano 33 BLE
Sense, on the CIFAR-10 subset of `cifar10_search.py`: to three rungs with weights resumed, as a
search does, and for comparison from scratch for other short times, for one epoch, and on a part of
the images. The last rung is scored as int8 on all test images. One line of JSON a candidate,
resumable:
    .venv/bin/python tests/benchmarks/rung_ranks.py train ranks.jsonl --part 0 --parts 2
    .venv/bin/python tests/benchmarks/rung_ranks.py report ranks.jsonl
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

for _name in ("TF_NUM_INTRAOP_THREADS", "TF_NUM_INTEROP_THREADS", "OMP_NUM_THREADS"):
    os.environ[_name] = "1"
os.environ.update(TF_CPP_MIN_LOG_LEVEL="3", CUDA_VISIBLE_DEVICES="-1", KERAS_BACKEND="tensorflow")

import numpy as np
from cifar10_search import DATA, TARGET, TRAINING_IMAGES_PER_CLASS, unpack

from tuner.engine import jobs
from tuner.engine.builds import make_builds, score_builds
from tuner.engine.images import labelled, open_data
from tuner.engine.plan import OVERHEAD_SECONDS, Plan
from tuner.engine.search import SearchRequest, make_proposer, prepare_run
from tuner.propose.sampler import Told
from tuner.spec import Candidate, RunSpec, Throughput, from_plain, seed_of

CANDIDATES = 40
RUNGS = {"rung 0": 1 / 16, "rung 1": 1 / 4, "last": 1.0}
FROM_SCRATCH = {"1/32": (1 / 32, 1.0), "1/16": (1 / 16, 1.0), "1/16, 30 % of data": (1 / 16, 0.3),
                "1/4": (1 / 4, 1.0)}  # fmt: skip
IN_EPOCHS = {"1 epoch": (1, 1.0), "3 epochs, 30 % of data": (3, 0.3)}


def search_spec(home: Path, final_seconds: float) -> RunSpec:
    """A search of which only the proposals and the plan are used."""
    images = home / "cifar10"
    if not images.exists():
        unpack(DATA / "cifar10-train.zip", images / "train", TRAINING_IMAGES_PER_CLASS)
        unpack(DATA / "cifar10-test.zip", images / "test", None)
    os.environ["TUNE_HOME"] = tempfile.mkdtemp(dir=home)
    request = SearchRequest(
        targets=(TARGET,), data=str(images), budget_seconds=2 * final_seconds, workers=1
    )
    spec = prepare_run(request).spec()
    os.environ["TUNE_HOME"] = str(home)  # shares the prepared images
    return replace(spec, throughput=Throughput(**jobs.measure_machine()))


def random_candidates(spec: RunSpec, count: int) -> list[Candidate]:
    """The first random proposals of a search."""
    proposer = make_proposer(spec, Plan(spec), starting_points=False, sampler=False)
    history: list[Told] = []
    found: list[Candidate] = []
    while len(found) < count:
        proposal = proposer.propose(history, frozenset(item.id for item in found))
        assert proposal is not None
        history.append(Told(space=proposal.space, choices=proposal.choices,
                            fits=frozenset({TARGET}), score=None))  # fmt: skip
        found.append(proposal.candidate)
    return found


def measure(spec: RunSpec, candidate: Candidate, final_seconds: float) -> dict[str, Any]:
    """Train one candidate to all rungs, and for the times it is compared with."""
    import keras

    from tuner import catalog
    from tuner.train.build import build_keras, start_anew
    from tuner.train.loop import LabelledImages, train

    dataset = open_data(spec.dataset)
    training = labelled(dataset, candidate, "training")
    validation = labelled(dataset, candidate, "validation")
    seed = seed_of(spec.seed, candidate.id)
    task = catalog.load_module("tasks", spec.task)
    loss = task.loss(candidate.training, training.labels, task.outputs(spec.dataset))

    def short(model: keras.Model, share: float, part: float, epochs: float, seed: int) -> Any:
        count = int(part * len(training.labels))
        data = LabelledImages(images=training.images[:count], labels=training.labels[:count])
        return train(model, candidate, data, validation, epochs=max(1, round(epochs)), seed=seed,
                     loss=loss)  # fmt: skip

    def fresh() -> keras.Model:
        start_anew(seed)
        return build_keras(candidate.architecture, dropout_seed=seed)

    ends: list[float] = []
    train(fresh(), candidate, training, validation, epochs=3, seed=seed, loss=loss,
          on_epoch=lambda done: ends.append(done.seconds))  # fmt: skip
    epoch = ends[2] - ends[1]
    full = min(candidate.training.epochs, int((final_seconds - OVERHEAD_SECONDS) / epoch))
    row: dict[str, Any] = {
        "id": candidate.id, "full_epochs": full, "epoch_seconds": epoch, "rungs": {},
        "from_scratch": {}, "curves": {},
    }  # fmt: skip
    # Images of a part must hold all classes alike.
    order = np.random.default_rng(0).permutation(len(training.labels))
    training = LabelledImages(images=training.images[order], labels=training.labels[order])
    for name, (share, part) in FROM_SCRATCH.items():
        started = time.monotonic()
        done = short(fresh(), share, part, share * full / part, seed)
        row["from_scratch"][name] = {
            "accuracy": max(done.curve), "epochs": done.epochs,
            "seconds": round(time.monotonic() - started, 2),
        }  # fmt: skip
    for name, (epochs, part) in IN_EPOCHS.items():
        started = time.monotonic()
        done = short(fresh(), 1.0, part, epochs, seed)
        row["from_scratch"][name] = {
            "accuracy": max(done.curve), "epochs": done.epochs,
            "seconds": round(time.monotonic() - started, 2),
        }  # fmt: skip
    model = fresh()
    for number, (name, share) in enumerate(RUNGS.items()):
        started = time.monotonic()
        done = short(model, share, 1.0, share * full, seed + number)
        row["rungs"][name] = {
            "accuracy": max(done.curve), "epochs": done.epochs,
            "seconds": round(time.monotonic() - started, 2),
        }  # fmt: skip
        row["curves"][name] = [round(value, 4) for value in done.curve]
    folder = Path(tempfile.mkdtemp())
    runs_with = [("litert", "builtin")]
    builds = make_builds(model, candidate, training, runs_with, folder, chosen=True)
    scored = score_builds(
        {"int8": builds["int8"]}, spec, candidate, dataset, folder, ("validation", "test")
    )
    row["int8"] = {split: found.value for split, found in scored["int8"].accuracy.items()}
    costs = known_before(spec, candidate)
    row.update(costs, parameters=model.count_params())
    return row


def known_before(spec: RunSpec, candidate: Candidate) -> dict[str, float]:
    """What is known before training."""
    from tuner.cost.lower import lower
    from tuner.engine.costs import cost_on

    cost = cost_on(lower(candidate.architecture), spec.targets[0])
    return {"macs": cost.macs, "ram_bytes": cost.ram_bytes.value}


def report(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """Spearman against int8 on test, and what choosing by each rung loses."""
    from scipy.stats import spearmanr

    final = [row["int8"]["test"] for row in rows]
    best = max(final)
    sources: dict[str, list[float]] = {}
    seconds: dict[str, float] = {}
    for kind in ("rungs", "from_scratch"):
        for name in rows[0][kind]:
            label = name if kind == "rungs" else f"from scratch: {name}"
            sources[label] = [row[kind][name]["accuracy"] for row in rows]
            seconds[label] = statistics.mean(row[kind][name]["seconds"] for row in rows)
    for name in ("macs", "parameters", "full_epochs"):
        sources[f"untrained: {name}"] = [float(row[name]) for row in rows]
    table = {}
    for label, values in sources.items():
        order = sorted(range(len(rows)), key=lambda number: -values[number])
        kept = {share: order[: math.ceil(len(rows) * share)] for share in (1 / 16, 1 / 8, 1 / 4)}
        table[label] = {
            "spearman": round(float(spearmanr(values, final).statistic), 3),
            "seconds": round(seconds.get(label, 0.0), 1),
            "best_among_first_points_below_best": {
                f"1/{round(1 / share)}": round(100 * (best - max(final[i] for i in chosen)), 2)
                for share, chosen in kept.items()
            },
        }
    return {"candidates": len(rows), "best_int8_test": best,
            "median_int8_test": statistics.median(final), "table": table}  # fmt: skip


def main() -> None:
    """Train a part of the candidates, or report."""
    parser = argparse.ArgumentParser()
    parser.add_argument("command", choices=("train", "report"))
    parser.add_argument("output", type=Path)
    parser.add_argument("--part", type=int, default=0)
    parser.add_argument("--parts", type=int, default=1)
    parser.add_argument("--final-seconds", type=float, default=60.0)
    parser.add_argument("--home", type=Path, default=Path(tempfile.gettempdir()) / "rung_ranks")
    options = parser.parse_args()
    lines = options.output.read_text().splitlines() if options.output.exists() else []
    rows = [json.loads(line) for line in lines]
    if options.command == "report":
        print(json.dumps(report(rows), indent=2))
        return
    spec_file = options.home / "run.json"
    if not spec_file.exists():  # one measurement of the machine for all parts
        from tuner.spec import to_plain

        options.home.mkdir(parents=True, exist_ok=True)
        spec = search_spec(options.home, options.final_seconds)
        spec_file.write_text(json.dumps(to_plain(spec)))
    os.environ["TUNE_HOME"] = str(options.home)
    spec = from_plain(RunSpec, json.loads(spec_file.read_text()), "run.json")
    done = {row["id"] for row in rows}
    for number, candidate in enumerate(random_candidates(spec, CANDIDATES)):
        if number % options.parts == options.part and candidate.id not in done:
            row = measure(spec, candidate, options.final_seconds)
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(number, candidate.id, row["rungs"], row["int8"], file=sys.stderr)


if __name__ == "__main__":
    main()
