from __future__ import annotations

import pytest

from tests_support import quantity
from tuner import catalog
from tuner.cost.camera import BAND, frames_per_second
from tuner.engine.costs import costs_on
from tuner.errors import SpecError
from tuner.spec import CameraLoop, Quantity
from tuner.testing.specs import small_candidate


@pytest.mark.parametrize(
    ("kpu", "loop"), [(350, 57), (220, 56), (198, 57), (158, 56), (53, 32)]
)  # kendryte/k230_canmv_docs, YOLO_Battle: classifiers
def test_published_loops_of_the_k230_are_within_the_band(kpu: float, loop: float) -> None:
    camera = catalog.load_target("k230").camera
    assert camera is not None
    found = frames_per_second(quantity(1e3 / kpu), camera)
    assert found.value == pytest.approx(loop, rel=BAND)
    assert found.low <= loop <= found.high


def test_the_band_of_the_latency_goes_on() -> None:
    latency = Quantity(value=10.0, low=5.0, high=30.0, kind="estimated", basis="")
    found = frames_per_second(latency, CameraLoop(frame_ms=20.0, beside_net_ms=10.0))
    assert found.value == 50.0
    assert found.low == pytest.approx((1 - BAND) * 25.0)
    assert found.high == pytest.approx((1 + BAND) * 50.0)


def test_costs_have_it_where_it_is_published() -> None:
    targets = [catalog.load_target(name) for name in ("k230", "nano33ble")]
    costs = costs_on(small_candidate().architecture, targets)
    assert costs["k230"].frames_per_second.value == pytest.approx(1e3 / 17.5)
    assert costs["nano33ble"].frames_per_second is None


def test_a_camera_takes_time() -> None:
    with pytest.raises(SpecError, match=r"expected frame_ms above 0\. Received: frame_ms=0\."):
        CameraLoop(frame_ms=0, beside_net_ms=1.0)
