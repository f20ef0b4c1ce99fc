"""Quantization-aware training: every space, the file that comes out, and what is carried back."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from typing import Any

import keras
import numpy as np
import pytest

from tuner import catalog
from tuner.errors import TuneError
from tuner.propose.choices import RandomChoices
from tuner.runtimes.interpreter import run_tflite
from tuner.spec import (
    Add,
    Architecture,
    AveragePool2D,
    Candidate,
    Context,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    Dropout,
    Flatten,
    Input,
    Limits,
    Node,
    Preprocessing,
    TrainingSettings,
)
from tuner.testing.weights import randomize_weights
from tuner.train import quantization_aware
from tuner.train.build import build_keras, start_anew
from tuner.train.convert import INPUT_RANGES, convert_tflite, convert_with_ranges
from tuner.train.loop import LabelledImages, train
from tuner.train.quantization_aware import QuantizationAwareNet
from tuner.train.quantize import logits_range

SPACES = sorted(catalog.names("search_spaces"))
SMALL = {"mobilenets": 5, "residual": 4, "wide_mobile": 5}
"""Seeds that draw a small net where 1 draws a large one."""

LOSS = keras.losses.SparseCategoricalCrossentropy(from_logits=True)


def drawn(space: str) -> Candidate:
    """A small candidate of a space, for squares of 24 pixels."""
    module = catalog.load_module("search_spaces", space)
    context = Context(
        limits=Limits(ram_bytes=64 << 10, flash_bytes=128 << 10),
        kernels="cmsis-nn",
        accelerated=False,
        image_height=24,
        image_width=24,
        colour="rgb",
        outputs=4,
    )
    candidate = module.draw(RandomChoices(SMALL.get(space, 1)), context)
    settings = TrainingSettings(batch_size=32, learning_rate=0.002)
    return dataclasses.replace(candidate, training=settings)


def squares(candidate: Candidate, count: int, seed: int) -> LabelledImages:
    """Noise, and a bright square in one of four corners, which is the label."""
    generator = np.random.default_rng(seed)
    image = candidate.architecture.input
    labels = generator.integers(0, 4, count)
    images = generator.integers(0, 120, (count, image.height, image.width, image.channels))
    half, side = image.height // 2, image.width // 2
    for one, label in zip(images, labels, strict=True):
        rows, columns = (label // 2) * half, (label % 2) * side
        one[rows : rows + half, columns : columns + side] += 100
    return LabelledImages(images=images.astype(np.uint8), labels=labels)


def scaled(candidate: Candidate, images: np.ndarray) -> np.ndarray:
    pixels = images.astype(np.float32)
    signed = candidate.preprocessing.scaling == "signed"
    return (pixels - 128.0) / 128.0 if signed else pixels / 255.0


def operators(content: bytes) -> list[tuple[str, tuple[int, ...], str]]:
    """Of a file: name, shape and type of what each computes."""
    from ai_edge_litert.interpreter import Interpreter, OpResolverType

    kind = OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES
    interpreter = Interpreter(model_content=content, experimental_op_resolver_type=kind)
    tensors = {item["index"]: item for item in interpreter.get_tensor_details()}
    return [
        (
            item["op_name"],
            tuple(tensors[item["outputs"][0]]["shape"]),
            np.dtype(tensors[item["outputs"][0]]["dtype"]).name,
        )
        for item in interpreter._get_ops_details()
    ]


@pytest.mark.parametrize("space", SPACES)
def test_every_space_is_trained_and_converted(space: str) -> None:
    candidate = drawn(space)
    start_anew(0)
    model = build_keras(candidate.architecture)
    net = QuantizationAwareNet(candidate.architecture, model, candidate.training)
    validation = squares(candidate, 400, seed=1)
    outcome = train(
        net, candidate, squares(candidate, 640, seed=0), validation, epochs=8, seed=0, loss=LOSS
    )
    net.give_weights(model)
    images = scaled(candidate, validation.images)
    rounded = np.asarray(net.logits(images, net.weights(), training=False)[0])
    assert (rounded.argmax(axis=-1) == validation.labels).mean() == pytest.approx(
        max(outcome.curve), abs=0.005
    )
    limits = INPUT_RANGES[candidate.preprocessing.scaling]
    content = convert_with_ranges(model, candidate.architecture, net.ranges(), limits)
    plain = convert_tflite(model, "int8", images[:50], input_range=limits)
    assert operators(content) == operators(plain)
    assert len(content) == len(plain)
    for kernels in ("xnnpack", "builtin"):
        logits = run_tflite(content, "int8", images, kernels)
        agreed = (logits.argmax(axis=-1) == rounded.argmax(axis=-1)).mean()
        assert agreed >= 0.99, outcome.curve


MIXED = (
    Node(name="image", op=Input(height=12, width=16, channels=1)),
    Node(name="a", op=Conv2D(filters=4, activation="relu", batch_norm=False), inputs=("image",)),
    Node(name="b", op=DepthwiseConv2D(activation="relu6", batch_norm=False), inputs=("a",)),
    Node(name="c", op=AveragePool2D(size=2), inputs=("b",)),
    Node(name="d", op=Conv2D(filters=4, kernel=1, activation="linear"), inputs=("c",)),
    Node(name="e", op=Add(activation="relu"), inputs=("c", "d")),
    Node(name="f", op=Flatten(), inputs=("e",)),
    Node(name="g", op=Dense(units=8, activation="relu"), inputs=("f",)),
    Node(name="h", op=Dropout(rate=0.1), inputs=("g",)),
    Node(name="logits", op=Dense(units=4), inputs=("h",)),
)
"""What the spaces' draws above leave out."""


