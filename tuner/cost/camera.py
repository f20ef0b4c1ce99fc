"""Frames a second of a device's camera loop: take a frame, run the net, show what it says."""

from __future__ import annotations

from tuner.spec import CameraLoop, Quantity

BAND = 0.06
"""Of published loops, the largest error of the value: see `docs/costs/k230.md`."""


def frames_per_second(latency_ms: Quantity, camera: CameraLoop) -> Quantity:
    """Estimate a camera loop from the latency of the net in it.

    Args:
        latency_ms: of one inference, with its band.
        camera: of the device.
    """

    def frames(milliseconds: float) -> float:
        return 1e3 / max(camera.frame_ms, camera.beside_net_ms + milliseconds)

    return Quantity(
        value=frames(latency_ms.value),
        low=(1.0 - BAND) * frames(latency_ms.high),
        high=(1.0 + BAND) * frames(latency_ms.low),
        kind="estimated",
        basis=f"published loops with classifiers: {camera.frame_ms:g} ms a frame at least, else "
        f"the net's latency and {camera.beside_net_ms:g} ms",
    )
