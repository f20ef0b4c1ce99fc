from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner import catalog
from tuner.cost.arena import DEVICE_32, HOST_64, Buffer, greedy_offsets, plan_arena
from tuner.cost.flash import model_file_bytes
from tuner.cost.lower import lower
from tuner.cost.scratch import TFLM_KERNELS, scratch_buffers
from tuner.propose.choices import RandomChoices
from tuner.spec import (
    Architecture,
    Context,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Limits,
    Node,
)
from tuner.testing.architectures import random_architecture

seeds = st.integers(0, 10**6)


def single(operator: Conv2D | DepthwiseConv2D, side: int = 16, channels: int = 16) -> Architecture:
    image = Node(name="input", op=Input(height=side, width=side, channels=channels))
    return Architecture(
        nodes=(image, Node(name="only", op=operator, inputs=("input",))), outputs=("only",)
    )


@given(seeds)
def test_head_holds_each_operators_input_and_output(seed: int) -> None:
    graph = lower(random_architecture(seed))
    arena = plan_arena(graph)
    assert arena.head_bytes >= max(
        operator.input_elements + operator.output_elements for operator in graph.operators
    )
    assert arena.head_bytes <= sum(tensor.bytes + 15 for tensor in graph.tensors) + 16 * 1024
    assert arena.head_bytes % 16 == 0
    assert arena.peak_at in {"", *(operator.name for operator in graph.operators)}


@given(seeds)
def test_a_device_has_the_hosts_head_and_a_smaller_tail(seed: int) -> None:
    graph = lower(random_architecture(seed))
    device, host = plan_arena(graph, structs=DEVICE_32), plan_arena(graph, structs=HOST_64)
    assert device.head_bytes == host.head_bytes
    assert 0 < device.tail_bytes < host.tail_bytes


@given(seeds)
def test_kernels_with_scratch_never_need_less(seed: int) -> None:
    graph = lower(random_architecture(seed))
    plain = plan_arena(graph, kernels="reference")
    for kernels in TFLM_KERNELS:
        assert plan_arena(graph, kernels=kernels).scratch_bytes >= plain.scratch_bytes


@given(
    st.lists(
        st.tuples(st.integers(1, 200), st.integers(0, 10), st.integers(0, 4)),
        min_size=1,
        max_size=20,
    )
)
def test_buffers_alive_together_do_not_overlap(drawn: list[tuple[int, int, int]]) -> None:
    buffers = [Buffer(size=16 * size, first=first, last=first + length)
               for size, first, length in drawn]  # fmt: skip
    offsets = greedy_offsets(buffers)
    for index, (offset, buffer) in enumerate(zip(offsets, buffers, strict=True)):
        for other_offset, other in list(zip(offsets, buffers, strict=True))[:index]:
            together = buffer.first <= other.last and other.first <= buffer.last
            apart = offset + buffer.size <= other_offset or other_offset + other.size <= offset
            assert apart or not together


def test_equal_buffers_the_last_added_goes_first() -> None:
    twins = [Buffer(size=32, first=0, last=1), Buffer(size=32, first=0, last=1)]
    assert greedy_offsets(twins) == [32, 0]


def test_scratch_of_cmsis_nn() -> None:
    conv, pointwise = single(Conv2D(filters=8)), single(Conv2D(filters=8, kernel=1))
    small, large = single(DepthwiseConv2D(kernel=3)), single(DepthwiseConv2D(kernel=5))
    sizes = [
        scratch_buffers(lower(net).operators[0], "cmsis-nn")
        for net in (conv, pointwise, small, large)
    ]
    assert sizes == [(4 * 9 * 16,), (), (), (2 * 25 * 16,)]


def test_scratch_of_esp_nn_holds_a_padded_copy_of_the_input() -> None:
    operator = lower(single(DepthwiseConv2D(kernel=3))).operators[0]
    assert scratch_buffers(operator, "esp-nn") == (9 * 16 + 18 * 18 * 16 + 16,)


def branching() -> Architecture:
    """Two heads behind one trunk."""
    operators = [
        ("trunk", Conv2D(filters=8), "input"),
        ("left", Conv2D(filters=8, kernel=1), "trunk"),
        ("left_mean", GlobalAveragePool2D(), "left"),
        ("right", DepthwiseConv2D(), "trunk"),
        ("right_mean", GlobalAveragePool2D(), "right"),
        ("one", Dense(units=3), "left_mean"),
        ("two", Dense(units=2), "right_mean"),
    ]
    nodes = [Node(name="input", op=Input(height=16, width=16, channels=3))]
    nodes += [Node(name=name, op=operator, inputs=(read,)) for name, operator, read in operators]
    return Architecture(nodes=tuple(nodes), outputs=("one", "two"))


