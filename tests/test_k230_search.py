"""A search for the K230, ranked by the KPU's simulator, and by LiteRT where that is missing."""

from __future__ import annotations

import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest

from dotnet_support import false_nncase
from tuner.engine import finalists
from tuner.engine.builds import PRECISIONS
from tuner.engine.search import SearchRequest, prepare_run
from tuner.spec import to_plain
from tuner.store.runs import RunFolder
from walk_support import small_digits, tune

SEARCH = ("--target", "k230", "--max-candidates", 3, "--space", "mixed_stages", "--name", "kpu")


def board(home: Path) -> list[dict]:
    return json.loads(tune(home, "report", "kpu", "--format", "json").stdout)


@pytest.mark.usefixtures("compiler")
def test_the_best_are_ranked_by_what_the_kpu_computes(home: Path) -> None:
    done = tune(home, *SEARCH, "--data", small_digits(home / "digits.npz"))
    rows = board(home)
    finished = [row for row in rows if row["status"] == "ok"]
    assert finished
    for row in finished:
        build = row["builds"]["target"]
        assert (build["runtime"], build["kernels"]) == ("nncase", "kpu")
        assert "training images" in build["recipe"]
        kpu = home / "runs" / "kpu" / row["artifacts"]["target_kmodel"]
        assert kpu.stat().st_size == build["size_bytes"]
        # All 100 validation images were run, so the estimate is the count itself.
        assert build["paired"]["validation"]["images"] == 100
        counted = sum(line[index] for index, line in
                      enumerate(build["accuracy"]["validation"]["confusion"])) / 100  # fmt: skip
        accuracy = row["accuracy"]["validation"]
        assert accuracy["target"] == pytest.approx(counted)
        assert abs(accuracy["target"] - accuracy["float32"]) <= 0.05
        assert "target" not in row["accuracy"]["test"], "the simulator read no test image"
        assert row["measured"]["k230"]["latency_ms"]["kind"] == "measured"
    order = [row["accuracy"]["validation"]["target"] for row in finished]
    assert order == sorted(order, reverse=True)
    table = done.stdout
    assert "KPU %" in table.splitlines()[0]
    assert max(map(len, table.splitlines())) <= 80
    assert f"KPU: the {len(finished)} best, compiled (nncase-kpu" in table.replace("\n", " ")

    compiled = {row["id"]: row["builds"]["target"] for row in finished}
    events = RunFolder(home / "runs" / "kpu").events()
    tune(home, "resume", "kpu")
    measured = [event for event in RunFolder(home / "runs" / "kpu").events()
                if event["event"] == "measured"]  # fmt: skip
    assert len(measured) == sum(event["event"] == "measured" for event in events)
    assert {row["id"]: row["builds"]["target"] for row in board(home)
            if row["status"] == "ok"} == compiled, "nothing is compiled twice"  # fmt: skip


@pytest.mark.usefixtures("compiler")
def test_a_net_of_grey_images_and_two_classes_is_the_same_on_the_kpu(home: Path) -> None:
    from tuner.engine.builds import make_builds
    from tuner.engine.images import labelled, open_data
    from tuner.testing.specs import small_candidate
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras

    images = np.random.default_rng(0).integers(0, 256, (120, 8, 8), dtype=np.uint8)
    images[:, 2:6, 2:6] //= np.arange(1, 121, dtype=np.uint8)[:, None, None] % 4 + 1
    np.savez(home / "two.npz", x=images, y=np.arange(120) % 2, classes=np.array(["no", "yes"]))
    request = SearchRequest(targets=("k230",), data=str(home / "two.npz"), max_candidates=1)
    spec, candidate = prepare_run(request).spec(), small_candidate(outputs=2)
    model = build_keras(candidate.architecture)
    randomize_weights(model, 3)
    training = labelled(open_data(spec.dataset), candidate, "training")
    builds = make_builds(model, candidate, training, [("litert", "xnnpack")], home)
    finalists.write_camera_model(model, spec, home)
    given = finalists.measure_builds(
        to_plain(spec), home, to_plain(candidate), to_plain(builds), ["k230"], None, None
    )
    assert not given["unmeasured"]
    assert not given["prevented"]
    (build,) = given["builds"].values()
    beside = build["beside_float32"]["validation"]
    assert beside["images"] == spec.dataset.counts["validation"]
    assert beside["gained"] + beside["lost"] <= 0.1 * beside["images"]


@pytest.mark.parametrize(
    ("how", "reason"),
    [
        ("no .NET", "nncase needs the .NET runtime 7.0 or newer"),
        ("a compiler that dies", "nncase cannot compile the model: its process ended by signal 6."),
        ("a full disk", "nncase cannot compile the model: No space left on device."),
    ],
)
def test_without_the_compiler_the_search_says_so_once_and_ranks_by_litert(
    how: str, reason: str, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if how == "no .NET":
        monkeypatch.setenv("DOTNET_ROOT", str(home))
    elif how == "a full disk":
        false_nncase(home / "packages", "raise OSError(28, 'No space left on device')", monkeypatch)
    else:
        false_nncase(home / "packages", "import os; os.abort()", monkeypatch)
    done = tune(home, *SEARCH, "--data", small_digits(home / "digits.npz"))
    assert done.stderr.count("Not measured for nncase: ") == 1
    if how != "no .NET" or importlib.util.find_spec("nncase"):
        assert f"Not measured for nncase: {reason}" in done.stderr
    for row in board(home):
        assert "target" not in row["builds"]
        assert row["accuracy"]["validation"]["target"] == row["accuracy"]["validation"]["int8"]
        if row["status"] == "ok":
            assert bool(row["unmeasured"]) == (how == "a compiler that dies")
    assert "KPU %" not in done.stdout
    assert not list((home / "runs" / "kpu").glob("slot-*.tmp"))
    if how == "a full disk":
        again = tune(home, "resume", "kpu")
        assert again.stderr.count(f"Not measured for nncase: {reason}") == 1, "it is asked again"


def test_a_compiler_that_refuses_a_net_is_a_reason_and_ends_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from tuner.errors import TuneError
    from tuner.runtimes import nncase

    def refuses(*_: object) -> None:
        raise TuneError("nncase cannot compile the model: Unsupported operator.")

    monkeypatch.setattr(nncase, "recipe", lambda images: "uint8")
    monkeypatch.setattr(nncase, "compile_model", refuses)
    request = SearchRequest(targets=("k230",), data="sample:digits", max_candidates=1)
    spec = prepare_run(request).spec()
    for precision in PRECISIONS:
        (home / f"{precision}.tflite").write_bytes(b"model")
    (home / finalists.CAMERA).write_bytes(b"model")
    builds = {precision: {"artifact": f"{precision}.tflite"} for precision in PRECISIONS}
    from tuner.testing.specs import small_candidate

    given = finalists.measure_builds(
        to_plain(spec), home, to_plain(small_candidate(outputs=10)), builds, ["k230"], None, None
    )
    assert given == {
        "measured": {},
        "builds": {},
        "prevented": [],
        "unmeasured": {
            "k230": "Not measured for nncase: nncase cannot compile the model: Unsupported "
            "operator."
        },
    }
