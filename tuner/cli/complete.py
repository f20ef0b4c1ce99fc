"""What a shell's completion offers for names; imports nothing before it is asked."""

from __future__ import annotations

from collections.abc import Iterable


def target_names(incomplete: str) -> list[str]:
    """Targets of the catalog, and `all`."""
    from tuner import catalog

    return _beginning(["all", *catalog.names("targets")], incomplete)


def space_names(incomplete: str) -> list[str]:
    """Search spaces of the catalog, and `auto`."""
    return [*_beginning(["auto"], incomplete), *space_cards(incomplete)]


def space_cards(incomplete: str) -> list[str]:
    """Search spaces of the catalog."""
    from tuner import catalog

    return _beginning(catalog.names("search_spaces"), incomplete)


def exporter_names(incomplete: str) -> list[str]:
    """Formats that models are exported to."""
    from tuner import catalog

    return _beginning(catalog.names("exporters"), incomplete)


def run_names(incomplete: str) -> list[str]:
    """Runs, the newest first, and `latest`."""
    from tuner.store.runs import known_runs

    return _beginning(["latest", *(run.name for run in known_runs())], incomplete)


def model_names(incomplete: str) -> list[str]:
    """Models, the newest first, and `latest`; a name stands for its newest version."""
    from tuner.store.models import known_models

    names = dict.fromkeys(model.path.parent.name for model in known_models())
    return _beginning(["latest", *names], incomplete)


def _beginning(names: Iterable[str], incomplete: str) -> list[str]:
    return [name for name in names if name.startswith(incomplete)]
