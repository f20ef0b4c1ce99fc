"""Data that comes with the tuner. One file each; its stem is its name.

A file offers `VERSION`, raised whenever its images change, `CLASSES`, the names in label order,
and `make()`, which gives images, uint8, n x height x width x channels, and labels, int64, n.
Files whose name begins with an underscore are helpers.
"""

from __future__ import annotations

import pkgutil


def sample_names() -> list[str]:
    """Names that may follow `sample:`, sorted."""
    return sorted(m.name for m in pkgutil.iter_modules(__path__) if not m.name.startswith("_"))
