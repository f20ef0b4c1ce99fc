"""Reading TFLite files: the same graph that `lower` gives, and clear ends for bad ones."""

from __future__ import annotations

import math
import random
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tuner.catalog import load_target
from tuner.cost.lower import Graph, GraphOperator, lower
from tuner.errors import InputError
from tuner.runtimes import tflm
from tuner.runtimes.tflite_file import parse_graph, read_graph
from tuner.spec import Architecture, Precision, Shape
from tuner.testing.architectures import random_architecture
from tuner.testing.mlperf_tiny import MLPERF_TINY
from tuner.testing.weights import randomize_weights
from tuner.train.build import build_keras
from tuner.train.convert import convert_tflite


def convert(architecture: Architecture, precision: Precision, seed: int = 0) -> bytes:
    image = architecture.input
    model = build_keras(architecture)
    randomize_weights(model, seed)
    shape = (2, image.height, image.width, image.channels)
    images = np.random.default_rng(seed).uniform(-1, 0.99, shape).astype(np.float32)
    return convert_tflite(model, precision, images if precision == "int8" else None)


def edited(data: bytes, change: Callable[[Any], None]) -> bytes:
    """The file with its tables changed."""
    import flatbuffers
    from ai_edge_litert import schema_py_generated as schema

    model = schema.ModelT.InitFromPackedBuf(data, 0)
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


def rows(graph: Graph) -> list[tuple[object, ...]]:
    return [
        (item.kind, read_shape(item), item.output_shape, item.kernel, item.stride, item.padding,
         item.dilation, item.macs, item.weights, item.channels, item.activation)
        for item in graph.operators
    ]  # fmt: skip


def read_shape(operator: GraphOperator) -> Shape:
    """The shape that an operator reads; dense layers read any shape as one row."""
    if operator.kind == "FULLY_CONNECTED":
        return (math.prod(operator.input_shape),)
    return operator.input_shape


def assert_same(read: Graph, lowered: Graph, precision: Precision) -> None:
    width = 4 if precision == "float32" else 1
    assert rows(read) == rows(lowered)
    assert [(item.bytes, item.first, item.last) for item in read.tensors] == [
        (width * item.bytes, item.first, item.last) for item in lowered.tensors
    ]
    assert read.constants == lowered.constants
    assert read.precision == precision
    assert read.macs == lowered.macs
    positions = [
        [[item.name for item in graph.tensors].index(name) for name in operator.inputs]
        for graph in (read, lowered)
        for operator in graph.operators
    ]
    assert positions[: len(read.operators)] == positions[len(read.operators) :]


@pytest.fixture(scope="module")
def small() -> bytes:
    return convert(random_architecture(1), "int8")


@pytest.mark.parametrize("seed", range(6))
def test_a_converted_net_reads_as_it_was_lowered(seed: int) -> None:
    architecture = random_architecture(seed)
    precision: Precision = "int8" if seed % 3 else "float32"
    data = convert(architecture, precision, seed)
    read = parse_graph(data)
    assert_same(read, lower(architecture), precision)
    assert read.file_bytes == len(data)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(100, 160))
def test_more_converted_nets_read_as_they_were_lowered(seed: int) -> None:
    architecture = random_architecture(seed)
    precision: Precision = "int8" if seed % 4 else "float32"
    assert_same(parse_graph(convert(architecture, precision, seed)), lower(architecture), precision)


@pytest.mark.parametrize("name", sorted(MLPERF_TINY))
def test_the_mlperf_tiny_models_read_as_they_were_lowered(name: str) -> None:
    architecture = MLPERF_TINY[name]()
    assert_same(parse_graph(convert(architecture, "int8")), lower(architecture), "int8")


