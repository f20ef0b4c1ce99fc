from __future__ import annotations

import pytest

from tuner.cost.fit import check_limits, explain, format_bytes
from tuner.spec import Cost, Excess, Limits, Quantity


def quantity(value: float, high: float) -> Quantity:
    return Quantity(value=value, low=value, high=high, kind="estimated", basis="test")


COST = Cost(
    ram_bytes=quantity(1000, 1200),
    ram_parts={"arena_head": 1000},
    ram_peak_at="conv",
    flash_bytes=quantity(5000, 6000),
    flash_parts={"model": 5000},
    macs=1,
    latency_ms=quantity(10, 30),
    train_minutes=quantity(5, 50),
)


def test_memory_compares_the_upper_end_and_time_the_value() -> None:
    limits = Limits(ram_bytes=1100, flash_bytes=5500, latency_ms=10, train_minutes=5)
    over = check_limits(COST, limits).over
    assert over == (
        Excess(limit="ram_bytes", needed=1200, allowed=1100, at="conv"),
        Excess(limit="flash_bytes", needed=6000, allowed=5500),
    )
    tight = Limits(latency_ms=9.9, train_minutes=4)
    assert [item.limit for item in check_limits(COST, tight).over] == [
        "latency_ms", "train_minutes",
    ]  # fmt: skip


def test_no_limit_and_no_figure_is_no_excess() -> None:
    assert check_limits(COST, Limits()).fits
    assert check_limits(COST, Limits(ram_bytes=1200, flash_bytes=6000)).fits


@pytest.mark.parametrize(
    ("excess", "text"),
    [
        (
            Excess(limit="ram_bytes", needed=276.9 * 1024, allowed=256 * 1024, at="stage1_conv"),
            "RAM 276.9 KB > 256.0 KB, 20.9 KB too much, at 'stage1_conv'",
        ),
        (
            Excess(limit="ram_bytes", needed=2048, allowed=1024),
            "RAM 2.0 KB > 1.0 KB, 1.0 KB too much",
        ),
        (
            Excess(limit="flash_bytes", needed=1.2 * 2**20, allowed=2**20),
            "flash 1.2 MB > 1.0 MB, 204.8 KB too much",
        ),
        (
            Excess(limit="flash_bytes", needed=262150, allowed=262144),
            "flash 262,150 B > 262,144 B, 6 B too much",
        ),
        (
            Excess(limit="latency_ms", needed=12.34, allowed=10),
            "latency 12.3 ms > 10.0 ms, 2.3 ms too much",
        ),
        (
            Excess(limit="latency_ms", needed=10.02, allowed=10),
            "latency 10.02 ms > 10.00 ms, 0.02 ms too much",
        ),
        (
            Excess(limit="train_minutes", needed=0.041, allowed=0.001),
            "full training 2.5 s > 0.1 s, 2.4 s too much",
        ),
        (
            Excess(limit="train_minutes", needed=90, allowed=60),
            "full training 90.0 min > 60.0 min, 30.0 min too much",
        ),
        (
            Excess(limit="candidate_minutes", needed=0.3503, allowed=0.3451),
            "training within this search 21.0 s > 20.7 s, 0.3 s too much",
        ),
        (
            Excess(limit="candidate_minutes", needed=9, allowed=4),
            "training within this search 9.0 min > 4.0 min, 5.0 min too much",
        ),
    ],
)
def test_reasons(excess: Excess, text: str) -> None:
    assert explain(excess) == text


def test_bytes_for_people() -> None:
    assert [format_bytes(number) for number in (0, 1023, 1024, 283546, 2**20, 1.5 * 2**20)] == [
        "0 B", "1023 B", "1.0 KB", "276.9 KB", "1.0 MB", "1.5 MB",
    ]  # fmt: skip
