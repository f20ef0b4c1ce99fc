"""Where a user's settings lie, and reading them."""

from __future__ import annotations

import os
from pathlib import Path

from tuner.spec import Settings, from_plain
from tuner.store.toml import read_toml


def settings_file() -> Path:
    """`edge-tuner/settings.toml` in `$XDG_CONFIG_HOME`, or in `~/.config`."""
    folder = os.environ.get("XDG_CONFIG_HOME") or os.path.expanduser("~/.config")
    return Path(folder) / "edge-tuner" / "settings.toml"


def read_settings() -> Settings:
    """The user's settings; defaults where there is no file.

    Raises:
        SpecError: the file is not TOML, or has an unknown or wrong field.
    """
    path = settings_file()
    return from_plain(Settings, read_toml(path), str(path)) if path.exists() else Settings()
