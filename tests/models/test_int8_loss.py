"""What int8 costs a model: how it was made, what is told of it, and when a user is warned."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from pathlib import Path

import pytest

from tuner.cost.lower import lower
from tuner.exporters import Check
from tuner.models.int8_loss import export_warnings, int8_warning, noisiest_layers
from tuner.spec import ModelVersion, Paired, to_plain
from tuner.store.files import write_json
from tuner.store.models import ModelFolder
from tuner.testing.models import trained
from tuner.testing.specs import small_candidate
from tuner.train.recipes import RECIPES
from walk_support import small_digits, tune


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ModelFolder]:
    home = tmp_path_factory.mktemp("int8")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        data = str(small_digits(home / "digits.npz"))
        yield trained(
            small_candidate(outputs=3), data, "digit", target="raspberry-pi-4", epochs=6, threads=1
        )


def with_pairs(version: ModelVersion, images: int, lost: int, gained: int) -> ModelVersion:
    beside = {"test": Paired(images=images, lost=lost, gained=gained)}
    build = dataclasses.replace(version.builds["int8"], beside_float32=beside)
    return dataclasses.replace(version, builds={**version.builds, "int8": build})


def test_a_model_says_how_its_int8_was_made_and_what_it_lost(folder: ModelFolder):
    version = folder.read()
    float32, int8 = version.builds["float32"], version.builds["int8"]
    words = int8.recipe.split(" over ")
    assert words[0] in {recipe.words for recipe in RECIPES}
    # Of 300 images as many calibrate and choose as 200 and 400 would of enough.
    assert words[1] == "100 training images; the best of 8 recipes on 200 others"
    assert not float32.recipe
    assert not float32.snr_db
    assert not float32.beside_float32
    operators = lower(version.template.architecture).operators
    assert len(int8.snr_db) == len(operators)
    assert all(15.0 < ratio < 100.0 for ratio in int8.snr_db)
    assert set(int8.beside_float32) == {"validation", "test"}
    for split, beside in int8.beside_float32.items():
        assert beside.images == float32.accuracy[split].total
        fewer = float32.accuracy[split].correct - int8.accuracy[split].correct
        assert beside.lost - beside.gained == fewer
    assert int8_warning(version) == ""


@pytest.mark.parametrize(
    ("images", "lost", "gained", "told"),
    [
        (1000, 30, 4, True),
        (1000, 20, 0, False),  # 2 points are not more than 2
        (1000, 21, 0, True),
        (100, 9, 4, False),  # 5 points, but of 13 images that differ
        (100, 10, 0, True),
    ],
)
def test_a_large_drop_beyond_chance_is_told(
    folder: ModelFolder, images: int, lost: int, gained: int, told: bool
):
    warning = int8_warning(with_pairs(folder.read(), images, lost, gained))
    assert bool(warning) == told
    if told:
        points = 100 * (lost - gained) / images
        assert f"int8 loses {points:.1f} points of accuracy to float32 on the {images}" in warning
        assert "'stem' (" in warning
        assert "What may help: retrain with --quantization-percent 30, or export" in warning
        assert "\n" not in warning


def test_what_helps_is_what_the_version_has_not_had(folder: ModelFolder):
    version = with_pairs(folder.read(), 1000, 60, 0)
    assert version.retraining is not None
    asked = dataclasses.replace(version.retraining, quantization_share=0.3)
    aware = dataclasses.replace(version, retraining=asked)
    assert "float32 on the 1000 test images" in int8_warning(aware)
    assert "--quantization-percent" not in int8_warning(aware)
    assert "What may help: export with --to tflite_int16x8" in int8_warning(aware)
    settings = dataclasses.replace(version.template.training, weights="w", frozen_share=1.0)
    template = dataclasses.replace(version.template, training=settings)
    frozen = int8_warning(dataclasses.replace(version, template=template))
    assert "--quantization-percent" not in frozen
    assert "What may help: lower frozen_share in the template" in frozen


@pytest.mark.parametrize(("lost", "told"), [(16, True), (8, False), (None, False)])
def test_an_exported_file_that_lost_much_is_told_of(
    folder: ModelFolder, lost: int | None, told: bool, tmp_path: Path
):
    """As a device's compiler quantized it; 8 of 400 images are 2 %."""
    beside = None if lost is None else Paired(images=400, lost=lost, gained=0)
    check = Check(
        file="k230/digit.kmodel", format="k230", precision="int8", size_bytes=1, split="test",
        images=400, correct=300, expected_correct=316, agreement=0.9, max_difference=1.0,
        passed=True, beside_float32=beside,
    )  # fmt: skip
    write_json(tmp_path / "export_report.json", {"artifacts": [to_plain(check)]})
    warnings = list(export_warnings(folder.read(), tmp_path))
    assert bool(warnings) == told
    if told:
        (warning,) = warnings
        start = "k230/digit.kmodel loses 4.0 points of accuracy to float32 on the 400 test images"
        assert warning.startswith(start)
        assert "or export with --to k230_int16 (more RAM and time), or" in warning


def test_the_noisiest_layers_are_those_that_add_most(folder: ModelFolder):
    version = folder.read()
    architecture = version.template.architecture
    assert [item.name for item in lower(architecture).operators] == ["stem", "pool", "logits"]
    build = dataclasses.replace(version.builds["int8"], snr_db=(40.0, 41.0, 20.0))
    assert noisiest_layers(architecture, build) == [("logits", 20.0), ("stem", 40.0)]
    assert noisiest_layers(architecture, dataclasses.replace(build, snr_db=())) == ()
    exact = dataclasses.replace(build, snr_db=(100.0, 10.0, 10.0))
    first, *_ = noisiest_layers(architecture, exact)
    assert first == ("pool", 10.0)


def test_versions_of_before_are_read_and_not_warned_of(folder: ModelFolder):
    plain = to_plain(folder.read())
    for name in ("snr_db", "beside_float32"):
        del plain["builds"]["int8"][name]
    other = ModelFolder(folder.path.with_name("2"))
    other.path.mkdir()
    write_json(other.path / "model.json", plain)
    assert int8_warning(other.read()) == ""


def test_the_export_of_a_model_that_lost_much_says_so(folder: ModelFolder, tmp_path: Path):
    home = folder.path.parents[2]
    version = folder.read()
    quiet = tune(home, "export", "digit@1", "--to", "tflite", "-o", tmp_path / "quiet")
    assert "Warning" not in quiet.stderr
    write_json(folder.path / "model.json", to_plain(with_pairs(version, 1000, 60, 0)))
    told = tune(home, "export", "digit@1", "--to", "tflite", "-o", tmp_path / "told")
    assert "Warning: int8 loses 6.0 points" in told.stderr
    write_json(folder.path / "model.json", to_plain(version))
