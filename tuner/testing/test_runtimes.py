"""Contract of every runtime of the catalog, drop-ins too: costs with bands, and it runs a net."""

from __future__ import annotations

import ast
import math

import numpy as np
import pytest

from tuner import catalog
from tuner.cost.lower import lower
from tuner.spec import Precision, Target
from tuner.store.models import ModelFolder
from tuner.testing.architectures import random_architecture

RUNTIMES = catalog.names("runtimes")
NETS = 12
IMAGES = 5
PRECISIONS: tuple[Precision, ...] = ("float32", "int8")


def target_of(runtime: str) -> Target:
    """A target of the catalog that names this runtime."""
    targets, _ = catalog.load_targets()
    found = next((target for target in targets.values() if target.runtime == runtime), None)
    if found is None:
        pytest.skip(f"no target of the catalog names the runtime {runtime}: add one with it")
    return found


@pytest.mark.parametrize("name", RUNTIMES)
def test_it_says_what_it_is(name: str) -> None:
    assert ast.get_docstring(ast.parse(RUNTIMES[name].read_text(encoding="utf-8")))
    runtime = catalog.load_module("runtimes", name)
    assert runtime.KERNELS
    assert runtime.OPERATORS
    assert [type(word) for word in runtime.RUN_WITH] == [str, str]


@pytest.mark.parametrize("name", RUNTIMES)
def test_costs_have_bands_and_add_up(name: str) -> None:
    runtime, target = catalog.load_module("runtimes", name), target_of(name)
    for seed in range(NETS):
        graph = lower(random_architecture(seed))
        cost = runtime.cost(graph, target)
        assert cost.macs == graph.macs
        for quantity in (cost.ram_bytes, cost.flash_bytes, cost.latency_ms):
            assert quantity is not None
            assert 0 < quantity.low <= quantity.value <= quantity.high < math.inf
            assert quantity.basis
        each = runtime.operator_latency_ms(graph, target)
        assert len(each) == len(graph.operators)
        assert sum(each) == pytest.approx(cost.latency_ms.value)


@pytest.mark.parametrize("name", RUNTIMES)
def test_it_runs_a_net_image_by_image(name: str, trained_model: ModelFolder) -> None:
    runtime, version = catalog.load_module("runtimes", name), trained_model.read()
    pixels = version.template.preprocessing
    shape = (IMAGES, pixels.height, pixels.width, 1)
    images = np.random.default_rng(0).uniform(-1.0, 1.0, shape).astype(np.float32)
    for precision in PRECISIONS:
        model = (trained_model.path / version.builds[precision].artifact).read_bytes()
        logits = runtime.predict(model, precision, images)
        assert logits.shape == (IMAGES, len(version.dataset.classes))
        assert logits.dtype == np.float32
        alone = runtime.predict(model, precision, images[-1:])
        np.testing.assert_array_equal(alone[0], logits[-1])
