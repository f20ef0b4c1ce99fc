"""A device's compiler gets equalized channels where they keep a net's answers, else the net."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hard_nets_support import enlarge
from k230_board_support import two_convolutions
from tests_support import quantity
from tuner.engine import compiling, finalists
from tuner.engine.builds import make_builds
from tuner.engine.compiling import compile_nearest, recipes_in_words
from tuner.engine.images import labelled, open_data
from tuner.engine.search import SearchRequest, prepare_run
from tuner.errors import MachineError, TuneError
from tuner.models.export import check_passed, export
from tuner.runtimes import CompiledModel, nncase
from tuner.spec import to_plain
from tuner.store.models import ModelFolder
from tuner.testing.models import trained

NET = two_convolutions(outputs=10, side=16, colour="grey")


def make_hard(model: ModelFolder) -> None:
    """Enlarge channels of the net, which changes no answer of it."""
    from tuner.train.build import load_keras

    path = model.path / "model.keras"
    net = load_keras(path)
    names = [layer.name for layer in net.layers if hasattr(layer, "kernel")]
    enlarge(net, names[0], names[1], slice(0, 3), 200.0)
    net.save(path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> Counter[str]:
    """How often the real compiler was asked."""
    found: Counter[str] = Counter()
    compile_model = nncase.compile_model

    def counted(*arguments: Any) -> CompiledModel:
        found["compile"] += 1
        return compile_model(*arguments)

    monkeypatch.setattr(nncase, "compile_model", counted)
    return found


def searched(model: ModelFolder, home: Path) -> dict[str, Any]:
    """The build that a search would rank the net by, with its real compiler and simulator."""
    from tuner.train.build import load_keras

    net = load_keras(model.path / "model.keras")
    spec = prepare_run(
        SearchRequest(targets=("k230",), data="sample:digits", max_candidates=1)
    ).spec()
    spec = replace(spec, dataset=model.read().dataset)
    training = labelled(open_data(spec.dataset), NET, "training")
    builds = make_builds(net, NET, training, [("litert", "xnnpack")], home)
    finalists.write_camera_model(net, spec, home)
    given = finalists.measure_builds(
        to_plain(spec), home, to_plain(NET), to_plain(builds), ["k230"], 100, None
    )
    assert not given["unmeasured"]
    (build,) = given["builds"].values()
    return build


@pytest.mark.usefixtures("compiler")
def test_channels_of_very_different_size_are_equalized_in_search_and_export(
    home: Path, asked: Counter[str]
) -> None:
    model = trained(NET, "sample:digits", "digits")
    make_hard(model)
    build = searched(model, home)
    assert asked["compile"] == 2
    assert build["recipe"].endswith("over 100 training images, equalized channels")
    beside = build["beside_float32"]["validation"]
    assert beside["images"] == 100
    assert beside["lost"] <= 1, "float32's answers are kept"
    assert searched(model, home) == build
    assert asked["compile"] == 2, "what was chosen is not chosen again"

    folder = export(model, ["k230", "k230_int16"], home / "out")
    assert asked["compile"] == 6, "weights of 8 bits need it beside activations of 16 too"
    check_passed(folder)
    for name in ("k230", "k230_int16"):
        source = folder / name / "mp_deployment_source"
        config = json.loads((source / "deploy_config.json").read_text())
        assert config["recipe"].endswith("over 100 training images, equalized channels")
        guide = (folder / name / "README.md").read_text()
        assert "| Compiled from | The net with its channels equalized, which changes no" in guide
        assert "; for the net as it is probabilities diverge by " in guide
        if name == "k230":
            assert config["recipe"] == build["recipe"]
            assert (source / config["kmodel_path"]).stat().st_size == build["size_bytes"]


@pytest.mark.usefixtures("compiler")
def test_a_usual_net_is_compiled_once_as_it_is(home: Path, asked: Counter[str]) -> None:
    model = trained(NET, "sample:digits", "digits")
    build = searched(model, home)
    assert asked["compile"] == 1
    assert build["recipe"].endswith("over 100 training images")
    folder = export(model, ["k230"], home / "out")
    assert asked["compile"] == 2
    guide = (folder / "k230" / "README.md").read_text()
    assert "| Compiled from | The net as it is, which is near to float32: " in guide


class FalseCompiler:
    """Compiles at once; what its models say is this far from float32's logits, in their order."""

    def __init__(self, *errors: float) -> None:
        self.errors = list(errors)
        self.nets: list[bytes] = []
        self.calibration = self.compared = np.zeros(0)

    def compile_model(
        self, model: bytes, calibration: np.ndarray, input_range: tuple[float, float]
    ) -> CompiledModel:
        self.nets.append(model)
        self.calibration = calibration
        return CompiledModel(
            content=b"", suffix=".bin", recipe="by it", measured={"latency_ms": quantity(1.0)}
        )

    def simulate(
        self, content: bytes, images: np.ndarray, seconds: float | None, at_least: int
    ) -> np.ndarray:
        self.compared = images
        return self.logits(images) + np.float32([self.errors[len(self.nets) - 1], 0.0])

    def predict(self, model: bytes, precision: str, images: np.ndarray) -> np.ndarray:
        return self.logits(images)

    def logits(self, images: np.ndarray) -> np.ndarray:
        return np.tile(np.float32([1.0, 0.0]), (len(images), 1))


