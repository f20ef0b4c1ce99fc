"""Retraining whose last part is quantization-aware: builds, weights, failures, interruptions."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from tuner.data import open_dataset
from tuner.errors import DivergedError, InputError, TuneError
from tuner.models.retrain import retrain
from tuner.models.training import parts_of
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import Retraining, Template
from tuner.store.files import cache_folder, read_json
from tuner.store.models import (
    CHECKPOINT,
    FLOAT_PART,
    FLOAT_WEIGHTS,
    PACE,
    QUANTIZED,
    ModelFolder,
    find_model,
    models_folder,
)
from tuner.store.templates import write_template
from tuner.testing.models import template_of
from tuner.testing.specs import small_candidate
from tuner.train.build import load_keras, run_keras
from tuner.train.convert import convert_tflite
from tuner.train.quantization_aware import is_of_the_net
from walk_support import small_digits, tune


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with the template `digit`, and a version: 12 epochs, 4 quantization-aware."""
    home = tmp_path_factory.mktemp("quantized")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        small_digits(home / "digits.npz")
        write_template(home / "digit.toml", template(home), "")
        retrain(template(home), epochs=12, quantization_percent=30)
        yield home


def template(home: Path) -> Template:
    """A small net on the digits."""
    candidate = small_candidate(side=8, outputs=3)
    plain = template_of(candidate, str(home / "digits.npz"), "digit", target="raspberry-pi-4")
    settings = dataclasses.replace(plain.training, batch_size=32, learning_rate=0.02)
    return dataclasses.replace(plain, seed=1, training=settings)


def held_out(folder: ModelFolder) -> tuple[np.ndarray, np.ndarray]:
    """Scaled validation images and their labels."""
    made = folder.read().template
    dataset = open_dataset(made.data, split_seed=0, cache=cache_folder())
    images, labels = dataset.arrays(made.preprocessing, "validation", cache_folder())
    return (images.astype(np.float32) - 128.0) / 128.0, labels


def test_all_builds_have_the_weights_of_the_quantization_aware_part(place: Path) -> None:
    folder = find_model("digit@1")
    version = folder.read()
    assert version.epochs == len(version.curve) == 12
    assert version.quantization is not None
    assert version.quantization.epochs == 4
    assert 0 < version.quantization.train_seconds < version.train_seconds
    assert version.builds["int8"].recipe == "quantization-aware, 4 epochs"
    assert not (folder.path / "quantized").exists()
    left = {FLOAT_PART, FLOAT_WEIGHTS, PACE, CHECKPOINT}
    assert not left & {path.name for path in folder.path.iterdir()}
    model = load_keras(folder.path / "model.keras")
    content = (folder.path / "float32.tflite").read_bytes()
    assert content == convert_tflite(model, "float32")
    images, labels = held_out(folder)
    logits = run_tflite((folder.path / "int8.tflite").read_bytes(), "int8", images, "xnnpack")
    right = float((logits.argmax(axis=-1) == labels).mean())
    assert right == pytest.approx(version.builds["int8"].accuracy["validation"].value)
    assert right == pytest.approx(version.curve[version.best_epoch - 1], abs=0.011)
    agreed = run_keras(model, images).argmax(axis=-1) == logits.argmax(axis=-1)
    assert agreed.mean() >= 0.97


def test_the_log_tells_which_epochs_were_rounded(place: Path) -> None:
    shown = tune(place, "logs", "digit@1").stdout.splitlines()
    ways = [line.rpartition("%, ")[2] for line in shown if line.lstrip().startswith("epoch ")]
    assert ways[:12] == ["float32"] * 8 + ["rounded as int8 rounds"] * 4


def test_the_int8_file_is_as_large_as_without(place: Path) -> None:
    quantized = find_model("digit@1").read().builds["int8"].size_bytes
    plain = retrain(template(place), epochs=2, quantization_percent=0, name="plain").read()
    assert plain.builds["int8"].size_bytes == quantized
    assert plain.quantization is None


def test_all_of_a_training_can_be_quantization_aware(place: Path) -> None:
    version = retrain(template(place), epochs=6, quantization_percent=100, name="all").read()
    assert version.epochs == version.quantization.epochs == 6
    assert version.train_seconds == version.quantization.train_seconds
    assert version.builds["int8"].recipe == "quantization-aware, 6 epochs"