def test_operators_that_no_architecture_has() -> None:
    import keras

    image = keras.Input((12, 12, 3), batch_size=1)
    dilated = keras.layers.Conv2D(4, 3, dilation_rate=2, padding="valid")(image)
    wide = keras.layers.DepthwiseConv2D(3, depth_multiplier=2, strides=2, padding="same")(dilated)
    up = keras.layers.Conv2DTranspose(5, 3, strides=2, padding="same")(wide)
    joined = keras.layers.Concatenate()([up, up])
    summed = keras.layers.GlobalAveragePooling2D()(joined)
    model = keras.Model(image, [keras.layers.Softmax()(summed), keras.layers.Dense(3)(summed)])
    graph = parse_graph(convert_tflite(model, "float32"))
    by_kind = {operator.kind: operator for operator in graph.operators}
    conv, depthwise = by_kind["CONV_2D"], by_kind["DEPTHWISE_CONV_2D"]
    assert (conv.dilation, conv.padding, conv.output_shape) == ((2, 2), "valid", (8, 8, 4))
    assert conv.macs == 8 * 8 * 3 * 3 * 3 * 4
    assert depthwise.output_shape == (4, 4, 8)
    assert (depthwise.channels, depthwise.weights) == (8, 72)
    assert (depthwise.macs, depthwise.stride) == (4 * 4 * 72, (2, 2))
    transposed = by_kind["TRANSPOSE_CONV"]
    assert transposed.input_shape == (4, 4, 8)
    assert transposed.macs == 4 * 4 * 3 * 3 * 8 * 5
    assert transposed.stride == (2, 2)
    assert by_kind["CONCATENATION"].output_shape == (8, 8, 10)
    assert by_kind["FULLY_CONNECTED"].macs == 30
    assert by_kind["SOFTMAX"].macs == 0
    assert len(graph.outputs) == 2


def test_inputs_and_outputs_may_stay_float32() -> None:
    import tensorflow as tf

    graph = parse_graph(quantized(tf.lite.OpsSet.TFLITE_BUILTINS_INT8))
    kinds = [operator.kind for operator in graph.operators]
    assert kinds[0] == "QUANTIZE"
    assert kinds[-1] == "DEQUANTIZE"
    assert graph.precision == "int8"
    sizes = {tensor.name: tensor.bytes for tensor in graph.tensors}
    assert sizes[graph.inputs[0]] == 4 * 8 * 8  # float32
    assert sizes[graph.operators[0].outputs[0]] == 8 * 8


def quantized(operators: Any, *, data: bool = True, kind: Any = None) -> bytes:
    """A small dense net, converted with TensorFlow's own settings."""
    import keras
    import tensorflow as tf

    from tuner.train.quiet import quiet

    model = keras.Sequential(
        [keras.Input((8, 8, 1), batch_size=1), keras.layers.Conv2D(32, 3), keras.layers.Flatten(),
         keras.layers.Dense(8)]
    )  # fmt: skip
    converter = tf.lite.TFLiteConverter.from_keras_model(model)
    converter.optimizations = [tf.lite.Optimize.DEFAULT]
    converter.target_spec.supported_ops = [operators]
    if kind is not None:
        converter.target_spec.supported_types = [kind]
    if data:
        images = np.random.default_rng(0).uniform(-1, 1, (4, 1, 8, 8, 1)).astype(np.float32)
        converter.representative_dataset = lambda: ([image] for image in images)
    with quiet(), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Statistics for quantized inputs")
        return bytes(converter.convert())


def test_other_precisions_are_named() -> None:
    import tensorflow as tf

    sets = tf.lite.OpsSet
    with pytest.raises(InputError, match=r"quantized for its weights only \(dynamic range\)"):
        parse_graph(quantized(sets.TFLITE_BUILTINS, data=False))
    with pytest.raises(InputError, match="quantized to 16-bit activations"):
        parse_graph(quantized(sets.EXPERIMENTAL_TFLITE_BUILTINS_ACTIVATIONS_INT16_WEIGHTS_INT8))
    with pytest.raises(InputError, match="its weights are float16"):
        parse_graph(quantized(sets.TFLITE_BUILTINS, data=False, kind=tf.float16))


