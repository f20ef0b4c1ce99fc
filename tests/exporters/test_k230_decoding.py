"""From a trained net to the label on the board: compiled, simulated and decoded as there."""

from __future__ import annotations

import io
import json
import re
import shutil
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from k230_board_support import SCRIPTS, run_script, two_convolutions
from tuner.data import open_again
from tuner.data.preprocess import scale
from tuner.exporters import k230, k230_int16
from tuner.models.export import export
from tuner.runtimes import kmodel
from tuner.store.files import cache_folder
from tuner.testing.models import trained

SIDE = 16
HELD_OUT = 24


def tinted_digits(path: Path, classes: int) -> Path:
    """Real digits, each class with more of another colour: channels that change places show."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    keep = digits.target < classes
    labels = digits.target[keep].astype(np.int64)
    tints = 0.6 + 0.4 * np.eye(3)[labels]
    images = (15.9 * digits.images[keep][..., None] * tints[:, None, None]).astype(np.uint8)
    first, second = -2 * HELD_OUT, -HELD_OUT
    np.savez(
        path, x=images[:first], y=labels[:first], x_validation=images[first:second],
        y_validation=labels[first:second], x_test=images[second:], y_test=labels[second:],
        classes=np.array(["nought", "one", "two"][:classes]),
    )  # fmt: skip
    return path


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """Both bundles of a net, and what they say of the test images.

    Args:
        folder: of the export.
        images: of the test split.
        logits: by exporter, as `run` gives them.
        float_logits: of the Keras model.
        outputs: of the kmodel of `k230`, as the KPU gives them.
    """

    folder: Path
    images: NDArray[np.uint8]
    logits: dict[str, NDArray[np.float32]]
    float_logits: NDArray[np.float32]
    outputs: NDArray[np.float32]

    def config(self, name: str) -> dict[str, Any]:
        """`deploy_config.json` of one of them."""
        return json.loads((self.folder / name / k230.SOURCE / "deploy_config.json").read_text())


@pytest.fixture(scope="module", params=[3, 2], ids=["three classes", "two classes"])
def exported(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Exported:
    from tuner.train.build import load_keras, run_keras

    try:
        kmodel.nncase_version()
    except ImportError as error:
        pytest.skip(str(error))
    home = tmp_path_factory.mktemp("exported")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        data = tinted_digits(home / "digits.npz", request.param)
        model = trained(two_convolutions(request.param, SIDE, "rgb"), str(data), "digits")
        folder = export(model, ["k230", "k230_int16"], home / "out")
        version = model.read()
        pixels = version.template.preprocessing
        images, _ = open_again(version.dataset).arrays(pixels, "test", cache_folder())
    scaled = scale(images, pixels.scaling)
    target = version.template.target
    content = next((folder / "k230").rglob("*.kmodel")).read_bytes()
    return Exported(
        folder=folder,
        images=images,
        logits={
            "k230": k230.run(folder / "k230", "int8", scaled, target),
            "k230_int16": k230_int16.run(folder / "k230_int16", "int16x8", scaled, target),
        },
        float_logits=run_keras(load_keras(model.path / "model.keras"), scaled),
        outputs=kmodel.simulate_kmodel(content, images),
    )


def planar(image: NDArray[np.uint8]) -> bytes:
    return np.ascontiguousarray(image.transpose(2, 0, 1)).tobytes()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_script_shows_what_the_product_says(
    script: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = exported.config("k230")
    labels = config["categories"]
    assert exported.outputs.shape[1] == (1 if len(labels) == 2 else len(labels))
    (tmp_path / "deploy_config.json").write_text(json.dumps(config))
    answers = {
        planar(image): [float(value) for value in output]
        for image, output in zip(exported.images, exported.outputs, strict=True)
    }
    logits = exported.logits["k230"].astype(np.float64)
    shares = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    shown = []
    for image, share in zip(exported.images, shares, strict=True):
        picture = io.BytesIO()
        Image.fromarray(image).save(picture, "PNG")  # without loss: the very pixels
        (tmp_path / "test.jpg").write_bytes(picture.getvalue())
        fixed = answers[planar(image)]
        board = run_script(
            script,
            tmp_path,
            # The camera's frames are without content, so what the KPU makes of one is given.
            (lambda _, fixed=fixed: fixed)
            if "video" in script
            else (lambda pixels: answers[pixels.tobytes()]),
            monkeypatch,
        )
        wanted = labels[int(share.argmax())] if share.max() > config["confidence_threshold"] else ""
        drawn = [text.split() for text in board.drawn[:1]]
        assert [label for label, _ in drawn] == [wanted] * bool(wanted)
        for _, score in drawn:
            assert float(score) == pytest.approx(share.max(), abs=0.001)
        shown.append(wanted)
    assert len(set(shown) - {""}) == len(labels), "each class was told at least once"


@pytest.mark.parametrize("script", [name for name in SCRIPTS if "image" in name])
def test_the_bundles_own_picture_is_told_as_its_guide_says(
    script: str, exported: Exported, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bundle = exported.folder / "k230"
    source = bundle / k230.SOURCE
    shutil.copytree(source, tmp_path, dirs_exist_ok=True)
    with Image.open(source / "test.jpg") as picture:
        assert picture.width >= k230.TEST_PICTURE_WIDTH
    content = next(source.glob("*.kmodel")).read_bytes()

    def kpu(image: NDArray[np.uint8]) -> list[float]:
        return kmodel.simulate_kmodel(content, image.transpose(1, 2, 0)[None])[0].tolist()

    board = run_script(script, tmp_path, kpu, monkeypatch)
    label, score = board.drawn[0].split()
    guide = (bundle / "README.md").read_text()
    told = re.search(r'told as\n"(\w+)", with a score near (\d\.\d+)', guide)
    assert told
    assert told[1] == label
    assert float(score) == pytest.approx(float(told[2]), abs=0.05)


def test_int16_activations_are_nearer_to_the_float_model(exported: Exported) -> None:
    assert exported.config("k230")["ptq_option"] == "w:uint8 d:uint8"
    assert exported.config("k230_int16")["ptq_option"] == "w:uint8 d:int16"
    wanted = exported.float_logits[:, 1:] - exported.float_logits[:, :1]
    errors = {
        name: float(np.abs(logits[:, 1:] - logits[:, :1] - wanted).mean())
        for name, logits in exported.logits.items()
    }
    assert errors["k230_int16"] <= errors["k230"]
    report = json.loads((exported.folder / "export_report.json").read_text())
    assert report["passed"], report
    assert [row["precision"] for row in report["artifacts"]] == ["int8", "int16x8"]


def test_a_picture_that_the_scripts_show_no_class_of_is_told_so() -> None:
    assert k230._expected(["a", "b"], 1, 0.5) == '"b", with a score near 0.50'
    assert k230._expected(["a", "b", "c"], 1, 0.41) == (
        'no class: the surest, "b", with a score near 0.41, is not above the threshold'
    )


def test_the_guide_keeps_names_that_look_like_html() -> None:
    pdf = k230._pdf("| told as |\n|---|\n| <unknown> or <b>no</b> |\n")
    streams = re.findall(rb"stream\n(.*?)\nendstream", pdf, re.DOTALL)
    texts = b"".join(zlib.decompress(stream) for stream in streams[:1])
    assert b"<unknown>" in texts
    assert b"<b>no</b>" in texts