def test_one_thread_repeats_exactly(place: Path) -> None:
    made = [
        retrain(template(place), epochs=4, threads=1, name=name).path for name in ("once", "again")
    ]
    for file in ("int8.tflite", "float32.tflite"):
        assert (made[0] / file).read_bytes() == (made[1] / file).read_bytes()


def test_a_failure_leaves_the_float32_training_which_goes_on(
    place: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    broken = place / "broken" / "tensorflow_model_optimization"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no tfmot here')\n")
    monkeypatch.syspath_prepend(str(broken.parent))
    notes: list[str] = []
    made = retrain(
        template(place), epochs=10, quantization_percent=50, name="failed", on_note=notes.append
    )
    version = made.read()
    assert version.epochs == len(version.curve) == 10
    assert version.quantization is None
    assert "the best of" in version.builds["int8"].recipe
    assert max(version.curve) > 0.8
    (note,) = [note for note in notes if "Quantization-aware training failed: no tfmot" in note]
    assert ". The rest is trained in float32. See the logs in " in note
    logs = Path(note.rpartition("See the logs in ")[2].removesuffix("."))
    assert any("ImportError: no tfmot here" in path.read_text() for path in logs.glob("*.log"))


def test_too_few_epochs_for_a_part_of_them_are_told(place: Path) -> None:
    notes: list[str] = []
    made = retrain(template(place), epochs=1, name="short", on_note=notes.append)
    assert made.read().quantization is None
    wanted = "Epochs planned: 1, too few for a quantization-aware part of 30%"
    assert [note for note in notes if wanted in note]


def behind(error: Exception, cause: Exception) -> Exception:
    """An error that was raised while another was handled."""
    error.__context__ = cause
    return error


@pytest.mark.parametrize(
    ("error", "of_the_net"),
    [
        (ImportError("no tfmot"), True),
        (ValueError("Layer n3 is not supported."), True),
        (LookupError("No gradient defined for operation 'n3'"), True),
        (NotImplementedError("n3"), True),
        (DivergedError("The loss became infinite in the first epoch."), True),
        (OSError(errno.ENOSPC, "No space left on device"), False),
        (behind(ValueError("Can't close the ZIP file"), OSError(errno.ENOSPC, "full")), False),
        (MemoryError(), False),
        (tf.errors.ResourceExhaustedError(None, None, "out of memory"), False),
        (TuneError("Expected the checkpoint of this training. It cannot be read."), False),
    ],
)
def test_only_what_a_net_cannot_do_ends_quantization_aware_training(
    error: Exception, of_the_net: bool
) -> None:
    assert is_of_the_net(error) == of_the_net


def test_a_killed_training_does_not_repeat_its_float32_part(place: Path) -> None:
    command = [sys.executable, "-m", "tuner", "retrain", "digit.toml", "--name", "killed",
               "--minutes", "0.2", "--quantization-percent", "70"]  # fmt: skip
    options = {"cwd": place, "env": {**os.environ, "TUNE_HOME": str(place)}, "text": True}
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, **options)
    while not list(models_folder().glob(f"killed/.new-*/{FLOAT_PART}")):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.communicate()
    [kept] = models_folder().glob(f"killed/.new-*/{FLOAT_PART}")
    before = kept.read_bytes()
    done = subprocess.run(command, capture_output=True, check=True, **options)
    assert "Going on after the float32 part of a training" in done.stderr
    assert "quantization-aware" in done.stdout
    version = find_model("killed").read()
    seconds = version.train_seconds - version.quantization.train_seconds
    assert json.loads(before)["train_seconds"] == pytest.approx(seconds, abs=0.01)


OFTEN = """
import tuner.train.loop
tuner.train.loop.CHECKPOINT_SECONDS = 1.5
"""
"""Run as Python starts: checkpoints of a training that is short."""


def trained_seconds(folder: Path) -> float:
    """Of a version that is being made, how much of its training would be gone on from."""
    before = (
        read_json(folder / FLOAT_PART)["train_seconds"] if (folder / FLOAT_PART).exists() else 0
    )
    for checkpoint in (folder / QUANTIZED / CHECKPOINT, folder / CHECKPOINT):
        if checkpoint.exists():
            with np.load(checkpoint) as arrays:
                return before + json.loads(str(arrays["state"]))["seconds"]
    return before


