"""The time that is told before a training holds both its parts."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from runs_support import make_spec
from tuner.models import training
from tuner.models.training import predicted_minutes
from tuner.spec import Retraining
from tuner.store.files import write_json
from tuner.store.models import CHECKPOINT, PACE
from tuner.testing.models import template_of
from tuner.testing.specs import small_candidate

TIMED = {"epoch_seconds": 2.0, "start_seconds": 1.0}
FLOAT = Retraining(epochs=10, threads=1, quantization_share=0.0)


@pytest.mark.parametrize("goes_on", [True, False])
def test_what_goes_on_is_not_timed_again(home: Path, goes_on: bool) -> None:
    template = template_of(small_candidate(outputs=10), "sample:digits", "digits")
    asked: list[object] = []

    def finish(job: object, *arguments: object) -> dict[str, float]:
        asked.append(job)
        return {"epoch_seconds": 5.0, "start_seconds": 0.0}

    write_json(home / PACE, TIMED)
    if goes_on:
        (home / CHECKPOINT).touch()
    found = training._pace(finish, template, make_spec("x"), home, FLOAT, None)
    assert bool(asked) != goes_on
    assert found["epoch_seconds"] == (2.0 if goes_on else 5.0)


@pytest.mark.usefixtures("home")
def test_rounding_makes_it_longer() -> None:
    candidate = small_candidate(outputs=10)

    def minutes(share: float, epochs: int = 10) -> float:
        part = replace(FLOAT, epochs=epochs, quantization_share=share)
        return predicted_minutes(part, candidate, TIMED)

    assert minutes(0.0) == pytest.approx((1.0 + 20.0) / 60.0)
    assert minutes(0.0, epochs=40) == pytest.approx((1.0 + 80.0) / 60.0)
    assert minutes(0.0) < minutes(0.3) < minutes(0.6)
    # All of it rounded: one start, ten slower epochs.
    assert minutes(0.0) < minutes(1.0)
    assert minutes(1.0, epochs=20) - minutes(1.0) > minutes(0.0, epochs=20) - minutes(0.0)
