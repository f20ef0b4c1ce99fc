"""A search that begins with a trained net: from `--weights` to a retrained model."""

from __future__ import annotations

import dataclasses
import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

import tuner
from transfer_support import base_model, digits, residual_candidate
from tuner.engine.options import read_request
from tuner.engine.search import SearchRequest, prepare_run, request_again
from tuner.engine.transfer import begun_with, find_backbones, install, run_weights
from tuner.errors import InputError, NothingFitsError, UnknownNameError
from tuner.models.publish import get, publish
from tuner.models.retrain import retrain
from tuner.spec import Backbone, Limits, to_plain
from tuner.store.models import find_model
from tuner.store.runs import RunFolder
from tuner.store.templates import read_template
from tuner.train import backbones
from tuner.train.build import load_keras

BOARD = "raspberry-pi-4"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A home with `base@1`, few images of other classes, and the run `t` that began with it."""
    home = tmp_path_factory.mktemp("transfer")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("TUNE_HOME", str(home))
        patch.chdir(home)
        base_model(home)
        data = digits(home / "high.npz", range(5, 10), 8)
        tuner.search(
            BOARD, data, max_candidates=2, workers=1, weights="base@1", name="t", progress=False
        )
        yield home


def kernels(path: Path) -> list[np.ndarray]:
    """Of the convolutions, by the order of layers."""
    layers = [layer for layer in load_keras(path).layers if "kernel_size" in layer.get_config()]
    return [layer.get_weights()[0] for layer in sorted(layers, key=lambda layer: layer.name)]


def test_the_search_begins_with_the_model(place: Path) -> None:
    run = tuner.Run("t")
    assert run.spec.spaces == ("transfer",)
    assert run.spec.weights == "base@1"
    (backbone,) = run.spec.backbones
    assert backbone.name == "base@1"
    weights = backbone.weights_at(8)
    assert run_weights(RunFolder(run.folder), weights).is_file()
    settings = [row["candidate"]["training"] for row in run.candidates]
    assert {plain["weights"] for plain in settings} == {weights}
    assert all(plain["frozen_share"] > 0 for plain in settings)
    layers = find_model("base@1").read().template.architecture.nodes[1:6]
    for result in RunFolder(run.folder).results():
        assert result.candidate.architecture.nodes[1:6] == layers
    assert run.best is not None
    assert set(run.best["accuracy"]["test"]) == {"float32", "int8", "target"}


def test_a_template_knows_its_weights_and_retrains(place: Path) -> None:
    path = tuner.select("t", 1, output=place / "chosen.toml")
    template = read_template(path)
    assert template.training.weights in template.weights
    frozen = dataclasses.replace(template.training, frozen_share=1.0)
    made = retrain(dataclasses.replace(template, training=frozen), epochs=2, threads=1)
    base = find_model("base@1")
    for mine, theirs in zip(
        kernels(made.path / "model.keras"), kernels(base.path / "model.keras"), strict=True
    ):
        assert np.array_equal(mine, theirs), "these weights are taken over, and stayed frozen"
    (again,) = find_backbones(made.reference, {}, {})
    assert again.name == "chosen@1"
    stored, taken = (
        backbones.read_kept(backbones.weights_path(weights))[1]
        for weights in (template.training.weights, again.weights_at(8))
    )
    for name, kernel in stored.items():  # and of frozen layers the statistics alone are new
        assert np.array_equal(kernel, taken[name]) is not name.endswith(("b/2", "b/3")), name


def test_all_layers_begin_to_learn_when_they_round(place: Path) -> None:
    """Where the head alone was to learn for longer than the part without rounding lasts."""
    template = read_template(tuner.select("t", 1, output=place / "late.toml"))
    late = dataclasses.replace(template.training, frozen_share=0.9)
    version = retrain(dataclasses.replace(template, training=late), epochs=4, threads=1).read()
    assert version.quantization is not None
    assert version.quantization.epochs == 1
    assert version.loss_curve[-1] < version.loss_curve[0]


def test_a_published_version_brings_what_its_template_begins_with(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    template = read_template(tuner.select("t", 1, output=place / "shared.toml"))
    frozen = dataclasses.replace(template.training, frozen_share=1.0)
    publish(retrain(dataclasses.replace(template, training=frozen), epochs=1), str(tmp_path))
    monkeypatch.setenv("TUNE_HOME", str(tmp_path / "elsewhere"))
    moved = dataclasses.replace(template, weights="/another/home/weights.npz")
    with pytest.raises(InputError, match=r"at /another/home/weights\.npz; there is none\. .*get"):
        retrain(moved, epochs=1)
    made = get(str(tmp_path), "shared")
    assert "backbone.npz" not in [path.name for path in made.path.iterdir()]
    assert begun_with(moved).is_relative_to(tmp_path / "elsewhere")
    publish(made, str(tmp_path / "next"))
    assert (tmp_path / "next" / "shared" / "1" / "backbone.npz").is_file()
    assert retrain(moved, epochs=1).reference == "shared@2"


def write_changed(file: Path, backbone: Backbone, arrays: dict[str, np.ndarray]) -> None:
    """A weights file like another, but for the first kernel."""
    plain = np.array(json.dumps(to_plain(backbone)))
    np.savez(file, **{**arrays, "n1/0": arrays["n1/0"] + 1, "backbone": plain})


@pytest.mark.parametrize("changed", ["moved", "others"])
def test_weights_that_were_moved_or_changed(place: Path, changed: str) -> None:
    run = tuner.Run("t")
    weights = run.spec.backbones[0].files[0].weights
    file = run_weights(RunFolder(run.folder), weights)
    template = read_template(tuner.select("t", 1, output=place / f"{changed}.toml"))
    aside = shutil.move(file, place / "aside.npz")
    try:
        if changed == "others":
            backbone, arrays = backbones.read_kept(Path(aside))
            write_changed(file, backbone, arrays)
            message = rf"expected the fingerprint {weights}\. Received: w[0-9a-f]{{11}}\."
        else:
            message = r"Expected a weights file at .*\.npz; there is none\."
            kept = backbones.weights_path(weights)
            assert begun_with(template) == kept, "weights are known by their fingerprint"
            kept.unlink()
        with pytest.raises(InputError, match=message):
            retrain(template, epochs=1)
        with pytest.raises(InputError, match=message):
            tuner.extend("t", max_candidates=1, progress=False)
    finally:
        shutil.move(aside, file)
        install(file, weights)


def test_the_cache_may_be_removed(place: Path) -> None:
    weights = tuner.Run("t").spec.backbones[0].files[0].weights
    backbones.weights_path(weights).unlink()
    tuner.resume("t", progress=False)
    assert backbones.weights_path(weights).is_file()


def request(place: Path, weights: str, **fields: object) -> SearchRequest:
    return SearchRequest(
        targets=(BOARD,), data=str(place / "high.npz"), max_candidates=2, weights=weights, **fields
    )


def test_a_run_is_repeated_with_the_same_weights(place: Path) -> None:
    config = tuner.Run("t").folder / "run.json"
    again, _ = read_request({"name": "again"}, where="tune", config=config)
    spec = prepare_run(again).spec()
    assert spec.backbones == tuner.Run("t").spec.backbones
    assert spec.spaces == ("transfer",)
    both = prepare_run(request(place, "base@1", name="both", spaces=("residual",))).spec()
    assert both.spaces == ("residual", "transfer")
    assert request_again(both).spaces == ("residual",)


def test_a_file_that_was_changed_is_not_searched_with_again(place: Path) -> None:
    weights = tuner.Run("t").spec.backbones[0].files[0].weights
    file = Path(shutil.copy(backbones.weights_path(weights), place / "mine.npz"))
    spec = prepare_run(request(place, "mine.npz", name="filed")).spec()
    assert spec.weights == str(file)
    assert spec.backbones == tuner.Run("t").spec.backbones
    write_changed(file, *backbones.read_kept(file))
    message = r"not what the run was made with: expected the fing.* or give --weights .*mine\.npz "
    with pytest.raises(InputError, match=message):
        prepare_run(request_again(spec))
    fresh, _ = read_request(
        {"weights": str(file), "name": "changed"},
        where="tune",
        config=place / "runs" / "filed" / "run.json",
    )
    assert prepare_run(fresh).spec().backbones != spec.backbones


@pytest.mark.parametrize(
    ("weights", "error", "message"),
    [
        ("base@7", UnknownNameError, r"Unknown version of base '7'"),
        ("bose@1", UnknownNameError, r"Unknown model 'bose'\. Did you mean 'base'"),
        ("base", InputError, r"Expected imagenet, MODEL@N or a file .* Received: base, no file"),
        ("high.npz", InputError, r"Expected the weights of a MobileNet of keras\.applications"),
    ],
)
def test_weights_that_cannot_be_used(
    place: Path, weights: str, error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        prepare_run(request(place, weights))


def test_a_net_without_a_head_to_replace(place: Path) -> None:
    flat = residual_candidate(3).architecture
    nodes = flat.nodes[:-2]
    with pytest.raises(InputError, match=r"layers of flat@1 cannot be taken over: expected conv"):
        backbones.read_model(
            place / "models" / "base" / "1" / "model.keras",
            "flat@1",
            dataclasses.replace(flat, nodes=nodes, outputs=(nodes[-1].name,)),
            "signed",
        )
    wider = residual_candidate(3, filters=16).architecture
    with pytest.raises(InputError, match=r"Expected the layers of base@1 in .* Received others"):
        backbones.read_model(
            place / "models" / "base" / "1" / "model.keras", "base@1", wider, "signed"
        )


def test_imagenet_weights_of_nets_that_do_not_fit_are_not_asked_for(place: Path) -> None:
    small = dataclasses.replace(
        request(place, "imagenet"), targets=("nano33ble",), limits=Limits(flash_bytes=150 << 10)
    )
    with pytest.raises(NothingFitsError, match=r"No net that Keras has ImageNet weights for fits"):
        prepare_run(small)