@pytest.mark.slow
@pytest.mark.timeout(1200)
def test_killed_in_both_parts_it_ends_as_if_it_never_was(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    versions = {path: path.read_bytes() for path in models_folder().glob("*/[0-9]*/*")}
    paced = retrain(template(place), minutes=0.3, quantization_percent=70, name="paced").read()
    # The pauses below are 32 s in all; the pace above may be that of a machine that was busy.
    epochs = round(80.0 * paced.epochs / paced.train_seconds)
    (tmp_path / "sitecustomize.py").write_text(OFTEN)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    command = [sys.executable, "-m", "tuner", "retrain", "digit.toml", "--epochs", str(epochs),
               "--threads", "1", "--quantization-percent", "70", "--patience-percent", "100",
               "--name"]  # fmt: skip
    generator = random.Random(0)
    lost: list[float] = []
    aware: list[bool] = []
    kept = 0.0
    while len(lost) < 10:
        for progress in models_folder().glob("often/.new-*/progress.json"):
            progress.unlink()  # of the one that was killed
        process = subprocess.Popen(
            [*command, "often"], cwd=place, text=True, stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )  # fmt: skip
        while not list(models_folder().glob("often/.new-*/progress.json")):
            assert process.poll() is None, process.communicate()
            time.sleep(0.05)
        (folder,) = (path for path in models_folder().glob("often/.new-*") if path.is_dir())
        time.sleep(generator.uniform(0.0, 6.0))
        assert process.poll() is None, "the training must be longer"
        process.kill()
        process.communicate()
        before, kept = kept, trained_seconds(folder)
        assert kept >= before
        if (folder / "progress.json").exists():  # else it was between its parts
            told = read_json(folder / "progress.json")
            lost.append(max(0.0, told["seconds"] - kept))
            aware.append(told.get("quantization_aware", False))
    print(f"lost by each kill, seconds: {[round(seconds, 1) for seconds in lost]}, {aware}")
    assert max(lost) <= 1.5 + 2.0, "an interval, and the epoch that was going on"
    assert set(aware) == {True, False}, "killed in both parts"
    for name in ("often", "unbroken"):
        subprocess.run([*command, name], cwd=place, capture_output=True, check=True)
    broken, unbroken = find_model("often@1"), find_model("unbroken@1")
    assert broken.read().curve == unbroken.read().curve
    assert broken.read().quantization.epochs == unbroken.read().quantization.epochs
    for file in ("int8.tflite", "float32.tflite"):
        assert (broken.path / file).read_bytes() == (unbroken.path / file).read_bytes()
    assert {path: path.read_bytes() for path in versions} == versions


@pytest.mark.parametrize("percent", [-1, 101])
def test_a_percentage_is_from_0_to_100(place: Path, percent: float) -> None:
    message = rf"from 0 to 100 for --quantization-percent\. Received: {percent}\."
    with pytest.raises(InputError, match=message):
        retrain(template(place), quantization_percent=percent)


@pytest.mark.parametrize(
    ("epochs", "share", "expected"),
    [(10, 0.0, (10, None)), (10, 0.3, (7, 3)), (1, 0.3, (1, None)), (2, 0.9, (1, 1)),
     (5, 0.3, (3, 2)), (100_002, 0.3, (70_001, 30_001)), (10, 1.0, (None, 10))],
)  # fmt: skip
def test_the_epochs_are_divided(epochs: int, share: float, expected: tuple) -> None:
    whole = Retraining(epochs=epochs, threads=1, quantization_share=share)
    first, second = parts_of(whole)
    assert tuple(part and part.epochs for part in (first, second)) == expected
    if first and second:
        assert second.span == (first.span[1], 1.0)
        assert first.span[0] == 0.0
        assert round(first.epochs / first.span[1]) == epochs  # which its progress shows
        assert (first.seconds, second.seconds) == (None, None)


def test_the_minutes_are_divided() -> None:
    whole = Retraining(epochs=1, threads=1, seconds=100.0, quantization_share=0.25)
    first, second = parts_of(whole)
    assert (first.seconds, second.seconds) == (75.0, 25.0)
    assert (first.epochs, second.epochs) == (1, 1)
