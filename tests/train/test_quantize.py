"""Int8 by a chosen recipe: the same file as the converter's but for its numbers, and better."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec

import keras
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from hard_nets_support import enlarge
from tuner import catalog
from tuner.cost.lower import lower
from tuner.data import open_dataset
from tuner.data.preprocess import scale
from tuner.data.stratify import stratified_rows
from tuner.runtimes.interpreter import run_tflite
from tuner.runtimes.recorder import recorded_arena
from tuner.runtimes.tflite_file import parse_graph
from tuner.spec import (
    Add,
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
    Preprocessing,
)
from tuner.testing.architectures import random_architecture
from tuner.testing.referee import space_architectures
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras, start_anew
from tuner.train.convert import INPUT_RANGES, convert_tflite
from tuner.train.float_net import FloatNet
from tuner.train.quantize import (
    NEGLIGIBLE,
    Agreement,
    Quantizer,
    agreement,
    logits_range,
    quantize_best,
    quantize_min_max,
    signal_to_noise,
)
from tuner.train.recipes import RECIPES, Recipe

SIGNED = INPUT_RANGES["signed"]
PLAIN = RECIPES[0]
NETS = {
    **{f"random{seed}": random_architecture(seed) for seed in (1, 4)},
    **{name: next(space_architectures(name, 1)) for name in sorted(catalog.names("search_spaces"))},
}
"""Plain, separable and residual ones, with and without an upper end of their rectifiers; those of
the search spaces are of two classes and grey."""


def untrained(architecture: Architecture) -> tuple[keras.Model, np.ndarray]:
    """A net with weights as if trained, and images for it."""
    start_anew(0)
    model = build_keras(architecture)
    randomize_weights(model, 0)
    images = np.random.default_rng(0).uniform(-1, 0.99, (8, *model.input_shape[1:]))
    return model, images.astype(np.float32)


@pytest.mark.parametrize("name", NETS)
def test_every_recipe_gives_the_converters_file_but_for_its_numbers(name: str):
    model, images = untrained(NETS[name])
    default = convert_tflite(model, "int8", images, input_range=SIGNED)
    wanted = parse_graph(default)
    float32 = convert_tflite(model, "float32")
    quantizer = Quantizer(float32, images, SIGNED)
    operators = lower(NETS[name]).operators  # the order of `Build.snr_db` is theirs
    assert [item.kind for item in operators] == [item.kind for item in wanted.operators]
    for recipe in RECIPES:
        content = quantizer.quantize(recipe)
        assert len(content) == len(default), recipe
        graph = parse_graph(content)
        assert [item.kind for item in graph.operators] == [item.kind for item in wanted.operators]
        assert graph.precision == "int8"
        if recipe == PLAIN:
            ours, theirs = (
                run_tflite(file, "int8", images, "builtin") for file in (content, default)
            )
            exact = run_tflite(float32, "float32", images, "builtin")
            assert np.std(ours - exact) < 1.3 * np.std(theirs - exact)
            assert quantize_min_max(float32, images, SIGNED) == content
        if find_spec("tflite_micro"):
            assert recorded_arena(content) == recorded_arena(default), recipe


@pytest.mark.parametrize("name", NETS)
def test_equalizing_changes_no_logit(name: str):
    model, images = untrained(NETS[name])
    same_after_equalizing(convert_tflite(model, "float32"), images)


def same_after_equalizing(content: bytes, images: np.ndarray) -> None:
    changed = Quantizer(content, images, SIGNED).prepared(True)[0]
    before, after = (run_tflite(file, "float32", images, "xnnpack") for file in (content, changed))
    np.testing.assert_allclose(after, before, atol=1e-3 * np.abs(before).max())
    assert changed != content


def test_the_choice_repeats_exactly():
    model, images = untrained(NETS["random4"])
    content = convert_tflite(model, "float32")
    first, second = (quantize_best(content, images[:4], images[4:], SIGNED) for _ in range(2))
    assert first == second


def test_a_single_image_is_enough():
    model, images = untrained(NETS["random4"])
    one = images[:1]
    best = quantize_best(convert_tflite(model, "float32"), one, one, SIGNED, RECIPES[:4])
    assert best.agreement.images == 1
    assert np.isfinite(run_tflite(best.content, "int8", images, "builtin")).all()


def test_a_shared_bias_is_changed_for_one_layer_alone():
    # Two convolutions without biases of their own share the zeros that stand for them.
    nodes = [Node(name="image", op=Input(height=8, width=8, channels=3))]
    for index in range(3):
        convolution = Conv2D(filters=4, batch_norm=False)
        nodes.append(Node(name=f"c{index}", op=convolution, inputs=(nodes[-1].name,)))
    nodes.append(Node(name="pool", op=GlobalAveragePool2D(), inputs=(nodes[-1].name,)))
    nodes.append(Node(name="logits", op=Dense(units=4), inputs=("pool",)))
    start_anew(0)
    model = build_keras(Architecture(nodes=tuple(nodes), outputs=("logits",)))
    net = FloatNet(convert_tflite(model, "float32"))
    biases = [operator.bias for operator in net.operators if operator.bias >= 0]
    assert len(biases) == len(set(biases)) == 3  # the converter drops those of the last layer
    net.set_constant(biases[0], np.ones(4, np.float32))
    again = FloatNet(net.content())
    found = [again.constant(item.bias) for item in again.operators if item.bias >= 0]
    assert [bias.sum() for bias in found] == [4.0, 0.0, 0.0]


@dataclass(frozen=True)
class Trained:
    """A net that knows digits, and images of them."""

    model: keras.Model
    calibration: np.ndarray
    held_back: np.ndarray
    images: np.ndarray
    labels: np.ndarray

    def correct(self, content: bytes, precision: str) -> float:
        logits = run_tflite(content, precision, self.images, "xnnpack")
        return float((logits.argmax(axis=1) == self.labels).mean())


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Callable[[], Trained]:
    """Gives a trained residual net, as it was before any test changed its weights."""
    cache = tmp_path_factory.mktemp("cache")
    dataset = open_dataset("sample:digits", split_seed=0, cache=cache)
    pixels = Preprocessing(height=8, width=8, colour="grey")
    (images, labels), (others, wanted) = (
        dataset.arrays(pixels, split, cache) for split in ("training", "validation")
    )
    rows, held_back = stratified_rows(labels, (100, 200))
    architecture = Architecture(
        nodes=(
            Node(name="image", op=Input(height=8, width=8, channels=1)),
            Node(name="stem", op=Conv2D(filters=16), inputs=("image",)),
            Node(name="depthwise", op=DepthwiseConv2D(), inputs=("stem",)),
            Node(name="narrow", op=Conv2D(filters=16, kernel=1), inputs=("depthwise",)),
            Node(name="inner", op=Conv2D(filters=24), inputs=("narrow",)),
            Node(name="outer", op=Conv2D(filters=16, activation="linear"), inputs=("inner",)),
            Node(name="add", op=Add(activation="relu"), inputs=("narrow", "outer")),
            Node(name="last", op=Conv2D(filters=24), inputs=("add",)),
            Node(name="pool", op=GlobalAveragePool2D(), inputs=("last",)),
            Node(name="logits", op=Dense(units=10), inputs=("pool",)),
        ),
        outputs=("logits",),
    )
    start_anew(1)
    model = build_keras(architecture)
    loss = keras.losses.SparseCategoricalCrossentropy(from_logits=True)
    model.compile(keras.optimizers.Adam(0.005), loss)
    model.fit(scale(images, "signed"), labels, batch_size=64, epochs=12, verbose=0)
    weights = model.get_weights()

    def fresh() -> Trained:
        model.set_weights(weights)
        return Trained(
            model,
            scale(images[rows], "signed"),
            scale(images[held_back], "signed"),
            scale(others, "signed"),
            wanted,
        )

    return fresh


def lost_and_left(net: Trained, calibration: np.ndarray | None = None) -> tuple[float, float]:
    """Points of accuracy that int8 loses by the converter, and by the chosen recipe."""
    images = net.calibration if calibration is None else calibration
    float32 = convert_tflite(net.model, "float32")
    default = convert_tflite(net.model, "int8", images, input_range=SIGNED)
    best = quantize_best(float32, images, net.held_back, SIGNED)
    exact = net.correct(float32, "float32")
    assert exact > 0.9
    return tuple(100.0 * (exact - net.correct(file, "int8")) for file in (default, best.content))


def test_channels_of_very_different_size_are_recovered(digits: Callable[[], Trained]):
    net = digits()
    enlarge(net.model, "n1", "n2", slice(0, 3), 200.0)
    enlarge(net.model, "n2", "n3", slice(0, 3), 200.0)
    enlarge(net.model, "n4", "n5", slice(0, 4), 200.0)
    lost, left = lost_and_left(net)
    assert lost > 5.0
    assert left < 1.0


def test_wide_activations_are_recovered(digits: Callable[[], Trained]):
    net = digits()
    raise_by(net.model, "n2", "n3", channel=0, height=300.0)
    lost, left = lost_and_left(net)
    assert lost > 5.0
    assert left < 1.0


def raise_by(model: keras.Model, layer: str, reader: str, channel: int, height: float) -> None:
    """Add to a channel of a layer, and take it away after the 1 x 1 convolution that reads it."""
    beta, mean = model.get_layer(f"{layer}b").beta, model.get_layer(f"{reader}b").moving_mean
    values = beta.numpy()
    values[channel] += height
    beta.assign(values)
    mean.assign_add(height * model.get_layer(reader).kernel[0, 0, channel])


def test_one_odd_image_among_those_that_calibrate_is_left_out(digits: Callable[[], Trained]):
    net = digits()
    board = np.indices((8, 8)).sum(axis=0) % 2 * 1.98 - 1.0
    detect(net.model, np.sign(board[:3, :3]), channel=0, gain=100.0)
    odd = np.concatenate([net.calibration, board[None, :, :, None].astype(np.float32)])
    lost, left = lost_and_left(net, odd)
    assert lost > 5.0
    assert left < 1.0


def detect(model: keras.Model, pattern: np.ndarray, channel: int, gain: float) -> None:
    """Make a channel of the first layer large where a pattern is, and 0 on digits, unread."""
    kernel, depthwise = (model.get_layer(name).kernel for name in ("n1", "n2"))
    weights = kernel.numpy()
    weights[:, :, 0, channel] = pattern
    kernel.assign(weights)
    read = depthwise.numpy()
    read[:, :, channel] = 0.0
    depthwise.assign(read)
    normalization = model.get_layer("n1b")
    for variable, value in (
        (normalization.gamma, gain), (normalization.beta, -6.0 * gain),
        (normalization.moving_mean, 0.0), (normalization.moving_variance, 1.0),
    ):  # fmt: skip
        values = variable.numpy()
        values[channel] = value
        variable.assign(values)


def test_logits_that_decide_nothing_are_cut_off():
    logits = np.array([[9.0, 8.0, -40.0], [30.0, 2.0, -60.0], [3.0, 1.0, 0.0]], np.float32)
    assert logits_range(logits) == pytest.approx((3.0 - NEGLIGIBLE, 8.0 + NEGLIGIBLE))
    near = np.array([[1.0, 0.0], [-1.0, 2.0]], np.float32)
    assert logits_range(near) == (-1.0, 2.0)


@given(
    arrays(
        np.float32,
        st.tuples(st.integers(1, 6), st.integers(2, 4)),
        elements=st.floats(-60, 60, width=32),
    )
)
def test_no_probability_that_matters_is_cut_off(logits: np.ndarray):
    """Also where each image is certain, and nothing lies near a second class."""
    low, high = logits_range(logits)
    assert logits.min() <= low <= high <= logits.max()
    kept = agreement(logits, np.clip(logits, low, high))
    ties = (np.sort(logits, axis=1)[:, -1:] - logits < 1e-4).sum(axis=1) > 1
    assert kept.changed <= ties.sum()
    assert kept.divergence < 1e-3


def test_agreement_counts_classes_and_measures_probabilities():
    float32 = np.log(np.array([[0.5, 0.25, 0.25], [0.1, 0.8, 0.1]], np.float32))
    same = agreement(float32, float32 + np.array([[5.0], [-1.0]], np.float32))
    assert (same.images, same.changed, same.divergence) == (2, 0, pytest.approx(0.0, abs=1e-6))
    other = agreement(float32, np.log(np.array([[0.25, 0.5, 0.25], [0.1, 0.8, 0.1]], np.float32)))
    assert (other.changed, other.divergence) == (1, pytest.approx(0.25 * np.log(2) / 2, abs=1e-6))


def test_signal_to_noise_is_of_each_operator(digits: Callable[[], Trained]):
    net = digits()
    float32 = convert_tflite(net.model, "float32")
    quantizer = Quantizer(float32, net.calibration, SIGNED)
    int8 = quantizer.quantize(PLAIN)
    found = signal_to_noise(float32, int8, net.calibration[:4])
    assert len(found) == len(parse_graph(int8).operators)
    assert all(20.0 < ratio < 60.0 for ratio in found)
    enlarge(net.model, "n4", "n5", slice(0, 4), 200.0)
    float32 = convert_tflite(net.model, "float32")
    worse = Quantizer(float32, net.calibration, SIGNED).quantize(PLAIN)
    after = signal_to_noise(float32, worse, net.calibration[:4])
    # As good up to the layer whose channels differ; the next one tells that they do.
    assert after[:3] == found[:3]
    assert after[4] < found[4] - 10.0


def test_a_recipe_that_changes_more_classes_is_not_taken(
    digits: Callable[[], Trained], monkeypatch: pytest.MonkeyPatch
):
    net = digits()
    recipes = (PLAIN, Recipe(ranges="least-error"))
    seen = iter(
        [agreement_of(0, 0.5), agreement_of(3, 0.1), agreement_of(0, 0.5), agreement_of(2, 0.1)]
    )
    monkeypatch.setattr("tuner.train.quantize.agreement", lambda *_: next(seen))
    float32 = convert_tflite(net.model, "float32")
    first, second = (
        quantize_best(float32, net.calibration, net.held_back, SIGNED, recipes) for _ in range(2)
    )
    assert first.recipe == PLAIN  # 3 are more than 0 beyond chance
    assert second.recipe == recipes[1]


def agreement_of(changed: int, divergence: float) -> Agreement:
    return Agreement(images=100, changed=changed, divergence=divergence)
