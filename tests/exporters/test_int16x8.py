"""TFLite files with activations of 16 bits: nearer to float32 than int8, or refused."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import get_args

import numpy as np
import pytest

from tuner import catalog
from tuner.data import open_again
from tuner.data.preprocess import scale
from tuner.engine.search import with_limits
from tuner.errors import InputError
from tuner.exporters import tflite_int16x8
from tuner.models.export import export
from tuner.models.int8_loss import int8_warning
from tuner.runtimes.interpreter import run_tflite
from tuner.runtimes.recorder import measure_arena
from tuner.spec import FilePrecision, Limits, ModelVersion, Paired, Target
from tuner.spec.target import LATENCY_TERMS, Calibration
from tuner.store.files import cache_folder
from tuner.store.models import ModelFolder
from tuner.testing.models import small_model


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> ModelFolder:
    return small_model(tmp_path_factory.mktemp("int16x8"))


def on(model: ModelFolder, target: Target) -> ModelVersion:
    """The version as if it had been made for another target."""
    version = model.read()
    return replace(version, template=replace(version.template, target=target))


def test_it_is_nearer_to_the_float32_model_than_int8(model: ModelFolder, tmp_path: Path) -> None:
    folder = export(model, ["tflite", "tflite_int16x8"], tmp_path / "out")
    report = json.loads((folder / "export_report.json").read_text())
    rows = {row["precision"]: row for row in report["artifacts"]}
    assert report["passed"]
    assert rows["int16x8"]["file"] == "digits_int16x8.tflite"
    assert rows["int16x8"]["agreement"] >= 0.99

    version = model.read()
    pixels = version.template.preprocessing
    images, _ = open_again(version.dataset).arrays(pixels, "test", cache_folder())
    scaled = scale(images[:200], pixels.scaling)
    logits = {
        precision: run_tflite(
            (folder / rows[precision]["file"]).read_bytes(), precision, scaled, "builtin"
        )
        for precision in get_args(FilePrecision)
    }
    errors = {key: np.abs(found - logits["float32"]).mean() for key, found in logits.items()}
    assert errors["int16x8"] < 0.9 * errors["int8"]


def test_the_interpreter_of_microcontrollers_runs_it(model: ModelFolder, tmp_path: Path) -> None:
    pytest.importorskip("tflite_micro")
    folder = export(model, ["tflite", "tflite_int16x8"], tmp_path / "out")
    int8, wide = (
        measure_arena((folder / f"digits_{name}.tflite").read_bytes())[0]
        for name in ("int8", "int16x8")
    )
    assert 1.5 * int8 < wide <= 2.1 * int8


def test_a_runtime_without_such_kernels_is_named(model: ModelFolder, tmp_path: Path) -> None:
    version = on(model, catalog.load_target("k230"))
    with pytest.raises(InputError, match=r"kernels for activations of 16 bits.*k230.*nncase"):
        tflite_int16x8.export(model.path, version, tmp_path)


def test_what_no_longer_fits_is_refused(model: ModelFolder, tmp_path: Path) -> None:
    version = model.read()
    target = version.template.target
    fits = version.costs[target.name].ram_bytes.high
    assert fits is not None
    tight = on(model, with_limits(target, Limits(ram_bytes=int(fits))))
    with pytest.raises(InputError, match=r"does not fit nano33ble: RAM .* too much.*as int8"):
        tflite_int16x8.export(model.path, tight, tmp_path)
    assert not list(tmp_path.iterdir())


def test_ram_that_was_measured_on_the_board_counts(model: ModelFolder, tmp_path: Path) -> None:
    target = model.read().template.target
    most = target.model_limits.ram_bytes
    assert most is not None
    measured = Calibration(
        cycles=dict.fromkeys(LATENCY_TERMS, 1.0),
        covariance=tuple((0.0,) * row + (0.01,) for row in range(len(LATENCY_TERMS))),
        variance=0.01,
        macs=(1.0, 1e9),
        depth=(1.0, 1e9),
        kinds=("CONV_2D",),
        basis="test",
        ram_extra_bytes=most,
    )
    calibrated = on(model, replace(target, calibration=measured))
    with pytest.raises(InputError, match=r"does not fit nano33ble: RAM .* too much"):
        tflite_int16x8.export(model.path, calibrated, tmp_path)


def test_a_large_loss_of_int8_points_to_it_where_it_can_run(model: ModelFolder) -> None:
    def lossy(version: ModelVersion) -> ModelVersion:
        beside = {"test": Paired(images=1000, gained=10, lost=200)}
        int8 = replace(version.builds["int8"], beside_float32=beside)
        return replace(version, builds={**version.builds, "int8": int8})

    assert "--to tflite_int16x8" in int8_warning(lossy(model.read()))
    elsewhere = on(model, catalog.load_target("k230"))
    assert "int16x8" not in int8_warning(lossy(elsewhere))
