"""Finalists: what a device's compiler and simulator give, when, and never twice."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from runs_support import make_spec
from tests_support import make_result, quantity
from tuner import catalog
from tuner.dashboard.event_lines import event_line
from tuner.engine import finalists, measuring
from tuner.engine.builds import PRECISIONS
from tuner.engine.images import labelled, open_data
from tuner.engine.measuring import Measuring
from tuner.engine.plan import Plan
from tuner.engine.record import FINALISTS, Record
from tuner.engine.search import SearchRequest, prepare_run
from tuner.engine.slots import Died
from tuner.engine.supervisor import Supervisor
from tuner.errors import MachineError, TuneError
from tuner.exporters import k230
from tuner.models.export import export
from tuner.runtimes import CompiledModel, nncase
from tuner.spec import Build, Paired, Result, Target, to_plain
from tuner.store.runs import RunFolder
from tuner.testing.models import trained
from tuner.testing.specs import small_candidate


def one_class(images: np.ndarray, outputs: int, chosen: int) -> np.ndarray:
    logits = np.zeros((len(images), outputs), np.float32)
    logits[:, chosen] = 1.0
    return logits


CAMERA_MODEL = b"camera model"


def classes_of(images: np.ndarray) -> np.ndarray:
    logits = one_class(images, 10, chosen=1)
    logits[:, 2] = images.mean(axis=(1, 2, 3)) / 1000
    return logits


class FalseKpu:
    """Compiles at once, and simulates at a pace.

    Of every image it and the float32 net say class 1, where int8 says class 0.
    """

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.asked: Counter[str] = Counter()
        self.seen: list[np.ndarray] = []
        self.images_in_time = 0
        self.computes_something_else = False
        self.version = "2.11.0"
        for name in ("recipe", "compile_model", "simulate", "predict"):
            monkeypatch.setattr(nncase, name, getattr(self, name))

    def recipe(self, images: int) -> str:
        return f"nncase-kpu {self.version}, uint8, {images} images"

    def compile_model(self, model: bytes, calibration: np.ndarray, _: object) -> CompiledModel:
        self.asked["compile"] += 1
        assert model == CAMERA_MODEL
        assert calibration.shape == (finalists.COMPILED_WITH_IMAGES, 8, 8, 3)
        return CompiledModel(
            content=b"kmodel of " + model,
            suffix=".kmodel",
            recipe=self.recipe(len(calibration)),
            measured={"latency_ms": quantity(1.5)},
        )

    def simulate(
        self, content: bytes, images: np.ndarray, seconds: float | None, at_least: int
    ) -> np.ndarray:
        assert content.startswith(b"kmodel of ")
        count = len(images) if seconds is None else max(at_least, self.images_in_time)
        self.seen.append(images[:count])
        return classes_of(images[:count] * (-1.0 if self.computes_something_else else 1.0))

    def predict(self, model: bytes, precision: str, images: np.ndarray) -> np.ndarray:
        if precision == "float32":
            assert model == CAMERA_MODEL
            return classes_of(images)
        return one_class(images, 10, chosen=0)


@pytest.fixture
def kpu(monkeypatch: pytest.MonkeyPatch) -> FalseKpu:
    return FalseKpu(monkeypatch)


def measured(
    home: Path,
    seconds: float | None = None,
    images: int | None = None,
    model: bytes = CAMERA_MODEL,
) -> dict:
    if not (home / "spec").exists():
        request = SearchRequest(targets=("k230",), data="sample:digits", max_candidates=1)
        (home / "spec").write_text(prepare_run(request).name)
    spec = RunFolder(home / "runs" / (home / "spec").read_text()).spec()
    for precision in PRECISIONS:
        (home / f"{precision}.tflite").write_bytes(b"model")
    (home / finalists.CAMERA).write_bytes(model)
    builds = {precision: {"artifact": f"{precision}.tflite"} for precision in PRECISIONS}
    candidate = to_plain(small_candidate(outputs=10))
    return finalists.measure_builds(
        to_plain(spec), home, candidate, builds, ["k230"], images, seconds
    )


def build_of(given: dict) -> dict:
    assert given["prevented"] == []
    (build,) = given["builds"].values()
    return build


def test_a_part_is_drawn_by_the_runs_seed_and_the_rest_follows(home: Path, kpu: FalseKpu) -> None:
    part = build_of(measured(home, images=150))
    assert part["paired"]["validation"]["images"] == 150
    spec = RunFolder(home / "runs" / (home / "spec").read_text()).spec()
    validation = labelled(open_data(spec.dataset), small_candidate(), "validation")
    rows = np.random.default_rng(spec.seed).permutation(len(validation.labels))
    assert np.array_equal(kpu.seen[0], np.repeat(validation.images[rows[:150]], 3, axis=3))
    ones = int((validation.labels[rows[:150]] == 1).sum())
    assert part["paired"]["validation"]["gained"] == ones
    assert part["paired"]["validation"]["lost"] == int((validation.labels[rows[:150]] == 0).sum())
    assert part["beside_float32"]["validation"] == {"images": 150, "gained": 0, "lost": 0}

    kpu.images_in_time = 30
    longer = build_of(measured(home, seconds=0.0))
    assert longer["paired"]["validation"]["images"] == 150, "no time is left"
    whole = build_of(measured(home))
    assert whole["paired"]["validation"]["images"] == len(rows)
    assert np.array_equal(np.concatenate(kpu.seen)[..., :1], validation.images[rows])
    assert kpu.asked["compile"] == 1
    assert measured(home)["builds"] == {"int8 nncase kpu": whole}
    assert len(kpu.seen) == 2, "what was simulated is not simulated again"


def test_with_little_time_at_least_one_image_is_run(home: Path, kpu: FalseKpu) -> None:
    assert build_of(measured(home, seconds=0.0))["paired"]["validation"]["images"] == 1


def test_many_images_are_run_in_parts(
    home: Path, kpu: FalseKpu, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(finalists, "BLOCK_IMAGES", 100)
    assert build_of(measured(home))["paired"]["validation"]["images"] == 288
    assert [len(images) for images in kpu.seen] == [100, 100, 88]


def test_what_was_compiled_is_not_compiled_again(home: Path, kpu: FalseKpu) -> None:
    first = measured(home)
    assert measured(home) == first
    assert kpu.asked["compile"] == 1
    (home / "nncase.kmodel").unlink()
    measured(home)
    assert kpu.asked["compile"] == 2
    assert len(kpu.seen) == 2, "another kmodel is simulated anew"


def test_another_version_of_the_compiler_compiles_and_simulates_again(
    home: Path, kpu: FalseKpu
) -> None:
    assert build_of(measured(home))["recipe"] == "nncase-kpu 2.11.0, uint8, 100 images"
    kpu.version = "2.12.0"
    assert build_of(measured(home))["recipe"] == "nncase-kpu 2.12.0, uint8, 100 images"
    assert kpu.asked["compile"] == 2
    assert len(kpu.seen) == 2


def test_a_kmodel_that_computes_something_else_does_not_count(home: Path, kpu: FalseKpu) -> None:
    kpu.computes_something_else = True
    given = measured(home)
    assert given["measured"] == given["builds"] == {}
    assert given["unmeasured"]["k230"] == (
        "Not measured for nncase: what it was compiled to computes something else than its float32 "
        "model: expected logits that correlate with the model's by 0.9 or more on 288 validation "
        "images. Received: -1.00."
    )


FULL = "nncase cannot compile the model: No space left on device."


@pytest.mark.parametrize(
    ("where", "raised", "said"),
    [
        ("compile_model", MachineError(FULL), FULL),
        ("simulate", MachineError(FULL), FULL),
        ("simulate", MemoryError(), "a worker of this machine got no more memory."),
    ],
)
def test_a_machine_that_fails_is_no_refusal_and_is_asked_again(
    where: str, raised: Exception, said: str, home: Path, kpu: FalseKpu
) -> None:
    def fails(*_: object) -> None:
        raise raised

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(nncase, where, fails)
        given = measured(home)
    assert given["measured"] == given["builds"] == given["unmeasured"] == {}
    assert given["prevented"] == [
        f"Not measured for nncase: {said} Until 'tune resume' asks again, candidates keep their "
        "int8 accuracy and estimated costs."
    ]
    assert build_of(measured(home))["paired"]["validation"]["images"] == 288


@pytest.mark.parametrize("name", ["nncase.kmodel", "nncase.json", "nncase.kmodel.npy"])
def test_a_disk_that_is_full_for_a_file_of_the_run_is_told_without_its_name(
    name: str, home: Path, kpu: FalseKpu
) -> None:
    def full(prefix: str, **options: object) -> None:
        if prefix == f".{name}.":
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), f"{prefix}x7e_1f")
        return mkstemp(prefix=prefix, **options)

    with pytest.MonkeyPatch.context() as patch:
        mkstemp = tempfile.mkstemp
        patch.setattr(tempfile, "mkstemp", full)
        (line,) = measured(home)["prevented"]
    assert line.startswith(
        "Not measured for nncase: No space left on device, on reading or writing files of the run. "
        "Until"
    )
    assert build_of(measured(home))["paired"]["validation"]["images"] == 288


@pytest.mark.parametrize(
    ("own", "exact", "same"),
    [
        ([[1, 2], [3, 1], [2, 5]], [[1, 2], [3, 1], [2, 5]], True),
        ([[1.1, 2], [2.9, 1.2], [2, 4.8]], [[1, 2], [3, 1], [2, 5]], True),
        ([[1], [3], [2]], [[-1], [-3], [-2]], False),
        ([[9, 2], [9, 2], [9, 2]], [[1, 2], [3, 1], [2, 5]], False),
        ([[float("nan"), 2], [3, 1], [2, 5]], [[1, 2], [3, 1], [2, 5]], False),
        ([[1, 2]], [[1, 2]], True),
        ([[1, 2], [1, 2]], [[1, 2], [1, 2]], True),
    ],
)
def test_logits_are_compared_with_those_of_the_float32_model(
    own: list[list[float]], exact: list[list[float]], same: bool
) -> None:
    with nullcontext() if same else pytest.raises(TuneError, match="computes something else"):
        finalists._check_same(np.array(own, np.float32), np.array(exact, np.float32))


def test_a_run_of_an_earlier_version_says_what_it_lacks(home: Path, kpu: FalseKpu) -> None:
    measured(home)
    spec = RunFolder(home / "runs" / (home / "spec").read_text()).spec()
    (home / finalists.CAMERA).unlink()
    builds = {precision: {"artifact": f"{precision}.tflite"} for precision in PRECISIONS}
    candidate = to_plain(small_candidate(outputs=10))
    given = finalists.measure_builds(to_plain(spec), home, candidate, builds, ["k230"], None, None)
    assert "Expected camera.tflite among the candidate's files." in given["unmeasured"]["k230"]


@pytest.mark.parametrize(("outputs", "classes"), [(10, 10), (2, 1)])
def test_the_search_compiles_what_the_exporter_compiles(
    home: Path, monkeypatch: pytest.MonkeyPatch, outputs: int, classes: int
) -> None:
    from tuner.runtimes import interpreter
    from tuner.runtimes.tflite_file import parse_graph
    from tuner.train.build import load_keras

    compiled = []

    def keep(*arguments: object) -> CompiledModel:
        compiled.append(arguments)
        raise TuneError("seen")

    data = "sample:digits" if outputs == 10 else str(two_digits(home / "two.npz"))
    candidate = small_candidate(outputs=outputs)
    model = trained(candidate, data, "digits")
    monkeypatch.setattr(nncase, "recipe", lambda images: "uint8")
    monkeypatch.setattr(nncase, "compile_model", keep)
    monkeypatch.setattr(k230, "tools", lambda: ())
    with pytest.raises(TuneError, match="seen"):
        export(model, ["k230"], home / "out")
    request = SearchRequest(targets=("k230",), data=data, max_candidates=1)
    spec = dataclasses.replace(prepare_run(request).spec(), dataset=model.read().dataset)
    finalists.write_camera_model(load_keras(model.path / "model.keras"), spec, home)
    with pytest.raises(TuneError, match="seen"):
        finalists._compile(spec, home, candidate, spec.targets[0])
    exported, searched = compiled
    assert np.array_equal(exported[1], searched[1])
    assert exported[2] == searched[2]
    # Automatic names of Keras alone may differ between the files.
    operators = [
        [(item.kind, item.input_shape, item.output_shape) for item in parse_graph(model).operators]
        for model in (exported[0], searched[0])
    ]
    assert operators[0] == operators[1]
    colour = np.random.default_rng(0).uniform(-1, 1, (9, 8, 8, 3)).astype(np.float32)
    logits = [
        interpreter.run_tflite(model, "float32", colour, "xnnpack")
        for model in (exported[0], searched[0])
    ]
    assert np.array_equal(logits[0], logits[1])
    assert logits[0].shape == (9, classes)


def two_digits(path: Path) -> Path:
    generator = np.random.default_rng(0)
    images = generator.integers(0, 256, (60, 8, 8), dtype=np.uint8)
    np.savez(path, x=images, y=np.arange(60) % 2, classes=np.array(["no", "yes"]))
    return path


class Work:
    """Notes what is started in place of doing it."""

    def __init__(self, training: int = 0) -> None:
        self.running = [SimpleNamespace(key=100 + index) for index in range(training)]
        self.started: list[tuple[int, list[str]]] = []
        self.images: list[int | None] = []
        self.seconds: list[float | None] = []

    def start(self, slot: object, key: int, job: object, *arguments: object, **_: object) -> None:
        assert job is finalists.measure_builds
        self.started.append((key, arguments[4]))
        self.images.append(arguments[5])
        self.seconds.append(arguments[6])
        self.running.append(SimpleNamespace(key=key))


def supervisor(
    home: Path,
    correct: list[int],
    training: int = 0,
    candidates: int = 32,
    rungs: bool = True,
    budget_seconds: float | None = None,
) -> Supervisor:
    """One whose candidates have ended with so many correct images, while others still train."""
    folder = RunFolder(home / "runs" / "r")
    target: Target = catalog.load_target("k230")
    limits = {"max_candidates": candidates, "budget_seconds": budget_seconds}
    folder.write_spec(make_spec("r", targets=(target,), **limits))
    notes: list[str] = []
    made = Supervisor(folder, None, SimpleNamespace(note=notes.append, notes=notes))
    made._record = record = Record(folder, Log(folder), 0.0, lambda event: None)
    made._plan = Plan(record.spec, rungs=rungs)
    last = len(made._plan.quotas) - 1 if budget_seconds is None else 0
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


NOTHING = {"measured": {}, "builds": {}, "unmeasured": {}, "prevented": []}


def all_started(made: Supervisor) -> list[int]:
    while made._start_measuring_finalist(None):
        pass
    return [key for key, _ in made._work.started]


def test_the_best_are_measured_best_first_and_once(home: Path) -> None:
    made = supervisor(home, [3, 9, 5, 7, 1, 8, 2, 6])
    assert all_started(made) == [1, 5, 3, 7, 2]
    assert len(made._work.started) == FINALISTS
    assert set(made._work.images) == set(made._work.seconds) == {None}, "all images, no clock"
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
    assert all_started(made) == [1, 0]
    for key in (0, 1):
        outcome = {**NOTHING, "prevented": ["Not measured for nncase: no .NET."]}
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), outcome)
    assert made._observer.notes == ["Not measured for nncase: no .NET."]
    assert not made._record.results[0].unmeasured, "it is measured once the tool is there"


def with_build(outcome: dict, images: int) -> dict:
    """What a simulation on so many of 20 images gives."""
    own = Build(
        runtime="nncase", kernels="kpu", precision="int8", recipe="uint8", artifact="nncase.kmodel",
        size_bytes=9, accuracy={}, paired={"validation": Paired(images=images, gained=0, lost=0)},
    )  # fmt: skip
    measured = {"k230": {"latency_ms": to_plain(quantity(1.5))}}
    return {**outcome, "measured": measured, "builds": {"int8 nncase kpu": to_plain(own)}}


def test_with_a_clock_all_are_run_on_a_part_first_then_the_best_on_the_whole(home: Path) -> None:
    made = supervisor(home, [3, 9, 5], budget_seconds=1000.0)
    made._measuring._seconds_left = lambda: 100.0
    assert all_started(made) == [1, 2, 0]
    assert made._work.images == [measuring.FIRST_IMAGES] * 3
    assert made._work.seconds == [None] * 3
    made._work.running = []
    for key in (0, 1, 2):
        part = with_build(NOTHING, 20 if key == 2 else 10)
        made._measuring.collect(SimpleNamespace(key=key, attempt=1, slot=None), part)
    assert all_started(made)[3:] == [1, 0], "the part was all that there is of the other"
    assert made._work.images[3:] == [None, None]
    assert made._work.seconds[3:] == [100.0, 100.0]
    # A simulator that fails now takes nothing back.
    made._measuring.collect(SimpleNamespace(key=1, attempt=2, slot=None), Died("it died"))
    assert not made._record.results[1].unmeasured


def test_without_time_the_best_alone_is_measured(home: Path) -> None:
    made = supervisor(home, [3, 9, 5], budget_seconds=1000.0)
    made._measuring._seconds_left = lambda: -1.0
    assert all_started(made) == [1]
    made._work.running = []
    made._measuring.collect(SimpleNamespace(key=1, attempt=1, slot=None), with_build(NOTHING, 10))
    assert all_started(made) == [1]
