"""Retraining by epochs, by time, from an earlier version, and what an interruption leaves."""

from __future__ import annotations

import dataclasses
import functools
import json
import os
import random
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

from pictures_support import fill
from tuner.data import open_dataset
from tuner.engine.search import with_limits
from tuner.errors import InputError, TuneError
from tuner.models import retrain as retraining
from tuner.spec import Dense, Limits, Retraining, Template
from tuner.store.files import cache_folder
from tuner.store.models import CHECKPOINT, ModelFolder, find_model, models_folder
from tuner.store.templates import write_template
from tuner.store.work import retraining_log
from tuner.testing.models import template_of
from tuner.testing.specs import small_candidate
from tuner.train.build import build_keras, load_keras
from tuner.train.checkpoint import read_checkpoint
from tuner.train.flat import FlatVariables
from tuner.train.loop import CHECKPOINT_SECONDS
from walk_support import tune

retrain = functools.partial(retraining.retrain, quantization_percent=0.0)
"""What is quantization-aware is tested in test_retraining_quantized.py."""


@pytest.fixture(scope="module")
def place(digits_home: Path) -> Path:
    """A home with the template `digit`, and its first version."""
    write_template(digits_home / "digit.toml", template(digits_home), "")
    retrain(template(digits_home), epochs=12, threads=1)
    return digits_home


def template(home: Path, **changes: object) -> Template:
    """A small net on the digits, at a rate at which its accuracy goes up and down."""
    candidate = small_candidate(side=8, outputs=3)
    data = str(home / "digits.npz")
    plain = template_of(candidate, data, "digit", target="raspberry-pi-4")
    settings = dataclasses.replace(
        plain.training, batch_size=32, learning_rate=0.05, schedule="constant"
    )
    plain = dataclasses.replace(plain, seed=2, training=settings)
    return dataclasses.replace(plain, **changes)


def accuracy(folder: ModelFolder) -> float:
    """Of the Keras file, on the validation images."""
    dataset = open_dataset(folder.read().template.data, split_seed=0, cache=cache_folder())
    preprocessing = folder.read().template.preprocessing
    images, labels = dataset.arrays(preprocessing, "validation", cache_folder())
    pixels = (images.astype(np.float32) - 128.0) / 128.0
    logits = load_keras(folder.path / "model.keras").predict(pixels, verbose=0)
    return float((logits.argmax(axis=-1) == labels).mean())


def evaluated(folder: ModelFolder, precision: str) -> tuple[float, float]:
    """Accuracy and mean cross-entropy of a TFLite file on the validation images."""
    from ai_edge_litert.interpreter import Interpreter

    dataset = open_dataset(folder.read().template.data, split_seed=0, cache=cache_folder())
    images, labels = dataset.arrays(
        folder.read().template.preprocessing, "validation", cache_folder()
    )
    interpreter = Interpreter(str(folder.path / f"{precision}.tflite"))
    interpreter.allocate_tensors()
    (source,), (sink,) = interpreter.get_input_details(), interpreter.get_output_details()
    rows = []
    for image in images:
        pixels = image.astype(np.int16) - 128
        given = pixels.astype(np.int8) if precision == "int8" else pixels / np.float32(128)
        interpreter.set_tensor(source["index"], given[None])
        interpreter.invoke()
        rows.append(interpreter.get_tensor(sink["index"])[0].astype(np.float64))
    logits = np.array(rows)
    if precision == "int8":
        scale, zero = sink["quantization"]
        logits = (logits - zero) * scale
    shares = np.exp(logits) / np.exp(logits).sum(axis=-1, keepdims=True)
    right = logits.argmax(axis=-1) == labels
    return float(right.mean()), float(-np.log(shares[np.arange(len(labels)), labels]).mean())


def test_the_best_and_the_last_differ_and_are_what_their_files_do(place: Path):
    best = find_model("digit@1")
    last = retrain(template(place), epochs=12, threads=1, keep="last")
    mine, other = best.read(), last.read()
    assert mine.retraining.keep == "best"
    assert other.retraining.keep == "last"
    assert other.curve == mine.curve
    assert other.scored == mine.scored
    assert other.best_epoch == mine.best_epoch < 12
    scored = {item.epoch: item for item in mine.scored}
    assert len(scored) == 4, "three contenders and the last"
    assert scored[mine.best_epoch].accuracy["int8"] > scored[12].accuracy["int8"]
    assert scored[mine.best_epoch].accuracy["int8"] == max(
        item.accuracy["int8"] for item in mine.scored
    )
    for folder, epoch in ((best, mine.best_epoch), (last, 12)):
        assert accuracy(folder) == pytest.approx(mine.curve[epoch - 1], abs=1e-4)
        for precision in ("float32", "int8"):
            share, loss = evaluated(folder, precision)
            assert share == pytest.approx(scored[epoch].accuracy[precision], abs=1e-4)
            assert loss == pytest.approx(scored[epoch].loss[precision], rel=1e-3)
            build = folder.read().builds[precision]
            assert build.accuracy["validation"].value == pytest.approx(share, abs=1e-4)