def other_candidate(nodes: Sequence[Node], outputs: str = "logits") -> Candidate:
    return Candidate(
        preprocessing=Preprocessing(height=12, width=16, colour="grey", scaling="unit"),
        architecture=Architecture(nodes=tuple(nodes), outputs=(outputs,)),
        training=TrainingSettings(batch_size=32, learning_rate=0.01, weight_decay=0.01),
    )


def test_operators_that_no_draw_has() -> None:
    candidate = other_candidate(MIXED)
    model, net = mixed_nets()
    training, validation = squares(candidate, 640, seed=0), squares(candidate, 200, seed=1)
    train(net, candidate, training, validation, epochs=8, seed=0, loss=LOSS)
    assert sorted(net.ranges()) == ["a", "b", "d", "e", "g", "logits"]
    net.give_weights(model)
    images = scaled(candidate, validation.images)
    limits = INPUT_RANGES["unit"]
    content = convert_with_ranges(model, candidate.architecture, net.ranges(), limits)
    plain = convert_tflite(model, "int8", images[:50], input_range=limits)
    assert operators(content) == operators(plain)
    assert len(content) == len(plain)
    rounded = np.asarray(net.logits(images, net.weights(), training=False)[0])
    logits = run_tflite(content, "int8", images, "builtin")
    low, high = net.ranges()["logits"]
    assert np.abs(logits - rounded).max() <= 3 * (high - low) / 255
    assert (logits.argmax(axis=-1) == rounded.argmax(axis=-1)).mean() >= 0.99


def test_logits_that_decide_nothing_are_cut_off_their_range() -> None:
    nodes = (*MIXED[:8], Node(name="logits", op=Dense(units=4), inputs=("g",)))  # no dropout
    candidate = other_candidate(nodes)
    start_anew(0)
    model = build_keras(candidate.architecture)
    net = QuantizationAwareNet(candidate.architecture, model, candidate.training)
    images = np.random.default_rng(0).uniform(0, 1, (64, 12, 16, 1)).astype(np.float32)
    last = net._wrapped["n8"].config.kernel
    last.assign(100.0 * last)  # logits far apart
    net.logits(images, net.weights(), training=True)
    net.give_weights(model)
    batch = np.asarray(model(images, training=True))
    low, high = net.ranges()["logits"]
    assert (low, high) == pytest.approx(logits_range(batch), rel=0.2)  # of rounded activations
    assert high - low < 0.8 * (batch.max() - batch.min())


