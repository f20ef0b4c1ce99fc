"""Do early rungs rank? Spearman of each rung's accuracy against that of the full training.

Trains random candidates of the spaces that a search draws from, which fit the Arduino Nano 33 BLE
Sense, on the CIFAR-10 subset of `cifar10_search.py`: to three rungs with weights resumed, as a
search does, and for comparison from scratch for other short times, for one epoch, and on a part of
the images. The last rung is scored as int8 on all test images. One line of JSON a candidate,
resumable; times that are added here later are trained for the candidates that lack them, whose last
line counts:
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
from tuner.propose.rungs import REDUCTION
from tuner.propose.sampler import Told
from tuner.spec import Candidate, RunSpec, Throughput, from_plain, seed_of

CANDIDATES = 40
RUNGS = {"rung 0": 1 / 16, "rung 1": 1 / 4, "last": 1.0}
FROM_SCRATCH = {"1/32": (1 / 32, 1.0), "1/16": (1 / 16, 1.0), "1/16, 30 % of data": (1 / 16, 0.3),
                "1/8": (1 / 8, 1.0), "1/6": (1 / 6, 1.0), "1/4": (1 / 4, 1.0)}  # fmt: skip
FIRST_RUNGS = ("1/4", "1/6", "1/8", "1/16")
EXPLORING_SECONDS = (240.0, 480.0, 700.0)
DRAWS = 20_000
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


def measure(
    spec: RunSpec, candidate: Candidate, final_seconds: float, before: dict[str, Any] | None
) -> dict[str, Any]:
    """Train one candidate to all rungs, and for the times it is compared with.

    Of one that was measured before, only times that it lacks.
    """
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

    def short(model: keras.Model, part: float, epochs: float, seed: int) -> Any:
        count = int(part * len(training.labels))
        data = LabelledImages(images=training.images[:count], labels=training.labels[:count])
        return train(model, candidate, data, validation, epochs=max(1, round(epochs)), seed=seed,
                     loss=loss)  # fmt: skip

    def fresh() -> keras.Model:
        start_anew(seed)
        return build_keras(candidate.architecture, dropout_seed=seed)

    row = before or measure_epoch(candidate, fresh(), training, validation, final_seconds, loss)
    full = row["full_epochs"]
    # Images of a part must hold all classes alike.
    order = np.random.default_rng(0).permutation(len(training.labels))
    training = LabelledImages(images=training.images[order], labels=training.labels[order])
    lengths = {name: (share * full / part, part) for name, (share, part) in FROM_SCRATCH.items()}
    for name, (epochs, part) in {**lengths, **IN_EPOCHS}.items():
        if name in row["from_scratch"]:
            continue
        started = time.monotonic()
        done = short(fresh(), part, epochs, seed)
        row["from_scratch"][name] = {
            "accuracy": max(done.curve), "epochs": done.epochs,
            "seconds": round(time.monotonic() - started, 2),
        }  # fmt: skip
    if before:
        return row
    model = fresh()
    for number, (name, share) in enumerate(RUNGS.items()):
        started = time.monotonic()
        done = short(model, 1.0, share * full, seed + number)
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


def measure_epoch(
    candidate: Candidate,
    model: Any,
    training: Any,
    validation: Any,
    final_seconds: float,
    loss: Any,
) -> dict[str, Any]:
    """A row with the time of an epoch, and how many of them fill the last rung."""
    from tuner.train.loop import train

    ends: list[float] = []
    train(model, candidate, training, validation, epochs=3, seed=0, loss=loss,
          on_epoch=lambda done: ends.append(done.seconds))  # fmt: skip
    epoch = ends[2] - ends[1]
    full = min(candidate.training.epochs, int((final_seconds - OVERHEAD_SECONDS) / epoch))
    return {"id": candidate.id, "full_epochs": full, "epoch_seconds": epoch, "rungs": {},
            "from_scratch": {}, "curves": {}}  # fmt: skip


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
            seconds[label] = statistics.median(row[kind][name]["seconds"] for row in rows)
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
    return {
        "candidates": len(rows), "best_int8_test": best,
        "median_int8_test": statistics.median(final), "table": table,
        "found_by_search": {
            seconds: found_by_search(rows, seconds) for seconds in EXPLORING_SECONDS
        },
    }  # fmt: skip


def found_by_search(rows: list[dict[str, Any]], exploring: float) -> dict[str, dict[str, float]]:
    """int8 of what a search finds in so many seconds of a core, by its first rung.

    Candidates are drawn from the rows; those that are the best quarter after the first rung are
    trained to the last, and the best there is what it finds. "none" trains all of them to the last.
    """
    final = np.array([row["int8"]["test"] for row in rows])
    last = np.array([row["rungs"]["last"]["accuracy"] for row in rows])
    last_seconds = statistics.median(row["rungs"]["last"]["seconds"] for row in rows)
    generator = np.random.default_rng(0)
    found = {}
    for name in (None, *FIRST_RUNGS):
        first = [row["from_scratch"][name] for row in rows] if name else []
        seconds = statistics.median(rung["seconds"] for rung in first) if first else 0.0
        each = seconds + (last_seconds / REDUCTION if first else last_seconds)
        count = min(len(rows), int(exploring / each))
        kept = max(1, count // REDUCTION) if first else count
        scores = np.array([rung["accuracy"] for rung in first] or last)
        values = []
        for _ in range(DRAWS):
            drawn = generator.permutation(len(rows))[:count]
            chosen = drawn[np.argsort(-scores[drawn])][:kept]
            values.append(final[chosen[np.argmax(last[chosen])]])
        found[name or "none"] = {"candidates": count, "int8_test": round(float(np.mean(values)), 4)}
    return found


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
    rows = {row["id"]: row for row in map(json.loads, lines)}
    if options.command == "report":
        whole = [row for row in rows.values() if FROM_SCRATCH.keys() <= row["from_scratch"].keys()]
        print(json.dumps(report(whole), indent=2))
        return
    spec_file = options.home / "run.json"
    if not spec_file.exists():  # one measurement of the machine for all parts
        from tuner.spec import to_plain

        options.home.mkdir(parents=True, exist_ok=True)
        spec = search_spec(options.home, options.final_seconds)
        spec_file.write_text(json.dumps(to_plain(spec)))
    os.environ["TUNE_HOME"] = str(options.home)
    spec = from_plain(RunSpec, json.loads(spec_file.read_text()), "run.json")
    for number, candidate in enumerate(random_candidates(spec, CANDIDATES)):
        before = rows.get(candidate.id)
        if number % options.parts != options.part:
            continue
        if before is None or FROM_SCRATCH.keys() - before["from_scratch"].keys():
            row = measure(spec, candidate, options.final_seconds, before)
            with options.output.open("a") as file:
                file.write(json.dumps(row) + "\n")
            print(number, candidate.id, row["rungs"], row["int8"], file=sys.stderr)


if __name__ == "__main__":
    main()