def test_the_best_by_loss(place: Path):
    by_loss = retrain(template(place), epochs=12, threads=1, metric="loss")
    version = by_loss.read()
    losses = {item.epoch: item.loss["int8"] for item in version.scored}
    assert losses[version.best_epoch] == min(losses.values())
    assert evaluated(by_loss, "int8")[1] == pytest.approx(min(losses.values()), rel=1e-3)
    curve = version.validation_loss_curve
    assert min(curve) in [curve[epoch - 1] for epoch in losses]


def test_settings_by_hand_are_those_of_an_edited_template(place: Path):
    given = {"learning_rate": 0.004, "batch_size": 16, "schedule": "linear"}
    version = retrain(template(place), epochs=3, threads=1, **given).read()
    edited = dataclasses.replace(template(place).training, epochs=3, **given)
    assert version.template.training == edited
    same = retrain(template(place, training=edited), threads=1).read()
    assert same.curve == version.curve
    assert same.loss_curve == version.loss_curve


def test_a_training_whose_loss_is_steady_ends(place: Path):
    version = retrain(template(place), epochs=500, steady_epochs=30, learning_rate=1e-6).read()
    assert version.epochs == 30
    assert max(version.loss_curve) - min(version.loss_curve) < 0.05


def test_a_training_by_minutes_has_as_many_epochs_as_fit(place: Path):
    version = retrain(template(place), minutes=0.1).read()
    assert version.epochs > version.template.training.epochs
    assert version.retraining.seconds == pytest.approx(6.0)


def test_patience_ends_what_gets_no_better(place: Path):
    changed = template(place, training=dataclasses.replace(
        template(place).training, schedule="linear"))  # fmt: skip
    version = retrain(changed, epochs=2000, patience_percent=1).read()
    gained = version.curve.index(max(version.curve)) + 1
    assert version.epochs == gained + 20 < 2000


def test_a_version_is_trained_on(place: Path):
    parent = find_model("digit@1").read()
    version = retrain(continued="digit@1", epochs=1).read()
    assert version.parent == "digit@1"
    assert version.version > parent.version
    assert version.template.architecture == parent.template.architecture
    assert parent.curve[0] + 0.1 < max(parent.curve) - 0.15 < version.curve[0]
    assert find_model("digit@1").read() == parent


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"epochs": 3, "minutes": 1.0}, r"--epochs or --minutes\. Received: both"),
        ({"template": None}, r"a template, or --continue MODEL@VERSION\. Received: neither"),
        ({"continued": "digit@99"}, "version of digit"),
        ({"learning_rate": -1.0}, r"learning_rate above 0\. Received: learning_rate=-1"),
    ],
)
def test_options_that_cannot_be_followed(place: Path, options, message):
    with pytest.raises(InputError, match=message):
        retrain(**{"template": template(place), **options})


def test_other_layers_or_classes_are_not_trained_on(place: Path):
    other = small_candidate(filters=12, side=8, outputs=3).architecture
    with pytest.raises(InputError, match=r"layers of digit@1 in the template.*They differ"):
        retrain(template(place, architecture=other), continued="digit@1")
    with np.load(place / "digits.npz") as arrays:
        renamed = {**arrays, "classes": np.array(["a", "b", "c"])}
    np.savez(place / "renamed.npz", **renamed)
    with pytest.raises(InputError, match=r"classes of digit@1: zero, one, two\. Received: a, b, c"):
        retrain(continued="digit@1", data=str(place / "renamed.npz"))


