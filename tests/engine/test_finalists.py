"""Finalists: what a device's compiler and simulator give, when, and never twice."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runs_support import make_spec
from tests_support import make_result, quantity
from tuner import catalog
from tuner.dashboard.event_lines import event_line
from tuner.engine import finalists
from tuner.engine.builds import PRECISIONS
from tuner.engine.images import labelled, open_data
from tuner.engine.measuring import Measuring
from tuner.engine.plan import Plan
from tuner.engine.record import FINALISTS, Record
from tuner.engine.search import SearchRequest, prepare_run
from tuner.engine.slots import Died
from tuner.engine.supervisor import Supervisor
from tuner.runtimes import CompiledModel, nncase
from tuner.spec import Result, Target, to_plain
from tuner.store.runs import RunFolder
from tuner.testing.specs import small_candidate


def one_class(images: np.ndarray, outputs: int, chosen: int) -> np.ndarray:
    logits = np.zeros((len(images), outputs), np.float32)
    logits[:, chosen] = 1.0
    return logits


class FalseKpu:
    """Compiles at once, simulates at a pace, and says class 1 where LiteRT says class 0."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.seen: list[np.ndarray] = []
        self.images_in_time = 0
        for name in ("compile_model", "simulate", "predict"):
            monkeypatch.setattr(nncase, name, getattr(self, name))

    def compile_model(self, model: bytes, calibration: np.ndarray, _: object) -> CompiledModel:
        self.asked["compile"] += 1
        assert len(calibration) == finalists.COMPILED_WITH_IMAGES
        return CompiledModel(
            content=b"kmodel of " + model,
            suffix=".kmodel",
            recipe="uint8",
            measured={"latency_ms": quantity(1.5)},
        )

    def simulate(
        self, content: bytes, images: np.ndarray, seconds: float | None, at_least: int
    ) -> np.ndarray:
        assert content.startswith(b"kmodel of ")
        count = len(images) if seconds is None else max(at_least, self.images_in_time)
        self.seen.append(images[:count])
        return one_class(images[:count], 10, chosen=1)

    def predict(self, model: bytes, precision: str, images: np.ndarray) -> np.ndarray:
        return one_class(images, 10, chosen=0)


@pytest.fixture
def kpu(monkeypatch: pytest.MonkeyPatch) -> FalseKpu:
    return FalseKpu(monkeypatch)


def measure(home: Path, seconds: float | None, model: bytes = b"model") -> dict:
    if not (home / "spec").exists():
        request = SearchRequest(targets=("k230",), data="sample:digits", max_candidates=1)
        (home / "spec").write_text(prepare_run(request).name)
    spec = RunFolder(home / "runs" / (home / "spec").read_text()).spec()
    for precision in PRECISIONS:
        (home / f"{precision}.tflite").write_bytes(model)
    builds = {precision: {"artifact": f"{precision}.tflite"} for precision in PRECISIONS}
    candidate = to_plain(small_candidate(outputs=10))
    given = finalists.measure_builds(to_plain(spec), home, candidate, builds, ["k230"], seconds)
    assert given["missing"] == []
    return given


def paired(given: dict) -> dict:
    (build,) = given["builds"].values()
    return build["paired"]["validation"]


def test_a_part_is_drawn_by_the_runs_seed_and_counted(home: Path, kpu: FalseKpu) -> None:
    given = measure(home, None)
    assert paired(given)["images"] == 288, "all of sample:digits, which has fewer than 400"
    kpu.images_in_time = 150
    part = paired(measure(home, 10.0))
    assert part["images"] == 150
    images = kpu.seen[-1]
    spec = RunFolder(home / "runs" / (home / "spec").read_text()).spec()
    validation = labelled(open_data(spec.dataset), small_candidate(), "validation")
    rows = np.random.default_rng(spec.seed).permutation(len(validation.labels))[:150]
    assert np.array_equal(images, validation.images[rows])
    assert part["gained"] == int((validation.labels[rows] == 1).sum())
    assert part["lost"] == int((validation.labels[rows] == 0).sum())
    kpu.images_in_time = 3
    assert paired(measure(home, 0.01))["images"] == finalists.SIMULATED_AT_LEAST


def test_what_was_compiled_is_not_compiled_again(home: Path, kpu: FalseKpu) -> None:
    first = measure(home, None)
    assert measure(home, None) == first
    assert kpu.asked["compile"] == 1
    assert measure(home, None, b"other weights") != first
    assert kpu.asked["compile"] == 2
    (home / "nncase.kmodel").unlink()
    measure(home, None, b"other weights")
    assert kpu.asked["compile"] == 3


class Work:
    """Notes what is started in place of doing it."""

    def __init__(self, training: int = 0) -> None:
        self.running = [SimpleNamespace(key=100 + index) for index in range(training)]
        self.started: list[tuple[int, list[str]]] = []

    def start(self, slot: object, key: int, job: object, *arguments: object, **_: object) -> None:
        assert job is finalists.measure_builds
        self.started.append((key, arguments[4]))
        self.running.append(SimpleNamespace(key=key))


