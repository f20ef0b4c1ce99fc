"""An exporter that does not write what it names."""

from __future__ import annotations

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