def start(home: Path, *options: str) -> subprocess.Popen[str]:
    """`tune retrain` of the template, as a user starts it."""
    return subprocess.Popen(
        [sys.executable, "-m", "tuner", "retrain", "digit.toml", "--threads", "1",
         "--quantization-percent", "0", *options],
        cwd=home, env={**os.environ, "TUNE_HOME": str(home)}, text=True,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True,
        # Under nohup it would be ignored.
        preexec_fn=lambda: signal.signal(signal.SIGHUP, signal.SIG_DFL),
    )  # fmt: skip


def wait_for(pattern: str, process: subprocess.Popen[str]) -> None:
    """Until a file of that pattern is in the models' folder."""
    while not list(models_folder().glob(pattern)):
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)


@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM", "SIGHUP"])
def test_an_interrupted_training_keeps_the_best_so_far(place: Path, name: str):
    process = start(place, "--epochs", "100000", "--name", name)
    wait_for(f"{name}/.new-*/progress.json", process)
    # As a terminal and a service's manager do, to the workers too.
    os.killpg(process.pid, signal.Signals[name])
    out, err = process.communicate(timeout=60)
    assert process.returncode == 0, err
    assert "Stopping after this epoch" in err
    assert f"{name}@1" in out
    version = find_model(name).read()
    assert version.stopped
    assert version.epochs < 100_000
    kept = version.curve[version.best_epoch - 1]
    assert accuracy(find_model(name)) == pytest.approx(kept, abs=1e-4)
    assert not list(models_folder().glob(f"{name}/.new-*"))


def test_a_retraining_in_the_background_is_followed_to_its_end(place: Path):
    options = ("--epochs", 100_000, "--threads", 1, "--name", "long", "--background")
    assert "tune attach long" in tune(place, "retrain", "digit.toml", *options).stdout
    try:
        (row,) = json.loads(tune(place, "ps", "--format", "json").stdout)
        log = retraining_log("long", row["pid"])
        for _ in range(600):
            if "\nepoch " in log.read_text():
                break
            time.sleep(0.1)
        going = tune(place, "logs", "long").stdout
    finally:
        stopped = tune(place, "stop", "long").stdout
    assert (row["kind"], row["name"]) == ("retraining", "long")
    assert re.search(r"epoch +\d+ of 100000  loss", going)
    assert "long has stopped. Next: tune models" in stopped
    lines = log.read_text().splitlines()
    shown = [line for line in lines if line.startswith("epoch ")]
    assert re.match(r"epoch \d+/100000  loss \d.\d{3}  validation [\d.]+ % \(best ", shown[0])
    assert max(map(len, lines)) <= 80
    version = find_model("long").read()
    told = rf"^  epoch {version.best_epoch}, the best[^:]*:[^:]*,\s+kept$"
    assert re.search(told, log.read_text(), re.MULTILINE)
    ended = tune(place, "logs", "long@1", "--lines", 12).stdout
    assert f"the last 12 of {version.epochs} lines" in ended
    assert f"validation {100 * version.curve[-1]:.1f} %, float32" in ended
    assert shown[-1] in ended


def test_two_retrainings_of_a_model_in_the_background_have_logs_of_their_own(place: Path):
    for epochs in (100_000, 200_000):
        options = ("--epochs", epochs, "--threads", 1, "--name", "twins", "--background")
        assert "tune attach twins" in tune(place, "retrain", "digit.toml", *options).stdout
    try:
        rows = json.loads(tune(place, "ps", "--format", "json").stdout)
        logs = [retraining_log("twins", row["pid"]) for row in rows]
        assert len(set(logs)) == 2
        for log in logs:
            for _ in range(600):
                if "\nepoch " in log.read_text():
                    break
                time.sleep(0.1)
    finally:
        tune(place, "stop", "twins")
    told = [set(re.findall(r"[12]00000\b", log.read_text())) for log in logs]
    assert sorted(told, key=min) == [{"100000"}, {"200000"}]


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_killed_retrainings_go_on_and_harm_no_version(place: Path):
    before = {path: path.read_bytes() for path in models_folder().glob("digit/[0-9]*/*")}
    # No patience: the net is soon as good as it gets. The pauses below are 160 s in all, and each
    # start adds an epoch, on a busy machine of seconds.
    options = ("--minutes", "5", "--patience-percent", "100", "--name", "killed")
    generator = random.Random(0)
    trained = 0.0
    lost: list[float] = []
    for _ in range(10):
        for progress in models_folder().glob("killed/.new-*/progress.json"):
            progress.unlink()  # of the one that was killed
        process = start(place, *options)
        wait_for("killed/.new-*/progress.json", process)
        time.sleep(generator.uniform(0.0, 30.0))
        assert process.poll() is None, "the training must be longer"
        process.kill()
        _, err = process.communicate()
        assert ("Going on from the checkpoint" in err) == (trained > 0.0)
        for checkpoint in models_folder().glob(f"killed/.new-*/{CHECKPOINT}"):
            with np.load(checkpoint) as arrays:
                state = json.loads(str(arrays["state"]))
            assert state["seconds"] >= trained
            trained = state["seconds"]
        (progress,) = models_folder().glob("killed/.new-*/progress.json")
        lost.append(json.loads(progress.read_text())["seconds"] - trained)
    print(f"lost by each kill, seconds: {[round(seconds, 1) for seconds in lost]}")
    assert max(lost) <= CHECKPOINT_SECONDS + 2.0, "an interval, and the epoch that was going on"
    out, err = start(place, *options).communicate()
    assert "killed@1" in out, err
    # Its plan is only cut in the second half: where the machine slows for a while it ends sooner.
    assert find_model("killed").read().train_seconds == pytest.approx(300.0, rel=0.11)
    assert {path: path.read_bytes() for path in before} == before


