"""How a training is shown while it goes on."""

from __future__ import annotations

import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tuner.cli.epochs import EVERY_SECONDS, LEVELS, EpochLine, sparkline


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def epoch(number: int, planned: int = 60, accuracy: float = 0.5) -> dict:
    return {
        "number": number, "planned": planned, "loss": 1.25, "validation_loss": 1.0,
        "validation_accuracy": accuracy, "best_validation_accuracy": max(accuracy, 0.25),
        "seconds": 2.0 * number,
    }  # fmt: skip


@given(st.lists(st.floats(0, 1), min_size=1, max_size=200), st.integers(1, 30))
def test_a_curve_fits_and_goes_from_the_lowest_to_the_highest(values: list[float], width: int):
    shown = sparkline(values, width)
    assert len(shown) == min(width, len(values))
    assert set(shown) <= set(LEVELS)
    if len(values) <= width and max(values) - min(values) > 1e-9:
        assert shown[values.index(min(values))] == LEVELS[0]
        assert shown[values.index(max(values))] == LEVELS[-1]


def test_a_rising_curve_rises():
    assert sparkline([index / 16 for index in range(16)], 8) == LEVELS


def test_a_terminal_has_one_line_that_is_written_anew():
    terminal = Terminal()
    line = EpochLine(terminal, 80)
    for number in range(1, 31):
        line.show(epoch(number, accuracy=number / 40))
        line.show(epoch(number, accuracy=number / 40))  # polled again before the next epoch
    line.note("Stopping.")
    *shown, note, _ = terminal.getvalue().replace("\033[K", "").split("\n")
    assert note == "Stopping."
    lines = shown[0].split("\r")[1:]
    assert len(lines) == 30
    assert max(map(len, lines)) <= 80
    assert lines[-1].startswith(
        "epoch 30/60  loss 1.250  validation 75.0 % (best 75.0)  1:00/2:00  ▁"
    )
    assert lines[-1].endswith("█")


@pytest.mark.parametrize("columns", [40, 80, 200])
def test_long_numbers_fit_or_lose_their_curve(columns: int):
    terminal = Terminal()
    line = EpochLine(terminal, columns)
    for number in (98_765, 98_766):
        line.show(epoch(number, planned=100_000, accuracy=number / 1e6))
    shown = terminal.getvalue().rpartition("\r")[2].removesuffix("\033[K")
    assert len(shown) <= max(columns, 80)


def test_a_log_gets_a_line_now_and_then_and_the_last_one():
    log, clock = io.StringIO(), [0.0]
    line = EpochLine(log, 80, now=lambda: clock[0])
    for number in range(1, 61):
        clock[0] += EVERY_SECONDS / 10
        line.show(epoch(number))
    line.end()
    numbers = [int(text.split()[1].split("/")[0]) for text in log.getvalue().splitlines()]
    assert numbers == [1, 11, 21, 31, 41, 51, 60]
