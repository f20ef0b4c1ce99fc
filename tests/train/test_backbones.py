"""Weights of other makers: the same nets layer by layer, and every file they come in."""

from __future__ import annotations

import dataclasses
import functools
import http.server
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.cost.lower import lower
from tuner.errors import InputError, TuneError
from tuner.spec import (
    MOBILENETS,
    Backbone,
    MobileNet,
    Preprocessing,
    WeightsFile,
    at_side,
    weight_shapes,
    with_head,
)
from tuner.testing.weights import randomize_weights
from tuner.train import backbones
from tuner.train.build import build_keras, start_anew

SMALLEST = MobileNet(kind="MobileNet", alpha=0.25)


def keras_net(net: MobileNet, side: int, **options: Any) -> Any:
    """The net of keras.applications, its weights as if trained."""
    import keras

    start_anew(0)
    usual = {"input_shape": (side, side, 3), "weights": None, "include_top": False}
    if net.kind == "MobileNet":
        model = keras.applications.MobileNet(alpha=net.alpha, **{**usual, **options})
    elif net.kind == "MobileNetV2":
        model = keras.applications.MobileNetV2(alpha=net.alpha, **{**usual, **options})
    else:
        model = keras.applications.MobileNetV3Small(
            alpha=net.alpha, minimalistic=True, include_preprocessing=False, **{**usual, **options}
        )
    randomize_weights(model, 3)
    return model


def macs_of(model: Any) -> int:
    """Multiply-accumulates by Keras' own shapes."""
    from keras import layers

    total = 0
    for layer in model.layers:
        if isinstance(layer, layers.DepthwiseConv2D | layers.Conv2D):
            pixels = int(np.prod(layer.output.shape[1:3]))
            total += pixels * int(np.prod(layer.weights[0].shape))
    return total


@pytest.mark.parametrize(
    ("kind", "alpha", "side"),
    [
        ("MobileNet", 0.25, 96),
        ("MobileNetV2", 0.35, 96),
        ("MobileNetV2", 1.4, 32),
        ("MobileNetV3Small minimalistic", 1.0, 64),
    ],
)
def test_a_net_of_keras_computes_the_same_here(kind: Any, alpha: float, side: int) -> None:
    net = MobileNet(kind=kind, alpha=alpha)
    theirs = keras_net(net, side)
    found = backbones.match(theirs.get_weights())
    assert found is not None
    assert found[:2] == (net, 3)
    layers = net.architecture(Preprocessing(height=side, width=side, colour="rgb"))
    arrays = found[2]
    ours = build_keras(layers)
    for name in {name.split("/")[0] for name in arrays}:
        parts = sorted(part for part in arrays if part.startswith(f"{name}/"))
        ours.get_layer(name).set_weights([arrays[part] for part in parts])
    assert ours.count_params() == theirs.count_params()
    assert (
        lower(with_head(layers, "mean", 0.0, 2)).macs
        == macs_of(theirs) + 2 * (layers.shapes()[layers.outputs[0]][-1])
    )
    images = np.random.default_rng(0).uniform(-1, 1, (2, side, side, 3)).astype(np.float32)
    expected = theirs.predict_on_batch(images)
    assert np.abs(expected).max() > 0.1
    assert np.allclose(ours.predict_on_batch(images), expected, rtol=1e-4, atol=1e-4)


def test_no_two_nets_have_weights_of_the_same_shapes() -> None:
    pixels = Preprocessing(height=32, width=32, colour="rgb")
    shapes = [tuple(weight_shapes(net.architecture(pixels)).values()) for net in MOBILENETS]
    assert len(set(shapes)) == len(MOBILENETS)


