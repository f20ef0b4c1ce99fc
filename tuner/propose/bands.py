"""Targets grouped by size, so that one search serves all of them.

A candidate that fits a small device fits a large one too, but wastes it; one that suits the large
device does not fit the small one. Proposals therefore take turns among bands of targets whose
memory differs by less than `BAND_RATIO`, but for the largest devices, which are one band; and
within a band among its targets.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Sequence

from tuner.spec import Target

BAND_RATIO = 4.0

LARGEST_BYTES = 1 << 20
"""From here on memory hardly limits the nets that a search can train: one band."""


def size_bands(targets: Sequence[Target]) -> tuple[tuple[str, ...], ...]:
    """Names of targets by band, the smallest devices first.

    The size of a target is the smaller of the RAM and the flash that a model may use. Within a
    band come the smallest, then the largest, then those between, the middle ones first.
    """
    found: defaultdict[int, list[tuple[float, str]]] = defaultdict(list)
    for target in targets:
        limits = target.model_limits
        known = [size for size in (limits.ram_bytes, limits.flash_bytes) if size is not None]
        size = float(min(known))
        band = math.floor(math.log(min(size, LARGEST_BYTES), BAND_RATIO))
        found[band].append((size, target.name))
    return tuple(_from_the_ends(sorted(found[band])) for band in sorted(found))


def _from_the_ends(members: list[tuple[float, str]]) -> tuple[str, ...]:
    """Ends first, then the middles of what lies between, breadth first."""
    order = [0, len(members) - 1]
    gaps = [(0, len(members) - 1)]
    while gaps:
        low, high = gaps.pop(0)
        if high - low > 1:
            middle = (low + high) // 2
            order.append(middle)
            gaps += [(low, middle), (middle, high)]
    return tuple(members[index][1] for index in dict.fromkeys(order))
