"""Exporters that do not write what they name, raise, or return what are no logits."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from tuner.errors import TuneError
from tuner.models.export import export
from tuner.store.models import ModelFolder


def test_a_file_that_was_not_written_is_named(small_model: ModelFolder, home: Path) -> None:
    (home / "exporters").mkdir()
    (home / "exporters" / "forgets.py").write_text(
        "from tuner.exporters import Artifact\n"
        "def export(model, version, folder):\n"
        "    return [Artifact(path='net.bin', precision='int8')]\n"
        "def run(artifact, precision, images, target): ...\n"
    )
    with pytest.raises(TuneError) as caught:
        export(small_model, ["forgets"], home / "out")
    assert str(caught.value) == (
        "Expected the exporter 'forgets' to write net.bin, as it says. There is no such file."
    )
    assert not (home / "out").exists(), "nothing is handed over"


def test_an_error_of_an_exporter_is_named_with_its_line(
    small_model: ModelFolder, home: Path
) -> None:
    (home / "exporters").mkdir()
    path = home / "exporters" / "wrong.py"
    path.write_text(
        "def export(model, version, folder):\n"
        "    return version.classes\n"
        "def run(artifact, precision, images, target): ...\n"
    )
    with pytest.raises(TuneError) as caught:
        export(small_model, ["wrong"], home / "out")
    assert str(caught.value) == (
        f"The exporter 'wrong' failed at {path.resolve()}, line 2: AttributeError: 'ModelVersion' "
        "object has no attribute 'classes'. Nothing was written; --debug shows it all."
    )
    assert not (home / "out").exists()


@pytest.mark.parametrize(
    ("returned", "shape"),
    [
        ("images", "({images}, 8, 8, 1)"),
        ("np.zeros((len(images), 1, 10), np.float32)", "({images}, 1, 10)"),
        ("np.zeros((1, 10), np.float32)", "(1, 10)"),
        ("[0.0] * 10", "(10,)"),
        ("None", "()"),
    ],
)
def test_a_run_that_returns_another_shape_is_refused(
    small_model: ModelFolder, home: Path, returned: str, shape: str
) -> None:
    path = write_exporter(home, "import numpy as np", f"return {returned}")
    with pytest.raises(TuneError) as caught:
        export(small_model, ["odd"], home / "out")
    said = str(caught.value)
    images = small_model.read().dataset.counts["test"]
    assert said == (
        f"The exporter 'odd' ({path}): run returned {shape.format(images=images)}, expected "
        f"({images}, 10): logits, images x classes. Nothing was written."
    )
    assert not (home / "out").exists()


def test_a_file_that_the_runtime_cannot_load_is_named_with_its_exporter(
    small_model: ModelFolder, home: Path
) -> None:
    path = write_exporter(
        home,
        "from tuner import catalog",
        "return catalog.load_module('runtimes', 'litert').predict(b'no model', precision, images)",
    )
    with pytest.raises(TuneError) as caught:
        export(small_model, ["odd"], home / "out")
    assert str(caught.value).startswith(
        f"The exporter 'odd' ({path}) wrote net.bin, which cannot be run: LiteRT cannot load the "
        "model: "
    )


def write_exporter(home: Path, imports: str, run: str) -> Path:
    """An exporter `odd` that writes some bytes and runs them with the line `run`."""
    path = home / "exporters" / "odd.py"
    path.parent.mkdir()
    path.write_text(
        f"{imports}\n"
        "from tuner.exporters import Artifact\n"
        "def export(model, version, folder):\n"
        "    (folder / 'net.bin').write_bytes(b'net')\n"
        "    return [Artifact(path='net.bin', precision='int8')]\n"
        "def run(artifact, precision, images, target):\n"
        f"    {run}\n"
    )
    return path.resolve()


def test_a_folder_that_is_there_may_be_a_file_system_of_its_own(
    small_model: ModelFolder, home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    card = home / "card"
    card.mkdir()
    rename = os.replace

    def rename_within(source: str | Path, target: str | Path) -> None:
        if (card in Path(source).parents) != (card in Path(target).parents):
            raise OSError(errno.EXDEV, "Invalid cross-device link", str(source))
        rename(source, target)

    monkeypatch.setattr(os, "replace", rename_within)
    (card / ".card-1").mkdir()  # of an export that was killed
    export(small_model, ["tflite"], card)
    names = {path.name for path in card.iterdir()}
    assert "export_report.json" in names
    assert not [name for name in names if name.startswith(".")]


def test_a_precision_that_the_model_has_not_is_named(small_model: ModelFolder, home: Path) -> None:
    (home / "exporters").mkdir()
    (home / "exporters" / "wide.py").write_text(
        "from tuner.exporters import Artifact\n"
        "def export(model, version, folder):\n"
        "    (folder / 'net.bin').write_text('net')\n"
        "    return [Artifact(path='net.bin', precision='int16x8')]\n"
        "def run(artifact, precision, images, target): ...\n"
    )
    with pytest.raises(TuneError, match=r"'wide' .* expected quantized_anew=True of net\.bin"):
        export(small_model, ["wide"], home / "out")
    assert not (home / "out").exists()