def supervisor(
    home: Path, correct: list[int], training: int = 0, candidates: int = 32, rungs: bool = True
) -> Supervisor:
    """One whose candidates have ended with so many correct images, while others still train."""
    folder = RunFolder(home / "runs" / "r")
    target: Target = catalog.load_target("k230")
    folder.write_spec(make_spec("r", targets=(target,), max_candidates=candidates))
    notes: list[str] = []
    made = Supervisor(folder, None, SimpleNamespace(note=notes.append, notes=notes))
    made._record = record = Record(folder, Log(folder), 0.0, lambda event: None)
    made._plan = Plan(record.spec, rungs=rungs)
    last = len(made._plan.quotas) - 1
    if not record.events:
        for index, count in enumerate(correct):
            note_ended(record, index, count)
    ended_steps = [step(index, rung) for index in range(len(correct)) for rung in range(last + 1)]
    record.steps._steps = ended_steps
    for index in range(100, 100 + training):
        record.results[index] = dataclasses.replace(ended(index, 0), status=None, builds={})
    made._work = Work(training)
    made._measuring = Measuring(record, made._work, made._observer.note)
    return made


class Log:
    """The run's own, closed after each event."""

    def __init__(self, folder: RunFolder) -> None:
        self._folder = folder

    def append(self, event: str, **fields: object) -> dict:
        with self._folder.open_log() as log:
            return log.append(event, **fields)


def note_ended(record: Record, index: int, correct: int) -> None:
    result = ended(index, correct)
    record.note("proposed", index=index, origin="test", candidate=to_plain(result.candidate),
                costs=to_plain(result.costs), id=result.candidate.id)  # fmt: skip
    record.note("finished", index=index, status="ok", builds=to_plain(result.builds))
    record.refold(index)


def ended(index: int, correct: int) -> Result:
    result = make_result(index, correct=correct)
    return dataclasses.replace(result, costs={"k230": result.costs["board"]})


def step(index: int, rung: int):
    from tuner.propose.rungs import Step

    return Step(index=index, rung=rung, known=True, score=0.5)


NOTHING = {"measured": {}, "builds": {}, "unmeasured": {}, "missing": []}


def all_started(made: Supervisor) -> list[int]:
    while made._start_measuring_finalist(None):
        pass
    return [key for key, _ in made._work.started]


def test_the_best_are_measured_best_first_and_once(home: Path) -> None:
    made = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(made) == [1, 5, 3, 7, 2]
    assert len(made._work.started) == FINALISTS
    assert not made._start_measuring_finalist(None)


def test_while_others_train_only_who_will_be_a_finalist_in_any_case_is_measured(
    home: Path,
) -> None:
    # Two may still be trained to their end (quotas 32, 8, 2), and be better than all others.
    made = supervisor(home, [3], training=1)
    assert made._plan.quotas == (32, 8, 2)
    assert all_started(made) == [0]
    # Without rungs seven more may.
    many = supervisor(home, [3], training=1, candidates=8, rungs=False)
    assert all_started(many) == []
    many._work.running = []
    assert all_started(many) == [0]


def test_a_worker_that_dies_is_asked_once_more(home: Path) -> None:
    made = supervisor(home, [3])
    assert all_started(made) == [0]
    job = SimpleNamespace(key=0, attempt=1, slot=None)
    made._measuring.collect(job, Died("its worker process died"))
    assert made._work.started == [(0, ["k230"]), (0, ["k230"])]
    job.attempt = 2
    made._measuring.collect(job, Died("its worker process died"))
    assert len(made._work.started) == 2
    assert made._observer.notes == [
        f"{made._record.results[0].candidate.id}: measuring: its worker process died"
    ]
    assert made._record.results[0].unmeasured == {"k230": "Not measured: its worker process died"}


REFUSED = "Not measured for nncase: nncase cannot compile the model: Unsupported operator."


def test_what_the_compiler_refuses_is_noted_ranks_last_and_makes_way(home: Path) -> None:
    made = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(made) == [1, 5, 3, 7, 2]
    refused = {**NOTHING, "unmeasured": {"k230": REFUSED}}
    for key in (1, 5):
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), refused)
    assert made._observer.notes == [REFUSED], "the same reason is said once"
    best = [result.index for result in made._record.finalists(made._record.spec.targets[0], 8)]
    assert best == [3, 7, 2, 0, 6, 4, 1, 5]
    made._work.running = []
    assert all_started(made)[5:] == [0, 6], "two others are among the best now"

    # Whoever resumes the run reads the reasons, and asks for none of them again.
    later = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(later) == [3, 7, 2, 0, 6]
    line = event_line(later._record.events[-1])
    assert line.endswith(f"  {REFUSED}")


def test_what_keeps_a_tool_from_it_is_said_once(home: Path) -> None:
    made = supervisor(home, [3, 4])
    for key in (0, 1):
        outcome = {**NOTHING, "missing": ["Not measured for nncase: no .NET."]}
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), outcome)
    assert made._observer.notes == ["Not measured for nncase: no .NET."]
    assert not made._record.results[0].unmeasured, "it is measured once the tool is there"