@pytest.fixture(scope="module")
def stored(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """One backbone, with and without top, in all kinds of files."""
    import keras
    from keras import layers

    folder = tmp_path_factory.mktemp("stored")
    model = keras_net(SMALLEST, 64)
    topped = keras_net(SMALLEST, 64, include_top=True, classes=7)
    topped.set_weights([*model.get_weights(), *topped.get_weights()[-2:]])
    classifier = keras.Sequential([model, layers.GlobalAveragePooling2D(), layers.Dense(3)])
    files = {
        "keras": folder / "plain.keras",
        "whole h5": folder / "plain.h5",
        "h5 of weights": folder / "plain.weights.h5",
        "with top": folder / "top.keras",
        "h5 with top": folder / "top.h5",
        "in another model": folder / "classifier.keras",
    }
    for name, path in files.items():
        if path.name.startswith("top"):
            topped.save(path)
        elif name == "in another model":
            classifier.save(path)
        elif name == "h5 of weights":
            model.save_weights(path)
        else:
            model.save(path)
    files["npz"] = folder / "arrays.npz"
    np.savez(files["npz"], *model.get_weights())
    return files


def test_every_kind_of_file_gives_the_same_weights(home: Path, stored: dict[str, Path]) -> None:
    found = {name: backbones.read_file(path) for name, path in stored.items()}
    assert len(set(map(repr, found.values()))) == 1
    backbone = found["keras"]
    assert backbone.name == "MobileNet 0.25"
    kept = backbones.weights_path(backbone.files[0].weights)
    assert backbones.read_file(kept) == backbone, "what a search kept can be given again"


def test_weights_come_into_a_net_of_another_size(home: Path, stored: dict[str, Path]) -> None:
    backbone = backbones.read_file(stored["keras"])
    pixels = Preprocessing(height=48, width=48, colour="rgb")
    whole = with_head(at_side(backbone.architecture, pixels), "mean", 0.1, 4)
    start_anew(1)
    model = build_keras(whole)
    head = model.get_layer(model.layers[-1].name).get_weights()
    backbones.begin_from(model, whole, backbone.files[0].weights)
    with np.load(stored["npz"]) as arrays:
        expected = [arrays[f"arr_{index}"] for index in range(len(arrays.files))]
    for mine, theirs in zip(model.get_weights(), expected, strict=False):
        assert np.array_equal(mine, theirs)
    for mine, before in zip(model.layers[-1].get_weights(), head, strict=True):
        assert np.array_equal(mine, before)


def test_statistics_become_those_of_other_images(home: Path, stored: dict[str, Path]) -> None:
    backbone = backbones.read_file(stored["keras"])
    pixels = Preprocessing(height=32, width=32, colour="rgb")
    whole = with_head(at_side(backbone.architecture, pixels), "mean", 0.0, 4)
    start_anew(1)
    model = build_keras(whole)
    backbones.begin_from(model, whole, backbone.files[0].weights)
    kernel = model.get_layer("n1").get_weights()
    images = np.random.default_rng(2).integers(0, 256, (100, 32, 32, 3)).astype(np.uint8)
    backbones.reestimate_statistics(model, images, "signed")
    assert np.array_equal(model.get_layer("n1").get_weights()[0], kernel[0])
    first = model.get_layer("n1")((images.astype(np.float32) - 128) / 128).numpy()
    _, _, mean, variance = model.get_layer("n1b").get_weights()
    assert np.allclose(mean, first.mean(axis=(0, 1, 2)), atol=1e-4)
    assert np.allclose(variance, first.var(axis=(0, 1, 2)), rtol=1e-3)


def test_files_that_are_no_weights(home: Path, stored: dict[str, Path], tmp_path: Path) -> None:
    other = tmp_path / "other.npz"
    np.savez(other, np.zeros((3, 3, 3, 5)))
    damaged = tmp_path / "damaged.h5"
    damaged.write_bytes(stored["whole h5"].read_bytes()[:999])
    broken = tmp_path / "broken.keras"
    broken.write_bytes(b"PK nothing")
    text = tmp_path / "notes.txt"
    text.write_text("weights")
    single = tmp_path / "single.npz"
    with single.open("wb") as file:
        np.save(file, np.zeros(3))
    zeroed = tmp_path / "zeroed.npz"
    np.savez_compressed(zeroed, np.random.default_rng(0).normal(size=5000))
    content = bytearray(zeroed.read_bytes())
    content[300:900] = bytes(600)
    zeroed.write_bytes(content)
    lost = tmp_path / "lost.npz"
    with np.load(stored["npz"]) as arrays:
        np.savez(lost, *(np.full_like(array, np.nan) for array in arrays.values()))
    for path, message in (
        (other, r"weights of a MobileNet of keras\.applications in .*other\.npz: MobileNet, Mob.* "
         r"Received: weights of other shapes\. For a model of your own give MODEL@N\."),
        (damaged, r"damaged\.h5 cannot be read as weights: "),
        (broken, r"broken\.keras cannot be read as weights: "),
        (single, r"single\.npz cannot be read as weights: it holds one array"),
        (zeroed, r"zeroed\.npz cannot be read as weights: "),
        (text, r"\.weights\.h5 or \.npz for --weights\. Received: .*notes\.txt, this\."),
        (tmp_path / "none.h5", r"Received: .*none\.h5, no file there\."),
        (tmp_path, r"Received: .*, a folder\."),
        (lost, r"Expected numbers in .*lost\.npz\. Received: weights that are not finite\."),
    ):  # fmt: skip
        with pytest.raises(InputError, match=message) as caught:
            backbones.read_file(path)
        assert "\n" not in str(caught.value)


def test_weights_of_another_net_are_refused(home: Path, stored: dict[str, Path]) -> None:
    backbone = backbones.read_file(stored["keras"])
    weights = backbone.files[0].weights
    pixels = Preprocessing(height=32, width=32, colour="rgb")
    wider = MobileNet(kind="MobileNet", alpha=0.5).architecture(pixels)
    whole = with_head(wider, "mean", 0.0, 4)
    with pytest.raises(InputError, match=r"not those of the net's layers: expected \(3, 3, 3, 16\) "
                       r"at n1/0\. Received: \(3, 3, 3, 8\)\."):  # fmt: skip
        backbones.begin_from(build_keras(whole), whole, weights)
    path = backbones.weights_path(weights)
    with pytest.raises(InputError, match=f"fingerprint w0\\. Received: {weights}\\."):
        backbones.check_kept(path, "w0")
    path.unlink()
    with pytest.raises(InputError, match=r"Expected a weights file at .*npz; there is none\."):
        backbones.check_kept(path, weights)


def test_a_backbone_has_one_file_or_one_a_side(home: Path, stored: dict[str, Path]) -> None:
    backbone = backbones.read_file(stored["keras"])
    two = (WeightsFile(weights="wa", side=128), WeightsFile(weights="wb", side=160))
    several = dataclasses.replace(backbone, files=two)
    assert several.sides == (128, 160)
    assert several.weights_at(160) == "wb"
    assert backbone.weights_at(77) == backbone.files[0].weights
    with pytest.raises(InputError, match=r"one for each side\. Received: sides=\[\]"):
        Backbone(name="x", architecture=backbone.architecture, files=())


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder of a server that Keras takes MobileNet's weights from, with a new cache."""
    from keras.src import backend
    from keras.src.applications import mobilenet

    folder = tmp_path / "served"
    folder.mkdir()
    handler = functools.partial(Quiet, directory=str(folder))
    listening = http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=listening.serve_forever, daemon=True).start()
    address = f"http://127.0.0.1:{listening.server_address[1]}/"
    monkeypatch.setattr(mobilenet, "BASE_WEIGHT_PATH", address)
    monkeypatch.setattr(backend.config, "_KERAS_DIR", str(tmp_path / "keras"))
    (tmp_path / "keras").mkdir()
    yield folder
    listening.shutdown()
    listening.server_close()


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments: Any) -> None:
        """Say nothing."""


