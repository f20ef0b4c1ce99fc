"""Costs: RAM, flash, MACs and latency, each with its kind, band and basis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

from tuner.errors import SpecError

LimitName = Literal["ram_bytes", "flash_bytes", "latency_ms", "train_minutes", "candidate_minutes"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantity:
    """One figure and how sure it is.

    Args:
        value: the figure, in the unit of the field that holds it.
        low: it is not expected below this.
        high: it is not expected above this.
        kind: `estimated` or `measured`.
        basis: what the figure and its band rest on, in a few words.
    """

    value: float
    low: float
    high: float
    kind: Literal["estimated", "measured"]
    basis: str

    def __post_init__(self) -> None:
        if not self.low <= self.value <= self.high:
            raise SpecError(
                f"expected low <= value <= high. Received: low={self.low}, value={self.value}, "
                f"high={self.high}."
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class Excess:
    """One limit that a candidate exceeds.

    Args:
        limit: a field of Limits; or `candidate_minutes`, the time that the run has for one
            candidate on this machine.
        needed: what the candidate needs.
        allowed: the limit.
        at: the node where the need is greatest, if one node decides.
    """

    limit: LimitName
    needed: float
    allowed: float
    at: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Cost:
    """What a candidate costs on one target.

    Args:
        ram_bytes: the arena and what else the model needs at run time.
        ram_parts: its parts by name, bytes.
        ram_peak_at: the node at which the arena is fullest.
        flash_bytes: the model file and the runtime's code.
        flash_parts: its parts by name, bytes.
        macs: multiply-accumulates of one inference.
        latency_ms: one inference.
        frames_per_second: of the device's camera loop with the net; None where none is published.
        train_minutes: full retraining on this machine with all cores; None until the run has
            measured the machine's throughput.
        over: the limits exceeded; empty when the candidate fits.
        refused: why the target's runtime cannot run the model, or would run it wrongly, in words.
    """

    ram_bytes: Quantity
    ram_parts: Mapping[str, int]
    ram_peak_at: str
    flash_bytes: Quantity
    flash_parts: Mapping[str, int]
    macs: int
    latency_ms: Quantity
    frames_per_second: Quantity | None = None
    train_minutes: Quantity | None = None
    over: tuple[Excess, ...] = ()
    refused: tuple[str, ...] = ()

    @property
    def fits(self) -> bool:
        """Whether every limit is kept, and the runtime runs the model."""
        return not (self.over or self.refused)
