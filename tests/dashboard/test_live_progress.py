from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from runs_support import make_spec, trained
from tuner.dashboard.terminal import WIDTH, LiveProgress
from tuner.engine.supervisor import Progress


@pytest.mark.parametrize(
    ("limits", "elapsed", "share", "left"),
    [
        ({"budget_seconds": 600.0}, 150.0, 1 / 4, ", 7:30 left"),
        ({"budget_seconds": 600.0}, 700.0, 1.0, ", 0:00 left"),
        ({"max_candidates": 8}, 150.0, 2 / 8, ", 5 to go"),
        ({"max_candidates": 8, "budget_seconds": 600.0}, 300.0, 1 / 2, ", 5 to go, 5:00 left"),
    ],
)
def test_the_bar_shows_what_a_search_has_used(
    limits: dict[str, float], elapsed: float, share: float, left: str
) -> None:
    spec = make_spec("r", **{"budget_seconds": None, "max_candidates": None, **limits})
    running = replace(trained(2, correct=1), status=None, rung=-1, builds={})
    shown: list[str] = []
    live = SimpleNamespace(update=lambda text: shown.append(text.plain))
    LiveProgress(spec, live).update(
        Progress(
            finished=[trained(0, correct=7), trained(1, correct=5)],
            running=[(running, {})],
            elapsed_seconds=elapsed,
            budget_seconds=spec.budget_seconds,
            phase="searching",
        )
    )
    bar, words = shown[0].splitlines()[0].split(" ", 1)
    assert (len(bar), bar.count("█")) == (WIDTH, round(WIDTH * share))
    assert words == f"2 trained, 1 running{left}"


def test_without_a_bar_each_step_has_a_line(capsys: pytest.CaptureFixture[str]) -> None:
    spec = make_spec("r", budget_seconds=600.0)
    first = replace(trained(0, correct=7), status=None, epochs=6, train_seconds=8.0)
    behind = replace(first, status="stopped", reason="far behind", epochs=9, train_seconds=12.0)
    live = LiveProgress(spec, None)
    for result in (first, first, behind, behind):
        live.update(
            Progress(
                finished=[result],
                running=[],
                elapsed_seconds=60.0,
                budget_seconds=600.0,
                phase="searching",
            )
        )
    lines = capsys.readouterr().err.splitlines()
    assert [line for line in lines if "rung" not in line] == ["searching ..."]
    before, after = (line.partition(": ")[2] for line in lines if "rung" in line)
    assert before.startswith("rung 0, int8 ")
    assert "%, 6 epochs, 8 s (" in before
    assert "%, 9 epochs, 12 s (" in after
    assert after.endswith("); far behind")
