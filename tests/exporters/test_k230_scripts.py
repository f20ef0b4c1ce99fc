"""The board's scripts, run here with the board's modules stood in for."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from k230_board_support import SCRIPTS, Board
from k230_board_support import run_script as run_on_board
from tuner.data.draw import to_jpeg
from tuner.data.preprocess import crop_box
from tuner.spec import Preprocessing

LABELS = {2: ["cat", "dog"], 3: ["ant", "bee", "cow"]}
WIDTH, HEIGHT = 24, 16
"""Of the model's input: other sides, so that a mix-up shows."""


@pytest.fixture
def run_script(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):  # type: ignore[no-untyped-def]
    """Runs one script with a bundle's configuration and answers of the KPU; what it did."""

    def run(
        script: str, logits: list[float], *, crop: str = "stretch", camera: bool = True
    ) -> Board:
        labels = LABELS[max(2, len(logits))]
        (tmp_path / "deploy_config.json").write_text(
            json.dumps({"img_size": [WIDTH, HEIGHT], "kmodel_path": "net.kmodel", "crop": crop,
                        "categories": labels, "confidence_threshold": 0.5})
        )  # fmt: skip
        (tmp_path / "test.jpg").write_bytes(to_jpeg(np.full((30, 50, 3), 90, np.uint8)))
        return run_on_board(script, tmp_path, lambda _: logits, monkeypatch, camera=camera)

    return run


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("logits", "label", "score"),
    [
        ([0.0, 3.0, 1.0], "bee", 0.844),
        ([2.0], "dog", 0.881),
        ([-2.0], "cat", 0.881),
        ([0.4, 0.5, 0.6], "", 0.0),
    ],
)
def test_a_script_shows_the_class_that_the_net_gives(run_script, script, logits, label, score):
    board = run_script(script, logits)
    assert board.kmodel.endswith("/net.kmodel")
    assert board.built is not None
    assert board.built[1] == [1, 3, HEIGHT, WIDTH]
    assert board.crop is None, "the whole frame is resized"
    if label:
        assert board.drawn[0].split()[0] == label
        assert float(board.drawn[0].split()[1]) == pytest.approx(score, abs=0.001)
    else:
        assert board.drawn == []


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_cuts_out_what_the_net_was_trained_on(run_script, script):
    board = run_script(script, [0.0, 3.0, 1.0], crop="center")
    assert board.built is not None
    _, _, height, width = board.built[0]
    pixels = Preprocessing(height=HEIGHT, width=WIDTH, colour="rgb", crop="center")
    left, top, right, bottom = crop_box(width, height, pixels)
    assert board.crop == (left, top, right - left, bottom - top)


@pytest.mark.parametrize("script", [name for name in SCRIPTS if "video" in name])
def test_a_script_that_is_stopped_gives_everything_back(run_script, script):
    board = run_script(script, [0.0, 3.0, 1.0])
    assert board.display == "lcd"
    if "1_3" in script:
        assert board.closed == ["app", "sensor", "pipeline"]
    else:
        assert board.closed == ["sensor", "display", "media", "pool"]


@pytest.mark.parametrize("script", [name for name in SCRIPTS if "video" in name])
def test_a_board_without_a_camera_says_so(run_script, script):
    with pytest.raises(RuntimeError, match="Can not found sensor"):
        run_script(script, [0.0, 3.0, 1.0], camera=False)