def _compare(architecture: Architecture, seed: int) -> tuple[int, int]:
    """Recorded minus planned bytes of head and tail."""
    import keras

    from tuner.testing.referee import recorded_arena
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras
    from tuner.train.convert import INPUT_RANGES, convert_tflite

    model = build_keras(architecture)
    randomize_weights(model, seed)  # equal biases of untrained nets share a tensor
    shape = (2, *model.input_shape[1:])
    images = np.random.default_rng(seed).uniform(-1, 0.99, shape).astype(np.float32)
    content = convert_tflite(model, "int8", images, input_range=INPUT_RANGES["signed"])
    keras.backend.clear_session()
    head, tail = recorded_arena(content)
    planned = plan_arena(lower(architecture), structs=HOST_64)
    assert len(content) <= model_file_bytes(lower(architecture)).high
    return head - planned.head_bytes, tail - planned.tail_bytes


NO_REFEREE = "needs tflite-micro (pip install edge-tuner[referee], Python 3.11 on x86-64)"


@pytest.mark.parametrize("seed", range(1000, 1010))
def test_plan_equals_tflite_micro(seed: int) -> None:
    pytest.importorskip("tflite_micro", reason=NO_REFEREE)
    assert _compare(random_architecture(seed), seed) == (0, 0)


@pytest.mark.parametrize(
    "architecture",
    [
        branching(),
        single(Conv2D(filters=3)),
        single(DepthwiseConv2D(kernel=5, stride=2), side=9, channels=1),
    ],
    ids=["two heads", "no head", "one channel"],
)
def test_plan_equals_tflite_micro_on_other_shapes(architecture: Architecture) -> None:
    pytest.importorskip("tflite_micro", reason=NO_REFEREE)
    assert _compare(architecture, 1) == (0, 0)


def test_the_sums_of_a_mean_can_fill_the_arena() -> None:
    """On a 1x1 map the mean's scratch is larger than its tensors."""
    pytest.importorskip("tflite_micro", reason=NO_REFEREE)
    nodes = single(Conv2D(filters=20, stride=8), side=8, channels=1).nodes
    mean = Node(name="mean", op=GlobalAveragePool2D(), inputs=("only",))
    logits = Node(name="logits", op=Dense(units=2), inputs=("mean",))
    architecture = Architecture(nodes=(*nodes, mean, logits), outputs=("logits",))
    assert _compare(architecture, 1) == (0, 0)
    assert plan_arena(lower(architecture)).scratch_bytes == 16 + 8 + 80


def test_a_deep_thin_net_needs_more_to_plan_than_to_run() -> None:
    """40 convolutions of 4 channels: tflite-micro runs it from 18,256 bytes on, by bisection."""
    nodes = [Node(name="input", op=Input(height=8, width=8, channels=1))]
    for index in range(40):
        nodes.append(Node(name=f"n{index}", op=Conv2D(filters=4), inputs=(nodes[-1].name,)))
    nodes.append(Node(name="mean", op=GlobalAveragePool2D(), inputs=(nodes[-1].name,)))
    nodes.append(Node(name="logits", op=Dense(units=2), inputs=("mean",)))
    graph = lower(Architecture(nodes=tuple(nodes), outputs=("logits",)))
    arena = plan_arena(graph, structs=HOST_64)
    assert (arena.head_bytes, arena.tail_bytes) == (512, 12240)
    assert arena.total_bytes == pytest.approx(18256, rel=0.01)
    assert arena.peak_at == ""


@pytest.mark.slow
def test_plan_equals_tflite_micro_on_100_nets() -> None:
    pytest.importorskip("tflite_micro", reason=NO_REFEREE)
    wrong = {
        seed: gap
        for seed in range(100)
        if (gap := _compare(random_architecture(seed), seed)) != (0, 0)
    }
    assert not wrong


def candidate_of_the_space(seed: int) -> Architecture:
    """A random candidate of mixed_stages, for a small or a larger microcontroller."""
    context = Context(
        limits=Limits(ram_bytes=(64 << 10) if seed % 2 else (208 << 10), flash_bytes=1 << 20),
        kernels=("cmsis-nn",),
        accelerated=False,
        image_height=48 if seed % 3 else 33,
        image_width=64,
        colour="rgb",
        outputs=2 + seed % 9,
    )
    space = catalog.load_module("search_spaces", "mixed_stages")
    return space.draw(RandomChoices(seed), context).architecture


def test_plan_equals_tflite_micro_on_100_candidates_of_the_space() -> None:
    pytest.importorskip("tflite_micro", reason=NO_REFEREE)
    wrong = {}
    for seed in range(100):
        architecture = candidate_of_the_space(seed)
        gap = _compare(architecture, seed)
        if gap != (0, 0):
            wrong[seed] = gap
    assert not wrong
