"""Retraining on a full disk, from a damaged checkpoint, with other data: a line, nothing lost."""

from __future__ import annotations

import errno
import functools
import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from tuner.errors import TuneError
from tuner.models import retrain as retrain_module
from tuner.models.publish import get, publish
from tuner.store import models
from tuner.store.models import (
    CHECKPOINT,
    QUANTIZED,
    find_model,
    models_folder,
    new_version,
    write_version,
)
from tuner.store.templates import write_template
from tuner.store.work import going_on
from tuner.testing.models import template_of, trained
from tuner.testing.specs import small_candidate
from walk_support import tune

FULL_DISK = """
import errno, os
real = os.fsync
def fsync(descriptor):
    name = os.readlink(f"/proc/self/fd/{descriptor}")
    if "/models/" in name and os.environ["FULL_FOR"] in name:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    real(descriptor)
os.fsync = fsync
"""
"""Run as Python starts, in the command and in its workers."""


@pytest.fixture(scope="module")
def place(digits_home: Path) -> Path:
    """A home with the template `digit` and its first version."""
    data = str(digits_home / "digits.npz")
    candidate = small_candidate(outputs=3)
    plain = template_of(candidate, data, "digit", target="raspberry-pi-4")
    write_template(digits_home / "digit.toml", plain, "")
    trained(candidate, data, "digit", target="raspberry-pi-4", epochs=2)
    return digits_home


@pytest.fixture
def versions(place: Path):
    """Asserts at the end that all versions of before are as they were."""
    files = models_folder().glob("*/[0-9]*/*")
    before = {path: path.read_bytes() for path in files}
    assert before
    yield
    assert {path: path.read_bytes() for path in before} == before


@pytest.fixture
def fill_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], None]:
    """Fills the disk for files of models with this in their path, in commands and workers."""
    if not Path("/proc/self/fd").exists():
        pytest.skip("names of open files are Linux'")
    (tmp_path / "sitecustomize.py").write_text(FULL_DISK)
    paths = [str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(paths))
    return functools.partial(monkeypatch.setenv, "FULL_FOR")


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize("file", ["progress.json", "int8.tflite", "model.json"])
def test_a_full_disk_is_said_in_a_line(place: Path, fill_disk: Callable[[str], None], file: str):
    fill_disk(file)
    name = f"full-{file.partition('.')[0]}"
    arguments = ("retrain", "digit.toml", "--epochs", 2, "--threads", 1, "--name", name)
    line = tune(place, *arguments, code=1).stderr.splitlines()[-1]
    assert "No space left on device" in line
    assert not list(models_folder().glob(f"{name}/[0-9]*"))
    fill_disk("nothing")
    assert f"{name}@1" in tune(place, *arguments).stdout


@pytest.mark.usefixtures("versions")
def test_a_full_disk_does_not_end_quantization_aware_training(
    place: Path, fill_disk: Callable[[str], None]
):
    fill_disk(f"/{QUANTIZED}/")
    arguments = ("retrain", "digit.toml", "--epochs", 4, "--threads", 1, "--name", "aware")
    line = tune(place, *arguments, code=1).stderr.splitlines()[-1]
    assert "Quantization-aware training failed: [Errno 28] No space left on device" in line
    assert "The same command goes on from the last checkpoint." in line
    fill_disk("nothing")
    done = tune(place, *arguments)
    assert "Going on after the float32 part" in done.stderr
    assert find_model("aware@1").read().quantization is not None


@pytest.mark.usefixtures("versions")
def test_a_disk_that_is_full_at_the_end_leaves_the_checkpoint(place: Path, monkeypatch):
    def full(path: Path, plain: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(models, "write_json", full)
    version = find_model("digit").read()

    def make() -> None:
        with new_version("digit", "key") as folder:
            (folder / CHECKPOINT).write_bytes(b"weights")
            write_version(folder, version)

    with pytest.raises(OSError, match="No space left"):
        make()
    assert (models_folder() / "digit" / ".new-key" / CHECKPOINT).read_bytes() == b"weights"
    monkeypatch.undo()
    make()
    assert find_model("digit").path.name == "2"
    assert not (find_model("digit").path / CHECKPOINT).exists()


@pytest.mark.usefixtures("versions")
def test_retrainings_of_one_model_at_once_while_it_is_fetched(place: Path):
    publish(find_model("digit@1"), str(place / "shelf"))
    epochs = (60, 61)
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tuner", "retrain", "digit.toml", "--name", "shared",
             "--quantization-percent", "0", "--threads", "1", "--epochs", str(count)],
            cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for count in epochs
    ]  # fmt: skip
    while len(going_on()) < len(started):
        assert all(process.poll() is None for process in started)
        time.sleep(0.1)
    assert get(str(place / "shelf"), "digit@1", "shared").reference == "shared@1"
    again = ("retrain", "digit.toml", "--name", "shared", "--quantization-percent", 0)
    line = tune(place, *again, "--threads", 1, "--epochs", epochs[0], code=2).stderr
    assert "This version of 'shared' is being worked on by another process" in line
    for process in started:
        told, _ = process.communicate()
        assert process.returncode == 0, told
    made = [find_model(f"shared@{number}").read() for number in (2, 3)]
    assert sorted(version.epochs for version in made) == list(epochs)
    for version in made:
        assert len(version.curve) == version.epochs