def test_a_custom_operator_goes_by_its_own_name(small: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    def change(model: Any) -> None:
        for code in model.operatorCodes:
            if code.builtinCode == schema.BuiltinOperator.MEAN:
                code.builtinCode = schema.BuiltinOperator.CUSTOM
                code.deprecatedBuiltinCode = schema.BuiltinOperator.CUSTOM
                code.customCode = "MyMean"

    assert "MyMean" in {item.kind for item in parse_graph(edited(small, change)).operators}


def test_names_that_repeat_are_told_apart(small: bytes) -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            tensor.name = "same"

    graph = parse_graph(edited(small, change))
    assert len({tensor.name for tensor in graph.tensors}) == len(graph.tensors)
    assert rows(graph) == rows(parse_graph(small))


def test_state_lives_all_the_time(small: bytes) -> None:
    def change(model: Any) -> None:
        subgraph = model.subgraphs[0]
        subgraph.tensors[subgraph.operators[0].outputs[0]].isVariable = True

    graph, plain = parse_graph(edited(small, change)), parse_graph(small)
    name = graph.operators[0].outputs[0]
    spans = {item.name: (item.first, item.last) for item in graph.tensors}
    assert spans[name] == (0, len(graph.operators))
    assert len(graph.tensors) == len(plain.tensors)


def test_an_open_batch_counts_as_one_and_an_open_side_is_refused(small: bytes) -> None:
    def open_side(axis: int) -> Callable[[Any], None]:
        def change(model: Any) -> None:
            tensor = model.subgraphs[0].tensors[model.subgraphs[0].inputs[0]]
            signature = list(tensor.shape)
            signature[axis] = -1
            tensor.shapeSignature = signature

        return change

    assert rows(parse_graph(edited(small, open_side(0)))) == rows(parse_graph(small))
    with pytest.raises(InputError, match=r"fixed shape\. 'image' has \[1, -1, 25, 1\]"):
        parse_graph(edited(small, open_side(1)))


def test_a_batch_of_several_is_refused(small: bytes) -> None:
    def change(model: Any) -> None:
        for tensor in model.subgraphs[0].tensors:
            if len(tensor.shape) == 4 and model.buffers[tensor.buffer].data is None:
                tensor.shape = [8, *tensor.shape[1:]]

    with pytest.raises(InputError, match=r"expected a batch of 1\. .* reads the shape \[8, 25"):
        parse_graph(edited(small, change))


def test_several_subgraphs_and_no_operators_are_refused(small: bytes) -> None:
    def double(model: Any) -> None:
        model.subgraphs.append(model.subgraphs[0])

    def empty(model: Any) -> None:
        model.subgraphs[0].operators = []

    with pytest.raises(InputError, match=r"one subgraph\. Received: 2; control flow"):
        parse_graph(edited(small, double))
    with pytest.raises(InputError, match="at least one operator"):
        parse_graph(edited(small, empty))


def test_files_that_are_not_there_or_not_tflite(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"Expected a TFLite file at .*; there is none"):
        read_graph(tmp_path / "no.tflite")
    with pytest.raises(InputError, match="Received a folder"):
        read_graph(tmp_path)
    text = tmp_path / "text.tflite"
    text.write_text("hello, this is text")
    with pytest.raises(InputError, match=r"with TFL3 at byte 4\. Received: 19 bytes that begin"):
        read_graph(text)
    text.write_bytes(b"")
    with pytest.raises(InputError, match="Received: 0 bytes"):
        read_graph(text)


def test_a_cut_file_is_refused_at_every_length(small: bytes) -> None:
    for length in range(8, len(small), 97):
        with pytest.raises(InputError, match=f"damaged or cut off at {length} bytes"):
            parse_graph(small[:length])


def test_a_damaged_file_never_raises_anything_else(small: bytes) -> None:
    """Anywhere in the file; what can still be read must have costs."""
    generator = random.Random(0)
    target = load_target("esp32s3")
    refused = 0
    for _ in range(300):
        damaged = bytearray(small)
        for _ in range(generator.randint(1, 30)):
            damaged[generator.randrange(8, len(small))] = generator.randrange(256)
        try:
            assert tflm.cost(parse_graph(bytes(damaged)), target).ram_bytes.value > 0
        except InputError:
            refused += 1
    assert 100 < refused < 300


def test_options_of_another_operator_are_damage(small: bytes) -> None:
    from ai_edge_litert import schema_py_generated as schema

    def swapped(operator: Any) -> None:
        operator.builtinOptionsType = schema.BuiltinOptions.ReshapeOptions
        operator.builtinOptions = schema.ReshapeOptionsT()

    def without(operator: Any) -> None:
        operator.builtinOptionsType, operator.builtinOptions = schema.BuiltinOptions.NONE, None

    def standing_still(operator: Any) -> None:
        operator.builtinOptions.strideW = 0

    for change in (swapped, without, standing_still):
        data = edited(small, lambda model, change=change: change(model.subgraphs[0].operators[0]))
        with pytest.raises(InputError, match=r"damaged or cut off at \d+ bytes"):
            parse_graph(data)


def test_reading_loads_no_tensorflow(small: bytes, tmp_path: Path) -> None:
    import subprocess
    import sys

    path = tmp_path / "small.tflite"
    path.write_bytes(small)
    code = (
        "import sys, time; from pathlib import Path\n"
        "from tuner.runtimes.tflite_file import read_graph\n"
        "read_graph(Path(sys.argv[1]))\n"
        "print([name for name in ('tensorflow', 'keras') if name in sys.modules])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(path)], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "[]"