def test_a_net_that_is_sure_of_all_images_keeps_a_range() -> None:
    nodes = (*MIXED[:8], Node(name="logits", op=Dense(units=4), inputs=("g",)))
    candidate = other_candidate(nodes)
    start_anew(0)
    model = build_keras(candidate.architecture)
    model.get_layer("n8").bias.assign([50.0, -50.0, -50.0, -50.0])
    net = QuantizationAwareNet(candidate.architecture, model, candidate.training)
    images = np.random.default_rng(0).uniform(0, 1, (64, 12, 16, 1)).astype(np.float32)
    rounded = np.asarray(net.logits(images, net.weights(), training=True)[0])
    low, high = net.ranges()["logits"]
    assert low <= -9.0 < high
    assert (rounded.argmax(axis=-1) == 0).all()
    net.give_weights(model)
    content = convert_with_ranges(model, candidate.architecture, net.ranges(), (0.0, 1.0))
    assert (run_tflite(content, "int8", images, "builtin").argmax(axis=-1) == 0).all()


def mixed_nets() -> tuple[keras.Model, QuantizationAwareNet]:
    """A net of all operators, and the one that rounds."""
    candidate = other_candidate(MIXED)
    start_anew(0)
    model = build_keras(candidate.architecture)
    return model, QuantizationAwareNet(candidate.architecture, model, candidate.training)


def test_weights_are_rounded_by_channel() -> None:
    model, net = mixed_nets()
    net.logits(np.zeros((1, 12, 16, 1), np.float32), net.weights(), training=True)
    kernels = {
        "n1": (model.get_layer("n1").kernel, "kernel", (0, 1, 2)),
        "n2": (model.get_layer("n2").kernel, "depthwise_kernel", (0, 1, 3)),
        "n7": (model.get_layer("n7").kernel, "kernel", (0,)),
    }
    for name, (kernel, attribute, others) in kernels.items():
        weights = np.asarray(kernel)
        step = np.abs(weights).max(axis=others, keepdims=True) / 127
        rounded = np.asarray(getattr(net._wrapped[name].inner, attribute))
        np.testing.assert_allclose(rounded, np.rint(weights / step) * step, atol=1e-5)
        assert np.abs(rounded - weights).max() > 0


def test_gradients_go_straight_through_the_rounding(monkeypatch: pytest.MonkeyPatch) -> None:
    import tensorflow as tf

    images = np.random.default_rng(0).uniform(0, 1, (8, 12, 16, 1)).astype(np.float32)

    def found() -> list[np.ndarray]:
        _, net = mixed_nets()
        net.logits(images / 3, net.weights(), training=True)  # ranges that many values are beyond

        @tf.function(autograph=False)
        def gradients() -> list[tf.Tensor]:
            logits, _ = net.logits(images, net.weights(), training=True)
            inner = [net._wrapped["n7"].inner.kernel]  # as rounded
            return tf.gradients(tf.reduce_sum(logits**2), [*inner, *net.weights()])

        return [gradient.numpy() for gradient in gradients()]

    def by_definition(values: Any, low: Any, high: Any, gradient: str) -> Any:
        rounded = tf.quantization.fake_quant_with_min_max_vars(values, low, high, num_bits=8)
        exact = getattr(tf.nn, gradient, tf.identity)(values)
        return exact + tf.stop_gradient(rounded - exact)

    ours = found()
    monkeypatch.setattr(quantization_aware, "_rounded", by_definition)
    for own, same in zip(ours, found(), strict=True):
        assert np.abs(same).max() > 0
        np.testing.assert_allclose(own, same, rtol=1e-4, atol=1e-5 * np.abs(same).max())
    _, net = mixed_nets()
    place = [weight is net._wrapped["n7"].config.kernel for weight in net.weights()].index(True)
    np.testing.assert_array_equal(ours[1 + place], ours[0])


