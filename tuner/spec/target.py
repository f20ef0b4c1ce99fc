"""A Target: one device, each of its numbers with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from tuner.errors import SpecError


@dataclass(frozen=True, slots=True, kw_only=True)
class RamRegion:
    """One block of RAM.

    Args:
        name: as the datasheet calls it.
        size_bytes: its size.
        arena_max_bytes: the largest arena that can lie in it; all of it when left out.
    """

    name: str
    size_bytes: int
    arena_max_bytes: int | None = None

    def __post_init__(self) -> None:
        if self.size_bytes < 1:
            raise SpecError(f"expected size_bytes above 0. Received: size_bytes={self.size_bytes}.")
        if self.arena_max_bytes is not None and not 0 < self.arena_max_bytes <= self.size_bytes:
            raise SpecError(
                f"expected arena_max_bytes from 1 to size_bytes={self.size_bytes}. "
                f"Received: arena_max_bytes={self.arena_max_bytes}."
            )


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
        limits: tighter limits than the device's own, if any.
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
    sources: Mapping[str, str] = field(default_factory=dict)
    note: str = ""

    def __post_init__(self) -> None:
        if not self.ram_regions:
            raise SpecError("expected at least one table in ram_regions.")
        if self.clock_mhz <= 0:
            raise SpecError(f"expected clock_mhz above 0. Received: clock_mhz={self.clock_mhz}.")
        for name in ("clock_mhz", "ram_regions", "ram_reserved_bytes", "flash_bytes",
                     "flash_reserved_bytes"):  # fmt: skip
            if not self.sources.get(name):
                raise SpecError(
                    f"expected a source for {name}: where the number comes from, "
                    f"as '{name} = \"...\"' under [sources]."
                )
        if self.flash_reserved_bytes >= self.flash_bytes:
            raise SpecError(
                f"expected flash_reserved_bytes below flash_bytes={self.flash_bytes}. "
                f"Received: flash_reserved_bytes={self.flash_reserved_bytes}."
            )
        if self.ram_reserved_bytes >= sum(region.size_bytes for region in self.ram_regions):
            raise SpecError(
                "expected ram_reserved_bytes below the size of all ram_regions. "
                f"Received: ram_reserved_bytes={self.ram_reserved_bytes}."
            )

    @property
    def model_limits(self) -> Limits:
        """What a model may use on this device: the tighter of its limits and its memory.

        The arena lies in one region, the largest that is left when the reserved bytes are taken
        from the others first.
        """
        sizes = sorted(region.size_bytes for region in self.ram_regions)
        reserved_in_largest = max(0, self.ram_reserved_bytes - sum(sizes[:-1]))
        ram = max(
            min(
                region.arena_max_bytes or region.size_bytes,
                region.size_bytes - (reserved_in_largest if region.size_bytes == sizes[-1] else 0),
            )
            for region in self.ram_regions
        )
        flash = self.flash_bytes - self.flash_reserved_bytes
        return replace(
            self.limits,
            ram_bytes=min(ram, self.limits.ram_bytes or ram),
            flash_bytes=min(flash, self.limits.flash_bytes or flash),
        )
