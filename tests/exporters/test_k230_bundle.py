"""The bundle, compiled and simulated by the real tools where they are installed."""

from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from dotnet_support import false_nncase
from k230_board_support import two_convolutions
from tuner.data.draw import captioned
from tuner.errors import InputError, TuneError
from tuner.exporters import k230
from tuner.models.export import export
from tuner.runtimes import kmodel
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    GlobalAveragePool2D,
    Input,
    Node,
    Tool,
)
from tuner.testing.models import trained
from tuner.testing.specs import small_candidate

ENDS = {
    "dense": (GlobalAveragePool2D(), lambda outputs: Dense(units=outputs)),
    "dense with relu": (
        GlobalAveragePool2D(), lambda outputs: Dense(units=outputs, activation="relu")
    ),
    "pool": (None, lambda outputs: GlobalAveragePool2D()),
}  # fmt: skip


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("outputs", [2, 5])
@pytest.mark.parametrize("end", ENDS)
def test_the_camera_model_is_the_same_net(channels: int, outputs: int, end: str) -> None:
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras, run_keras
    from tuner.train.camera import LUMA, camera_model

    pool, last = ENDS[end]
    filters = 4 if pool else outputs
    nodes = [
        Node(name="image", op=Input(height=8, width=8, channels=channels)),
        Node(name="conv", op=Conv2D(filters=filters, activation="linear"), inputs=("image",)),
    ]
    if pool:
        nodes.append(Node(name="pool", op=pool, inputs=("conv",)))
    nodes.append(Node(name="logits", op=last(outputs), inputs=(nodes[-1].name,)))
    model = build_keras(Architecture(nodes=tuple(nodes), outputs=("logits",)))
    randomize_weights(model, 0)
    colour = np.random.default_rng(0).uniform(-1, 1, (6, 8, 8, 3)).astype(np.float32)
    read = colour if channels == 3 else (colour @ np.array(LUMA, np.float32))[..., None]
    wanted = run_keras(model, read)
    if outputs == 2:
        wanted = wanted[:, 1:] - wanted[:, :1]
    np.testing.assert_allclose(run_keras(camera_model(model), colour), wanted, atol=1e-5)


def test_without_the_compiler_an_export_says_what_to_install(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(small_candidate(side=8, outputs=10), "sample:digits", "digits")

    missing = Tool(name="nncase-kpu", missing="pip install 'edge-tuner[k230]'.")
    monkeypatch.setattr(kmodel, "tools", lambda: (missing,))
    with pytest.raises(InputError, match=r"pip install 'edge-tuner\[k230\]'\. Then export again"):
        export(model, ["k230"], home / "out")
    assert not (home / "out").exists(), "nothing is handed over"


def test_an_export_that_the_compiler_ends_hands_over_nothing(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = trained(small_candidate(side=8, outputs=10), "sample:digits", "digits")
    before = set(home.iterdir())
    false_nncase(home / "packages", "import os; os.abort()", monkeypatch)
    monkeypatch.setattr(k230, "package_tool", lambda *_: Tool(name="fpdf2", version="2.8"))
    with pytest.raises(TuneError, match=r"^nncase cannot compile the model: its process ended by"):
        export(model, ["k230"], home / "out")
    assert set(home.iterdir()) - before == {home / "packages"}


def test_captions_fit_the_picture() -> None:
    for good in (True, False):
        content = captioned(np.zeros((32, 24, 1), np.uint8), "cat, is dog", good=good)
        (Path("caption.png")).write_bytes(content)
        with Image.open("caption.png") as picture:
            assert picture.size == (240, 224 + 22)
        Path("caption.png").unlink()


@pytest.mark.usefixtures("compiler")
def test_the_bundle_of_a_trained_net(home: Path) -> None:
    model = trained(two_convolutions(outputs=10, side=16, colour="grey"), "sample:digits", "digits")
    folder = export(model, ["k230", "tflite"], home / "out")
    report = json.loads((folder / "export_report.json").read_text())
    row = next(row for row in report["artifacts"] if row["format"] == "k230")
    assert row["passed"], row
    assert row["agreement"] > 0.9
    assert row["expected_correct"] > 0.5 * row["images"], "the net has learned something"
    bundle = folder / "k230"
    config = json.loads((bundle / "mp_deployment_source" / "deploy_config.json").read_text())
    assert config["img_size"] == [16, 16]
    assert config["categories"] == [str(digit) for digit in range(10)]
    assert config["num_classes"] == 10
    assert config["nncase_version"] == kmodel.nncase_version()
    assert (bundle / "mp_deployment_source" / config["kmodel_path"]).stat().st_size > 1000
    scripts = {f"cls_{kind}_{version}.py" for kind in ("image", "video")
               for version in ("1_2_2", "1_3")}  # fmt: skip
    assert {path.name for path in bundle.glob("*.py")} == scripts
    assert len(list((bundle / "cls_results").glob("*.png"))) == k230.EXAMPLES
    with Image.open(bundle / "mp_deployment_source" / "test.jpg") as picture:
        assert picture.size == (320, 320), "large enough for the class to be drawn on it"
    guide = (bundle / "README.md").read_text()
    assert f"{100 * row['correct'] / row['images']:.1f} % of {row['images']}" in guide
    assert "CanMV firmware 1.7 or newer" in guide
    assert "uint8 activations" in guide
    assert (bundle / "README.pdf").read_bytes().startswith(b"%PDF")


@pytest.mark.usefixtures("compiler")
def test_two_classes_become_one_logit() -> None:
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras, run_keras
    from tuner.train.camera import camera_model
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    net = small_candidate(filters=8, side=12, outputs=2)
    model = build_keras(net.architecture)
    randomize_weights(model, 3)
    content = convert_tflite(camera_model(model), "float32")
    images = np.random.default_rng(1).integers(0, 256, (10, 12, 12, 3), dtype=np.uint8)
    images[0, 0, 0], images[0, 0, 1] = 0, 255
    compiled = kmodel.compile_kmodel(content, images, INPUT_RANGES["signed"])
    logits = kmodel.simulate_kmodel(compiled.kmodel, images)
    assert logits.shape == (10, 1)
    scaled = (images.astype(np.float32) - 128.0) / 128.0
    wanted = run_keras(camera_model(model), scaled)
    span = float(np.ptp(wanted))
    assert math.isclose(float(np.corrcoef(logits[:, 0], wanted[:, 0])[0, 1]), 1.0, abs_tol=0.05)
    assert float(np.abs(logits - wanted).max()) < 0.2 * span
