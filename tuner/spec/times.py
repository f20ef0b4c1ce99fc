"""Times as people write them: `90s`, `20m`, `1h30m`."""

from __future__ import annotations

import re

from tuner.errors import InputError

LEAST_TRAIN_MINUTES = 0.1
"""Of a retraining by the clock."""

_SECONDS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


def parse_time(text: str, option: str = "--time") -> float:
    """Seconds of a time such as `90s`, `20m`, `1h30m` or `7d`, given with `option`.

    Raises:
        InputError: it is not such a time, or it is 0.
    """
    parts = re.findall(r"(\d+(?:\.\d+)?)([smhd])", text.strip())
    if not parts or "".join(number + unit for number, unit in parts) != text.strip():
        raise InputError(
            f"Expected a time such as 90s, 20m, 1h30m or 7d for {option}. Received: {text!r}."
        )
    seconds = sum(float(number) * _SECONDS[unit] for number, unit in parts)
    if seconds < 1:
        raise InputError(f"Expected a time of at least 1s for {option}. Received: {text!r}.")
    return seconds
