"""Targets: what a model may use of split memory, and the text of each error."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.errors import SpecError
from tuner.spec import Limits, RamRegion, Target, from_plain, to_plain

KB = 1024
SOURCES = {
    name: "assumed: a test"
    for name in (
        "clock_mhz", "ram_regions", "ram_reserved_bytes", "flash_bytes", "flash_reserved_bytes",
    )
}  # fmt: skip


def make(**changes: object) -> Target:
    fields: dict[str, object] = {
        "name": "board", "title": "A board", "cpu": "Cortex-M4F", "clock_mhz": 64.0,
        "ram_regions": (RamRegion(name="RAM", size_bytes=256 * KB),),
        "ram_reserved_bytes": 16 * KB, "flash_bytes": 1024 * KB,
        "flash_reserved_bytes": 64 * KB, "runtime": "tflm", "kernels": "cmsis-nn",
        "sources": SOURCES,
    }  # fmt: skip
    return Target(**{**fields, **changes})  # type: ignore[arg-type]


def regions(*sizes_kb: int) -> tuple[RamRegion, ...]:
    return tuple(
        RamRegion(name=f"r{index}", size_bytes=size * KB) for index, size in enumerate(sizes_kb)
    )


@pytest.mark.parametrize(
    ("sizes_kb", "reserved_kb", "expected_kb"),
    [
        ((256,), 16, 240),  # one block pays
        ((512, 128, 288, 64), 16, 512),  # the other blocks pay
        ((512, 128), 200, 440),  # the other block, then the largest
        ((100, 90), 150, 40),  # both blocks pay: no block is counted as free that is not
        ((100, 100), 100, 100),
        ((100, 100), 120, 80),
    ],
)
def test_reserved_bytes_take_the_other_regions_first(
    sizes_kb: tuple[int, ...], reserved_kb: int, expected_kb: int
) -> None:
    target = make(ram_regions=regions(*sizes_kb), ram_reserved_bytes=reserved_kb * KB)
    assert target.model_limits.ram_bytes == expected_kb * KB


def test_arena_max_bytes_leaves_the_rest_of_its_region_to_the_reserved_bytes() -> None:
    region = RamRegion(name="DRAM", size_bytes=176 * KB, arena_max_bytes=160 * KB)
    target = make(ram_regions=(region,), ram_reserved_bytes=16 * KB)
    assert target.model_limits.ram_bytes == 160 * KB


def test_an_arena_may_lie_in_external_ram_but_the_reserved_bytes_may_not() -> None:
    external = RamRegion(name="PSRAM", size_bytes=4096 * KB, external=True)
    target = make(ram_regions=(*regions(100), external), ram_reserved_bytes=40 * KB)
    assert target.internal_arena_bytes == 60 * KB
    assert target.model_limits.ram_bytes == 4096 * KB
    with pytest.raises(SpecError, match=r"inside the chip, 102400. Received: ram_reserved_bytes"):
        make(ram_regions=(*regions(100), external), ram_reserved_bytes=100 * KB)


def test_limits_replace_what_is_left_and_never_exceed_the_memory() -> None:
    sources = {**SOURCES, "limits": "assumed"}
    tight = make(limits=Limits(ram_bytes=100, latency_ms=50.0), sources=sources).model_limits
    assert (tight.ram_bytes, tight.flash_bytes, tight.latency_ms) == (100, 960 * KB, 50.0)
    loose = make(limits=Limits(ram_bytes=250 * KB), sources=sources).model_limits
    assert (loose.ram_bytes, loose.flash_bytes) == (250 * KB, 960 * KB)
    with pytest.raises(SpecError, match=r"limits: expected ram_bytes up to \d+ bytes, the largest"):
        make(limits=Limits(ram_bytes=10**9), sources=sources)
    with pytest.raises(SpecError, match=r"limits: expected flash_bytes up to \d+ bytes, the flash"):
        make(limits=Limits(flash_bytes=10**9), sources=sources)


@given(
    sizes=st.lists(st.integers(1, 1000), min_size=1, max_size=5),
    caps=st.lists(st.integers(1, 1000), min_size=5, max_size=5),
    share=st.floats(0, 0.999),
)
def test_the_arena_and_the_reserved_bytes_always_fit_together(
    sizes: list[int], caps: list[int], share: float
) -> None:
    blocks = tuple(
        RamRegion(name=f"r{index}", size_bytes=size, arena_max_bytes=min(size, caps[index]))
        for index, size in enumerate(sizes)
    )
    reserved = int(share * sum(sizes))
    arena = make(ram_regions=blocks, ram_reserved_bytes=reserved).model_limits.ram_bytes
    assert arena is not None
    assert 0 < arena <= sum(sizes) - reserved
    assert any(arena <= block.arena_bytes for block in blocks)
    # Nothing larger would do, block by block.
    larger = arena + 1
    assert not any(
        larger <= block.arena_bytes and larger <= sum(sizes) - reserved for block in blocks
    )


@given(st.integers(0, 200), st.integers(0, 200))
def test_reserving_more_never_gives_a_model_more(first: int, second: int) -> None:
    few, many = sorted((first, second))
    limits = [
        make(ram_regions=regions(100, 101), ram_reserved_bytes=size * KB).model_limits.ram_bytes
        for size in (few, many)
    ]
    assert limits[0] is not None
    assert limits[1] is not None
    assert limits[0] >= limits[1]


def test_a_target_round_trips_through_json() -> None:
    target = make(ram_regions=(*regions(64), RamRegion(name="x", size_bytes=9, external=True)))
    assert from_plain(Target, json.loads(json.dumps(to_plain(target))), "json") == target


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"name": "Nano33"}, "expected a name of lower-case letters, digits and hyphens. "
                             "Received: name='Nano33'."),
        ({"clock_mhz": 0.0}, "expected clock_mhz above 0. Received: clock_mhz=0.0."),
        ({"clock_mhz": float("nan")}, "expected clock_mhz above 0. Received: clock_mhz=nan."),
        ({"clock_mhz": 160e6}, "expected clock_mhz from 8 to 10000. Received: clock_mhz=160000000. "
         "clock_mhz is in MHz; did you mean 160, which is 160000000 Hz?"),
        ({"clock_mhz": 8e6}, "clock_mhz is in MHz; did you mean 8, which is 8000000 Hz?"),
        ({"clock_mhz": 1.6e6}, "clock_mhz is in MHz; did you mean 1600, which is 1600000 kHz?"),
        ({"clock_mhz": 1.6}, "expected clock_mhz from 8 to 10000. Received: clock_mhz=1.6. "
         "clock_mhz is in MHz; did you mean 1600, which is 1.6 GHz?"),
        ({"clock_mhz": 0.24}, "Received: clock_mhz=0.24. clock_mhz is in MHz; "
         "did you mean 240, which is 0.24 GHz?"),
        ({"clock_mhz": float("inf")}, "Received: clock_mhz=inf. clock_mhz is in MHz."),
        ({"flash_bytes": 1024, "flash_reserved_bytes": 64}, "expected flash_bytes of 4096 or more. "
         "Received: flash_bytes=1024. flash_bytes is in bytes; did you mean 1048576?"),
        ({"cores": 0}, "expected cores of 1 or more. Received: cores=0."),
        ({"ram_regions": ()}, "expected at least one table in ram_regions."),
        ({"ram_regions": (*regions(1), *regions(2))},
         "names of ram_regions must differ. Received: r0, r0."),
        ({"ram_reserved_bytes": 256 * KB}, "Received: ram_reserved_bytes=262144."),
        ({"ram_reserved_bytes": -1}, "Received: ram_reserved_bytes=-1."),
        ({"flash_reserved_bytes": 1024 * KB}, "expected flash_reserved_bytes from 0 to below "
         "flash_bytes=1048576. Received: flash_reserved_bytes=1048576."),
        ({"sources": {**SOURCES, "flash_bytes": " "}}, "expected a source for flash_bytes: where "
         "the number comes from, as 'flash_bytes = \"...\"' under [sources]."),
        ({"sources": {**SOURCES, "flash": "x"}}, "sources: 'flash' is not a field of a target."),
        ({"limits": Limits(latency_ms=9.0)}, "expected a source for limits:"),
    ],
)  # fmt: skip
def test_errors_say_what_was_expected_and_received(
    changes: dict[str, object], message: str
) -> None:
    with pytest.raises(SpecError) as caught:
        make(**changes)
    assert message in str(caught.value)


def test_errors_of_regions_and_limits() -> None:
    with pytest.raises(SpecError, match=r"expected size_bytes above 0. Received: size_bytes=0."):
        RamRegion(name="x", size_bytes=0)
    with pytest.raises(SpecError, match=r"from 1 to size_bytes=9. Received: arena_max_bytes=10."):
        RamRegion(name="x", size_bytes=9, arena_max_bytes=10)
    with pytest.raises(SpecError, match=r"expected latency_ms above 0. Received: latency_ms=-1"):
        Limits(latency_ms=-1.0)