@pytest.mark.parametrize(
    ("errors", "compiled", "taken"),
    [
        ((0.1,), 1, False),
        ((2.0, 0.5), 2, True),
        ((2.0, 3.0), 2, False),
        ((float("nan"), 3.0), 2, True),
        ((2.0, float("nan")), 2, False),
    ],
)
def test_the_nearer_one_is_taken(
    errors: tuple[float, ...], compiled: int, taken: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[np.ndarray] = []

    def equalized(_: bytes, images: Iterable[np.ndarray]) -> bytes:
        seen.extend(images)
        return b"equalized"

    monkeypatch.setattr("tuner.train.quantize.equalized", equalized)
    compiler = FalseCompiler(*errors)
    images = np.arange(150, dtype=np.uint8)[:, None, None, None] * np.ones((1, 2, 2, 1), np.uint8)
    found = compile_nearest(compiler, b"net", images, "signed")
    assert compiler.nets == [b"net", b"equalized"][:compiled]
    assert found.compiled.recipe == ("by it, equalized channels" if taken else "by it")
    assert found.reason.startswith("The net with" if taken else "The net as it is")
    assert compiler.calibration.shape == (100, 2, 2, 3)
    assert len(compiler.compared) == compiling.COMPARED_IMAGES
    others = 150 - compiling.COMPARED_IMAGES
    assert [image.shape for image in seen] == others * (compiled - 1) * [(2, 2, 3)]
    made_by = {*compiler.calibration[:, 0, 0, 0], *(128 + 128 * image[0, 0, 0] for image in seen)}
    assert not made_by & {*compiler.compared[:, 0, 0, 0]}, "it is compared on images of its own"


def test_where_the_equalized_net_is_refused_it_is_the_net_as_it_is(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    class Strict(FalseCompiler):
        raises: type[TuneError] = TuneError

        def compile_model(self, model: bytes, *settings: Any) -> CompiledModel:
            if model == b"equalized":
                raise self.raises("it is too wide")
            return super().compile_model(model, *settings)

    monkeypatch.setattr("tuner.train.quantize.equalized", lambda *_: b"equalized")
    images = np.zeros((1, 2, 2, 3), np.uint8)
    compiler = Strict(2.0, 2.0)
    found = compile_nearest(compiler, b"net", images, "unit")
    assert found.compiled.recipe == "by it"
    assert found.reason.endswith("With its channels equalized it was refused: it is too wide")
    compiler.raises = MachineError
    with pytest.raises(MachineError, match="too wide"):
        compile_nearest(compiler, b"net", images, "unit")


@pytest.mark.parametrize("count", [1, 16, 100, 101])
def test_few_images_are_compared_on_themselves(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[np.ndarray] = []
    monkeypatch.setattr(
        "tuner.train.quantize.equalized", lambda _, images: seen.extend(images) or b"equalized"
    )
    compiler = FalseCompiler(2.0, 2.0)
    compile_nearest(compiler, b"net", np.zeros((count, 2, 2, 3), np.uint8), "unit")
    compared = {1: 1, 101: 1}.get(count, compiling.COMPARED_IMAGES)
    assert len(compiler.compared) == compared
    assert len(seen) == (count - compared or count), "channels have sizes by those not compared"


def test_recipes_of_several_candidates_are_told_in_short() -> None:
    plain, equalized = "by it", "by it, equalized channels"
    assert recipes_in_words([plain, plain]) == "by it"
    assert recipes_in_words([equalized, plain, plain]) == "by it; 1 with equalized channels"
    assert recipes_in_words(["by another", plain]) == "by another or by it"