@pytest.mark.parametrize("content", [b"PK\x03\x04 not a zip", b"", b"text"])
def test_a_damaged_checkpoint_is_named(place: Path, content: bytes):
    candidate = small_candidate()
    variables = FlatVariables(build_keras(candidate.architecture), candidate.training)
    damaged = place / "damaged.npz"
    damaged.write_bytes(content)
    with pytest.raises(TuneError, match=r"Expected the checkpoint.*Delete it to begin anew"):
        read_checkpoint(damaged, variables, None)


def test_another_limit_goes_on_with_what_was_interrupted(place: Path):
    plain = template(place)
    limited_anew = dataclasses.replace(
        plain, target=with_limits(plain.target, Limits(train_minutes=9.0))
    )
    keys = {
        retraining._key(each, "0" * 16, Retraining(epochs=3, threads=1), None)
        for each in (plain, limited_anew, limited(place, 5))
    }
    assert len(keys) == 1


def test_the_units_of_the_last_layer_must_be_the_classes(place: Path):
    plain = template(place)
    *nodes, last = plain.architecture.nodes
    changed = dataclasses.replace(last, op=Dense(units=5))
    architecture = dataclasses.replace(plain.architecture, nodes=(*nodes, changed))
    with pytest.raises(InputError, match=r"has 3 classes, the template's net gives 5"):
        retrain(dataclasses.replace(plain, architecture=architecture))


def limited(home: Path, minutes: float) -> Template:
    """The template for a device whose models must be trained within some minutes."""
    plain = template(home)
    target = dataclasses.replace(
        plain.target,
        limits=dataclasses.replace(plain.target.limits, train_minutes=minutes),
        sources={**plain.target.sources, "limits": "test"},
    )
    return dataclasses.replace(plain, target=target)


def test_what_takes_longer_than_the_limit_is_refused_with_what_fits(place: Path):
    versions = len(list(models_folder().glob("digit/*")))
    with pytest.raises(
        InputError, match=r"takes too long: .* > 0\.1\d* min.*--epochs \d+ or --minutes 0\.1"
    ):
        retrain(limited(place, 0.1), epochs=100_000)
    with pytest.raises(InputError, match=r"at most 0\.1 minutes.*Received: --minutes 2"):
        retrain(limited(place, 0.1), minutes=2)
    assert len(list(models_folder().glob("digit/*"))) == versions


def test_splits_below_the_classes_are_told(digits_home: Path, tmp_path: Path):
    images = {f"{name}/{split}": 5 for name in "abc" for split in ("train", "test")}
    mixed = template(digits_home, name="mixed", data=str(fill(tmp_path / "images", images)))
    told: list[str] = []
    retrain(mixed, epochs=1, threads=1, on_note=told.append)
    (line,) = [line for line in told if line.startswith("Check the data: ")]
    assert "test, train lie below the classes" in line


def test_the_time_is_said_before_and_kept_with_the_version(place: Path):
    notes: list[str] = []
    version = retrain(limited(place, 5), epochs=30, on_note=notes.append).read()
    time_range = r"(under 1|\d+( to \d+)?) s"
    told = rf"About {time_range} \({time_range}\) for 30 epochs\."
    assert any(re.fullmatch(told, note) for note in notes)
    assert version.costs["raspberry-pi-4"].train_minutes.value < 5
