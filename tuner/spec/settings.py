"""What a user sets once for a machine."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """The fields of `settings.toml`.

    Args:
        dotnet_root: folder of the .NET runtime that nncase runs on; empty for the one that `dotnet`
            in the PATH leads to.
    """

    dotnet_root: str = ""