NAME = "mobilenet_2_5_{}_tf_no_top.h5"


def test_imagenet_is_downloaded_once(home: Path, server: Path) -> None:
    model = keras_net(SMALLEST, 128)
    for side in (128, 160):
        model.layers[1].set_weights([np.full((3, 3, 3, 8), side / 1000, np.float32)])
        model.save(server / NAME.format(side))
    made_up = backbones.fetch_imagenet("MobileNet", 0.25, (128, 160))
    assert made_up.name == "MobileNet 0.25"
    assert made_up.sides == (128, 160)
    for side in made_up.sides:
        _, arrays = backbones.read_kept(backbones.weights_path(made_up.weights_at(side)))
        assert arrays["n1/0"].flat[0] == np.float32(side / 1000)
    for side in (128, 160):
        (server / NAME.format(side)).unlink()
    assert backbones.fetch_imagenet("MobileNet", 0.25, (128, 160)) == made_up


def test_without_internet_there_is_one_line(
    home: Path, server: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from keras.src.applications import mobilenet

    monkeypatch.setattr(mobilenet, "BASE_WEIGHT_PATH", "http://127.0.0.1:9/")
    message = (
        r"Expected to download the ImageNet weights of MobileNet 0\.25 at 128x128\. That failed: "
        r"URL fetch failure .*refused.* Connect to the internet once, or give a file of such a net "
        r"with --weights FILE\."
    )
    with pytest.raises(TuneError, match=message) as caught:
        backbones.fetch_imagenet("MobileNet", 0.25, (128,))
    assert "\n" not in str(caught.value)