@pytest.mark.parametrize(
    ("node", "slopes"), [("a", [0.0, 1.0, 1.0, 1.0]), ("b", [0.0, 1.0, 1.0, 0.0])]
)
def test_a_rectifier_has_its_own_gradient_beyond_the_learned_range(
    node: str, slopes: list[float]
) -> None:
    import tensorflow as tf

    _, net = mixed_nets()
    images = np.random.default_rng(0).uniform(0, 1, (8, 12, 16, 1)).astype(np.float32)
    net.logits(images, net.weights(), training=True)
    rectifier = net._model.get_layer({"a": "quant_n1a", "b": "quant_n2a"}[node])
    high = net.ranges()[node][1]
    assert high < 5.9
    values = tf.constant([[-1.0, 0.5 * high, 5.9, 1e3]])
    assert rectifier(values, training=False).numpy() == pytest.approx(
        np.array([[0.0, 0.5 * high, high, high]]), abs=high / 255
    )

    @tf.function(autograph=False)
    def slope() -> list[tf.Tensor]:
        return tf.gradients(rectifier(values, training=False), values)

    assert slope()[0].numpy().tolist() == [slopes]


def test_ranges_begin_with_the_first_batch_and_follow() -> None:
    model, net = mixed_nets()
    images = np.random.default_rng(0).uniform(0, 1, (64, 12, 16, 1)).astype(np.float32)
    net.logits(images, net.weights(), training=True)
    low, high = net.ranges()["a"]
    assert low == 0.0
    first = keras.Model(model.input, model.get_layer("n1a").output)(images)
    assert high == pytest.approx(float(np.max(first)), rel=0.02)
    net.logits(2 * images, net.weights(), training=True)
    assert net.ranges()["a"][1] == pytest.approx(1.01 * high, rel=0.01)
    net.logits(9 * images, net.weights(), training=False)
    assert net.ranges()["a"][1] == pytest.approx(1.01 * high, rel=0.01)


def test_what_was_copied_is_given_back() -> None:
    candidate = other_candidate(MIXED)
    start_anew(0)
    model, other = (build_keras(candidate.architecture) for _ in range(2))
    randomize_weights(model, 3)
    net = QuantizationAwareNet(candidate.architecture, model, candidate.training)
    net.give_weights(other)
    for one, same in zip(model.get_weights(), other.get_weights(), strict=True):
        np.testing.assert_array_equal(one, same)
    kept, everything = net.snapshot(), net.everything()
    net.store(kept + 1.0)
    assert (net.snapshot() == kept + 1.0).all()
    net.set_everything(everything)
    assert (net.snapshot() == kept).all()


def test_a_file_of_other_nodes_is_refused() -> None:
    candidate = other_candidate(MIXED)
    model = build_keras(candidate.architecture)
    other = Architecture(nodes=MIXED, outputs=("a",))
    ranges = {name: (0.0, 1.0) for name in ("a", "b", "d", "e", "g")}
    with pytest.raises(
        TuneError,
        match=r"Expected ranges of the net's operators\. Received: \['b', 'd', 'e', 'g'\]",
    ):
        convert_with_ranges(model, other, ranges, (0.0, 1.0))


def test_a_node_without_an_operator_is_refused() -> None:
    candidate = other_candidate(MIXED)
    model = build_keras(candidate.architecture)
    ranges = {name: (0.0, 1.0) for name in ("a", "b", "c", "d", "e", "g", "h", "logits")}
    with pytest.raises(
        TuneError, match=r"Expected ranges of the net's operators\. Received: \['h'\]"
    ):
        convert_with_ranges(model, candidate.architecture, ranges, (0.0, 1.0))


def test_the_arena_is_that_of_the_default_file() -> None:
    pytest.importorskip("tflite_micro")
    from tuner.runtimes.recorder import recorded_arena

    candidate = other_candidate(MIXED)
    model = build_keras(candidate.architecture)
    randomize_weights(model, 3)
    names = ("a", "b", "d", "e", "g", "logits")
    ranges = {name: (-0.4, 2.0) for name in names}
    images = scaled(candidate, squares(candidate, 20, seed=0).images)
    learned = convert_with_ranges(model, candidate.architecture, ranges, INPUT_RANGES["unit"])
    plain = convert_tflite(model, "int8", images, input_range=INPUT_RANGES["unit"])
    assert recorded_arena(learned) == recorded_arena(plain)
