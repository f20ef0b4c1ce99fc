"""Does a cost keep the limits? And if not, why, in a line."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

from tuner.spec import Cost, Excess, Limits
from tuner.spec.cost import LimitName

KB = 1024

SECONDS_BELOW_MINUTES = 3
"""Shorter times are written in seconds."""

UNSUPPORTED = "unsupported"

LIMIT_NAMES: Mapping[str, str] = {
    "ram_bytes": "RAM",
    "flash_bytes": "flash",
    "latency_ms": "latency",
    "train_minutes": "full training",
    "candidate_minutes": "training within this search",
    UNSUPPORTED: "refused by the runtime",
}
"""Limits as people read them, and what else keeps a net from a device."""


def check_limits(cost: Cost, limits: Limits) -> Cost:
    """Return `cost` with `over` filled anew.

    RAM and flash compare their `high`: what may not fit is not trained. Latency and training
    time compare their `value`: their bands are wide, and `high` would drop most of what is fast
    enough. What is not known or not limited is not exceeded.
    """
    over: list[Excess] = []
    needs: tuple[tuple[LimitName, float | None, float | None, str], ...] = (
        ("ram_bytes", cost.ram_bytes.high, limits.ram_bytes, cost.ram_peak_at),
        ("flash_bytes", cost.flash_bytes.high, limits.flash_bytes, ""),
        ("latency_ms", cost.latency_ms.value, limits.latency_ms, ""),
        (
            "train_minutes",
            cost.train_minutes.value if cost.train_minutes else None,
            limits.train_minutes,
            "",
        ),
    )
    for limit, needed, allowed, where in needs:
        if needed is not None and allowed is not None and needed > allowed:
            over.append(Excess(limit=limit, needed=needed, allowed=allowed, at=where))
    return replace(cost, over=tuple(over))


def reasons(cost: Cost) -> str:
    """Why a candidate does not fit, in a line: refused by the runtime, then the limits."""
    return "; ".join([*cost.refused, *map(explain, cost.over)])


def explain(excess: Excess) -> str:
    """Say in a line what is exceeded and by how much.

    For example ``flash 1.2 MB > 1.0 MB, 204.8 KB too much``, or with the node at which the arena
    is fullest: ``RAM 276.9 KB > 256.0 KB, 20.9 KB too much, at 'stage1_conv'``.
    """
    more = excess.needed - excess.allowed
    if excess.limit in ("ram_bytes", "flash_bytes"):
        needed, allowed = format_bytes(excess.needed), format_bytes(excess.allowed)
        if needed == allowed:  # they differ by less than what is shown
            needed, allowed = f"{excess.needed:,.0f} B", f"{excess.allowed:,.0f} B"
        excessive = format_bytes(more)
        name = LIMIT_NAMES[excess.limit]
    else:
        unit, factor = "ms" if excess.limit == "latency_ms" else "min", 1
        if unit == "min" and excess.needed < SECONDS_BELOW_MINUTES:
            unit, factor = "s", 60
        high, low = factor * excess.needed, factor * excess.allowed
        digits = 1
        while digits < 4 and (
            f"{high:.{digits}f}" == f"{low:.{digits}f}" or float(f"{low:.{digits}f}") == 0.0
        ):
            digits += 1
        # Of the rounded figures, so that the three agree.
        more = round(high, digits) - round(low, digits)
        needed, allowed, excessive = (f"{figure:.{digits}f} {unit}" for figure in (high, low, more))
        name = LIMIT_NAMES[excess.limit]
    where = f", at '{excess.at}'" if excess.at else ""
    return f"{name} {needed} > {allowed}, {excessive} too much{where}"


def format_minutes(*minutes: float) -> str:
    """Write a time or a range of times for people: ``45 s``, ``2 to 12 s``, ``1.2 to 20.0 min``.

    The longest decides on the unit; where it is next to nothing, ``under 1 s``.
    """
    longest = max(minutes)
    if 60 * longest < 0.5:
        return "under 1 s"
    seconds = longest < SECONDS_BELOW_MINUTES
    figures = (f"{60 * time:.0f}" if seconds else f"{time:.1f}" for time in minutes)
    return f"{' to '.join(dict.fromkeys(figures))} {'s' if seconds else 'min'}"


def format_bytes(number: float) -> str:
    """Write bytes for people: ``512 B``, ``276.9 KB``, ``1.2 MB``; a KB is 1024 bytes."""
    if number < KB:
        return f"{number:.0f} B"
    if number < KB * KB:
        return f"{number / KB:.1f} KB"
    return f"{number / KB / KB:.1f} MB"
