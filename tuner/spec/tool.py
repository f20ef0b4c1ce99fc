"""A tool beside this package, and whether it can be used here."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class Tool:
    """A package or program that a runtime or an exporter uses.

    Args:
        name: as its makers write it.
        version: of what is installed; empty where it cannot be used.
        place: where it was found, if not among the Python packages.
        missing: what is wrong and what to do about it, in whole sentences; empty where the tool
            can be used.
    """

    name: str
    version: str = ""
    place: str = ""
    missing: str = ""

    @property
    def ready(self) -> bool:
        """Whether it can be used."""
        return not self.missing
