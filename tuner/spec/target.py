"""A Target: one device, each of its numbers with its source."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field, fields, replace

from tuner.errors import SpecError

NEED_SOURCES = (
    "clock_mhz",
    "ram_regions",
    "ram_reserved_bytes",
    "flash_bytes",
    "flash_reserved_bytes",
)
"""The numbers of a Target that are no use without knowing where they come from."""

CLOCK_MHZ = (8.0, 10_000.0)
"""Every core that runs nets has a clock between these; a number outside is in Hz, kHz or GHz."""

LEAST_FLASH_BYTES = 4096
"""No program with a net is smaller: fewer are KB."""


@dataclass(frozen=True, slots=True, kw_only=True)
class RamRegion:
    """One block of RAM.

    Args:
        name: as the datasheet calls it.
        size_bytes: its size.
        arena_max_bytes: the largest arena that can lie in it; all of it when left out.
        external: on a bus outside the chip (PSRAM, SDRAM): far larger and slower. An arena that
            fits nowhere else lies there; the reserved bytes never do.
        note: its speed, or what else lies there.
    """

    name: str
    size_bytes: int
    arena_max_bytes: int | None = None
    external: bool = False
    note: str = ""

    def __post_init__(self) -> None:
        if self.size_bytes < 1:
            raise SpecError(f"expected size_bytes above 0. Received: size_bytes={self.size_bytes}.")
        if self.arena_max_bytes is not None and not 0 < self.arena_max_bytes <= self.size_bytes:
            raise SpecError(
                f"expected arena_max_bytes from 1 to size_bytes={self.size_bytes}. "
                f"Received: arena_max_bytes={self.arena_max_bytes}."
            )

    @property
    def arena_bytes(self) -> int:
        """The largest arena that can lie in this region when nothing else does."""
        return self.size_bytes if self.arena_max_bytes is None else self.arena_max_bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """What a model may use; None does not limit."""

    ram_bytes: int | None = None
    flash_bytes: int | None = None
    latency_ms: float | None = None
    train_minutes: float | None = None

    def __post_init__(self) -> None:
        for name in ("ram_bytes", "flash_bytes", "latency_ms", "train_minutes"):
            value = getattr(self, name)
            if value is not None and value <= 0:
                raise SpecError(f"expected {name} above 0. Received: {name}={value}.")


LATENCY_TERMS = (
    "stem", "conv", "pointwise", "depthwise", "depthwise_large", "dense", "elements", "others",
    "operators",
)  # fmt: skip
"""What costs cycles: MACs of a convolution of fewer than 4 channels (`stem`), of other
convolutions, of 1x1 ones, of depthwise ones of 3x3 and of any other size, of dense layers;
elements written by these; elements that any other operator reads or writes, the larger; calls."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What a user's own measurements say of a target; `tune calibrate` writes it.

    Args:
        cycles: clock cycles of one unit of each of `LATENCY_TERMS`.
        covariance: of the logarithms of `cycles`; the rows of its lower triangle.
        variance: of the logarithm of a net's latency that these do not explain.
        macs: least and most MACs of the nets measured.
        depth: least and most MACs an element of these nets.
        kinds: of operators that these nets hold.
        basis: what was measured, and when.
        ram_extra_bytes: RAM measured beyond the estimate; below 0 if the estimate is too high.
        flash_extra_bytes: the same of flash.
    """

    cycles: Mapping[str, float]
    covariance: tuple[tuple[float, ...], ...]
    variance: float
    macs: tuple[float, float]
    depth: tuple[float, float]
    kinds: tuple[str, ...]
    basis: str
    ram_extra_bytes: int = 0
    flash_extra_bytes: int = 0

    def __post_init__(self) -> None:
        if set(self.cycles) != set(LATENCY_TERMS):
            raise SpecError(
                f"calibration: expected cycles of {', '.join(LATENCY_TERMS)}. "
                f"Received: {', '.join(self.cycles) or 'none'}."
            )
        for name, value in self.cycles.items():
            if not value > 0:
                raise SpecError(f"calibration: expected cycles above 0. Received: {name}={value}.")
        lengths = [len(row) for row in self.covariance]
        if lengths != list(range(1, len(LATENCY_TERMS) + 1)):
            raise SpecError(
                "calibration: expected covariance as rows of 1, 2, ... "
                f"{len(LATENCY_TERMS)} numbers. Received: rows of "
                f"{', '.join(map(str, lengths)) or 'none'}."
            )
        if not self.variance > 0:
            raise SpecError(
                f"calibration: expected variance above 0. Received: variance={self.variance}."
            )
        for name, (least, most) in (("macs", self.macs), ("depth", self.depth)):
            if not 0 < least <= most:
                raise SpecError(
                    f"calibration: expected {name} as a least and a most above 0. "
                    f"Received: {name}={least}, {most}."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class CameraLoop:
    """What a device's camera scripts take beside a net, as published.

    Args:
        frame_ms: the shortest time from frame to frame, whatever the net.
        beside_net_ms: what a frame takes beside the net where the net is slow.
    """

    frame_ms: float
    beside_net_ms: float

    def __post_init__(self) -> None:
        for item in fields(self):
            value = getattr(self, item.name)
            if not value > 0:
                raise SpecError(
                    f"camera: expected {item.name} above 0. Received: {item.name}={value}."
                )


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """One device.

    Args:
        name: short and lower-case; the stem of its file.
        title: as its maker calls it.
        cpu: the core that runs the model, for example `Cortex-M4F`.
        clock_mhz: clock of that core.
        cores: cores that the runtime uses.
        ram_regions: the blocks of RAM; the arena lies in one of them.
        ram_reserved_bytes: RAM taken by stack, RTOS, radio, frame buffer.
        flash_bytes: flash or storage that holds program and model.
        flash_reserved_bytes: flash taken by the application without runtime and model.
        accelerator: what runs the model beside the CPU, or `none`.
        runtime: the program that executes the model; a file of `tuner/runtimes`.
        kernels: the kernel library under the runtime.
        limits: what a model may use; each replaces what the memory less the reserved bytes
            would give.
        calibration: what a user's own measurements say of this target.
        camera: what its camera loop takes, where that is published.
        sources: where each number comes from, by field name.
        note: what a user of this target should know.
    """

    name: str
    title: str
    cpu: str
    clock_mhz: float
    cores: int = 1
    ram_regions: tuple[RamRegion, ...]
    ram_reserved_bytes: int
    flash_bytes: int
    flash_reserved_bytes: int
    accelerator: str = "none"
    runtime: str
    kernels: str
    limits: Limits = Limits()
    calibration: Calibration | None = None
    camera: CameraLoop | None = None
    sources: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not re.fullmatch(r"[a-z0-9][a-z0-9-]*", self.name):
            raise SpecError(
                "expected a name of lower-case letters, digits and hyphens. "
                f"Received: name='{self.name}'."
            )
        self._check_clock()
        if self.cores < 1:
            raise SpecError(f"expected cores of 1 or more. Received: cores={self.cores}.")
        self._check_sources()
        self._check_memory()

    def _check_clock(self) -> None:
        clock, (least, most) = self.clock_mhz, CLOCK_MHZ
        if not clock > 0:
            raise SpecError(f"expected clock_mhz above 0. Received: clock_mhz={clock}.")
        if least <= clock <= most:
            return
        if clock < least:
            meant, unit = clock * 1e3, "GHz"
        elif clock < least * 1e6:  # in Hz it would be below the least
            meant, unit = clock / 1e3, "kHz"
        else:
            meant, unit = clock / 1e6, "Hz"
        guess = "."
        if least <= meant <= most:
            guess = f"; did you mean {meant:g}, which is {clock:.12g} {unit}?"
        raise SpecError(
            f"expected clock_mhz from {least:g} to {most:g}. Received: clock_mhz={clock:.12g}. "
            f"clock_mhz is in MHz{guess}"
        )

    def _check_sources(self) -> None:
        known = [item.name for item in fields(self)]
        for name in self.sources:
            if name not in known:
                raise SpecError(
                    f"sources: '{name}' is not a field of a target. Known: {', '.join(known)}."
                )
        needed = [*NEED_SOURCES, *(["limits"] if self.limits != Limits() else [])]
        needed += ["camera"] if self.camera else []
        for name in needed:
            if not self.sources.get(name, "").strip():
                raise SpecError(
                    f"expected a source for {name}: where the number comes from, "
                    f"as '{name} = \"...\"' under [sources]."
                )

    def _check_memory(self) -> None:
        if not self.ram_regions:
            raise SpecError("expected at least one table in ram_regions.")
        names = [region.name for region in self.ram_regions]
        if len(set(names)) < len(names):
            raise SpecError(f"names of ram_regions must differ. Received: {', '.join(names)}.")
        if 0 < self.flash_bytes < LEAST_FLASH_BYTES:
            raise SpecError(
                f"expected flash_bytes of {LEAST_FLASH_BYTES} or more. "
                f"Received: flash_bytes={self.flash_bytes}. "
                f"flash_bytes is in bytes; did you mean {self.flash_bytes * 1024}?"
            )
        if not 0 <= self.flash_reserved_bytes < self.flash_bytes:
            raise SpecError(
                f"expected flash_reserved_bytes from 0 to below flash_bytes={self.flash_bytes}. "
                f"Received: flash_reserved_bytes={self.flash_reserved_bytes}."
            )
        if not 0 <= self.ram_reserved_bytes < self._internal_ram_bytes:
            raise SpecError(
                "expected ram_reserved_bytes from 0 to below the size of all ram_regions inside "
                f"the chip, {self._internal_ram_bytes}. "
                f"Received: ram_reserved_bytes={self.ram_reserved_bytes}."
            )
        largest = max(region.size_bytes for region in self.ram_regions)
        for name, limit, memory, what in (
            ("ram_bytes", self.limits.ram_bytes, largest, "the largest block of RAM"),
            ("flash_bytes", self.limits.flash_bytes, self.flash_bytes, "the flash"),
        ):
            if limit is not None and limit > memory:
                raise SpecError(
                    f"limits: expected {name} up to {memory} bytes, {what} of {self.name}. "
                    f"Received: {name}={limit}."
                )

    @property
    def _internal_ram_bytes(self) -> int:
        return sum(region.size_bytes for region in self.ram_regions if not region.external)

    @property
    def internal_arena_bytes(self) -> int:
        """The largest arena inside the chip.

        It lies in one region. The reserved bytes take the other regions first, and may be split
        among them; what they then still need comes from the arena's own region.
        """
        left = self._internal_ram_bytes - self.ram_reserved_bytes
        largest = max(region.arena_bytes for region in self.ram_regions if not region.external)
        return min(left, largest)

    @property
    def model_limits(self) -> Limits:
        """What a model may use: the limits, or what memory and reserved bytes leave.

        The arena lies in one region, inside the chip or outside it.
        """
        arenas = [region.arena_bytes for region in self.ram_regions if region.external]
        return replace(
            self.limits,
            ram_bytes=self.limits.ram_bytes or max(self.internal_arena_bytes, *arenas, 0),
            flash_bytes=self.limits.flash_bytes or self.flash_bytes - self.flash_reserved_bytes,
        )
