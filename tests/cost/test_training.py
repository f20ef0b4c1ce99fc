from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cost.training import rounding_share, train_seconds_per_image, training_load
from tuner.spec import Throughput
from tuner.testing.architectures import random_architecture
from tuner.train.throughput import solve

seeds = st.integers(0, 10**6)
ratios = st.floats(0.5, 2.0)


@given(seeds, st.sampled_from([16, 32, 128]))
def test_seconds_are_the_scaled_parts(seed: int, batch_size: int) -> None:
    architecture = random_architecture(seed)
    load = training_load(architecture, batch_size)
    assert min(load.compute, load.memory, load.overhead) > 0
    throughput = Throughput(compute_ratio=2.0, memory_ratio=3.0, overhead_ratio=4.0)
    assert train_seconds_per_image(architecture, batch_size, throughput) == pytest.approx(
        2 * load.compute + 3 * load.memory + 4 * load.overhead
    )


@given(seeds)
def test_larger_batches_cost_less_an_image(seed: int) -> None:
    architecture = random_architecture(seed)
    assert training_load(architecture, 128).overhead < training_load(architecture, 32).overhead


@given(seeds, st.sampled_from([16, 128]))
def test_rounding_costs_a_share(seed: int, batch_size: int) -> None:
    share = rounding_share(random_architecture(seed), batch_size)
    assert 0.0 < share < 10.0


@given(ratios, ratios, ratios)
def test_ratios_are_found_again(compute: float, memory: float, overhead: float) -> None:
    loads = [training_load(random_architecture(seed), 32) for seed in range(12)]
    truth = Throughput(compute_ratio=compute, memory_ratio=memory, overhead_ratio=overhead)
    seconds = [
        truth.compute_ratio * load.compute
        + truth.memory_ratio * load.memory
        + truth.overhead_ratio * load.overhead
        for load in loads
    ]
    found = solve(loads, seconds)
    for load, second in zip(loads, seconds, strict=True):
        predicted = (
            found.compute_ratio * load.compute
            + found.memory_ratio * load.memory
            + found.overhead_ratio * load.overhead
        )
        assert predicted == pytest.approx(second, rel=0.1)
