"""Finalists: what a device's compiler and simulator give of them, and never twice."""

from __future__ import annotations

import dataclasses
import errno
import os
import tempfile
from collections import Counter
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pytest

from tests_support import quantity
from tuner.engine import compiling, finalists
from tuner.engine.builds import PRECISIONS
from tuner.engine.images import labelled, open_data
from tuner.engine.search import SearchRequest, prepare_run
from tuner.errors import MachineError, TuneError
from tuner.exporters import k230
from tuner.models.export import export
from tuner.runtimes import CompiledModel, nncase
from tuner.spec import to_plain
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
        self.compared: list[np.ndarray] = []
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
        assert calibration.shape == (compiling.COMPILED_WITH_IMAGES, 8, 8, 3)
        return CompiledModel(
            content=b"kmodel of " + model,
            suffix=".kmodel",
            recipe=self.recipe(len(calibration)),
            measured={"latency_ms": quantity(1.5)},
        )

    def simulate(
        self,
        content: bytes,
        images: np.ndarray,
        seconds: float | None,
        at_least: int,
        processes: int = 1,
    ) -> np.ndarray:
        assert content.startswith(b"kmodel of ")
        count = len(images) if seconds is None else max(at_least, self.images_in_time)
        # What was just compiled is compared with float32 first, on training images.
        first = len(self.compared) < self.asked["compile"]
        (self.compared if first else self.seen).append(images[:count])
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