@pytest.mark.usefixtures("versions")
def test_all_retrainings_of_a_model_are_stopped(place: Path):
    started = [
        subprocess.Popen(
            [sys.executable, "-m", "tuner", "retrain", "digit.toml", "--name", "two",
             "--quantization-percent", "0", "--threads", "1", "--epochs", str(count)],
            cwd=place, text=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )
        for count in (9998, 9999)
    ]  # fmt: skip
    while len(going_on()) < len(started):
        assert all(process.poll() is None for process in started)
        time.sleep(0.1)
    lines = tune(place, "stop", "two").stdout.splitlines()
    assert sorted(lines) == sorted(
        f"two (a retraining, process {process.pid}) has stopped. Next: tune models"
        for process in started
    )
    for process in started:
        told, _ = process.communicate()
        assert process.returncode in (0, 130), told  # 130 where no epoch had ended
    assert going_on() == []


@pytest.mark.usefixtures("versions")
def test_a_damaged_checkpoint_is_named_and_stays(place: Path, monkeypatch):
    monkeypatch.setattr(retrain_module, "_key", lambda *_: "key")
    checkpoint = models_folder() / "damaged" / ".new-key" / CHECKPOINT
    checkpoint.parent.mkdir(parents=True)
    checkpoint.write_bytes(b"PK\x03\x04 what a broken disk gave")
    candidate = small_candidate(outputs=3)
    plain = template_of(candidate, str(place / "digits.npz"), "damaged", target="raspberry-pi-4")
    with pytest.raises(
        TuneError, match=r"Expected the checkpoint of this training in .*begin anew"
    ):
        retrain_module.retrain(plain, epochs=2)
    assert checkpoint.exists()
    checkpoint.unlink()
    assert retrain_module.retrain(plain, epochs=2).reference == "damaged@1"


@pytest.mark.usefixtures("versions")
def test_changed_data_is_said_and_makes_a_version_of_its_own(place: Path):
    with np.load(place / "digits.npz") as arrays:
        changed = {**arrays, "x": arrays["x"][:-1], "y": arrays["y"][:-1]}
    np.savez(place / "changed.npz", **changed)
    done = tune(
        place, "retrain", "digit.toml", "--data", "changed.npz", "--epochs", 1, "--name", "changed"
    )
    assert "The data is not the data that the candidate was selected on" in done.stderr
    mine, other = find_model("digit@1").read(), find_model("changed@1").read()
    assert mine.dataset.fingerprint != other.dataset.fingerprint


@pytest.mark.usefixtures("versions")
@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--continue", "digit@99"), "Unknown version of digit '99'. Known: 1"),
        (("--continue", "nobody"), "Unknown model 'nobody'"),
        (("--data", "five.npz"), "has 5 classes, the template's net gives 3"),
        (("--data", "nowhere"), "nowhere"),
        (("--learning-rate", "0"), "expected learning_rate above 0. Received: learning_rate=0.0"),
    ],
)
def test_what_cannot_be_used_is_one_line(place: Path, options: tuple[str, str], words: str):
    if not (place / "five.npz").exists():
        with np.load(place / "digits.npz") as arrays:
            many = {**arrays, "classes": np.array(list("abcde"))}
        many["y"] = many["y"].copy()
        many["y"][:4] = 3, 4, 3, 4
        np.savez(place / "five.npz", **many)
    (line,) = tune(place, "retrain", "digit.toml", *options, code=2).stderr.splitlines()
    assert words in line
    rows = json.loads(tune(place, "models", "--format", "json").stdout)
    assert "digit" in [row["name"] for row in rows]
