"""The options of a search in the words of the command line, from wherever they come."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.engine.search import SearchRequest, request_again, versions
from tuner.errors import InputError, SpecError
from tuner.spec import Limits, RankBy, RunSpec, Target, from_plain
from tuner.spec.times import parse_time
from tuner.store.files import read_json
from tuner.store.toml import read_toml

DEFAULT_DATA = "sample:parts"

LISTS = ("target", "space")
"""Options that may be given several times; one text stands for a list of one."""

_LIMITS = ("ram_kb", "flash_kb", "latency_ms", "train_minutes")


@dataclass(frozen=True, slots=True, kw_only=True)
class SearchOptions:
    """Options as `tune --help` describes them; None for what was not given."""

    target: tuple[str, ...] | None = None
    data: str | None = None
    group_by: str | None = None
    time: str | None = None
    max_candidates: int | None = None
    workers: int | None = None
    space: tuple[str, ...] | None = None
    seed: int | None = None
    name: str | None = None
    rank_by: RankBy | None = None
    repeats: int | None = None
    baselines: bool | None = None
    weights: str | None = None
    ram_kb: float | None = None
    flash_kb: float | None = None
    latency_ms: float | None = None
    train_minutes: float | None = None


def read_request(
    given: Mapping[str, Any],
    *,
    where: str,
    config: Path | None = None,
    targets: tuple[Target, ...] = (),
) -> tuple[SearchRequest, list[str]]:
    """What is asked for, by options and by a file whose place they take.

    Args:
        given: options by the names of SearchOptions; those that are None do not count.
        where: names their source in errors.
        config: `run.json` of a run to repeat, or a TOML file of options.
        targets: to search for beside those that are named.

    Returns:
        The request, and notes for the user.

    Raises:
        InputError: an option is unknown, of the wrong kind or out of its bounds, or no target is
            named.
    """
    notes: list[str] = []
    again: SearchRequest | None = None
    options: dict[str, Any] = {}
    if config is not None and config.suffix == ".json":
        spec = from_plain(RunSpec, read_json(config), str(config))
        again = request_again(spec)
        notes = _other_versions(spec)
    elif config is not None:
        options = _checked(read_toml(config), str(config))
    options |= _checked(given, where)
    fields = _fields(options)
    if targets:
        fields["targets"] = (*fields.get("targets", ()), *targets)
    if again is not None:
        if fields.keys() & {"data", "seed", "group_by"}:  # other data, or other splits of the same
            fields["fingerprint"] = None
        if "weights" in fields:
            fields["backbones"] = ()
        if "spaces" in fields:  # files among them are read as they are now
            fields["space_files"] = {}
        return replace(again, **fields), notes
    if "targets" not in fields:
        names = ", ".join(sorted(catalog.names("targets")))
        raise InputError(f"Expected --target: the device to search for. Known: {names}.")
    if "data" not in fields:
        notes.append(f"No --data given: using {DEFAULT_DATA}, generated images.")
        fields["data"] = DEFAULT_DATA
    return SearchRequest(**fields), notes


def read_extension(time: str | None, max_candidates: int | None) -> tuple[float | None, int | None]:
    """Seconds and candidates that a run is extended by; None for what was not given.

    Raises:
        InputError: one of them is of the wrong kind or out of its bounds.
    """
    given = {"time": time, "max_candidates": max_candidates}
    fields = _fields(_checked(given, "tune extend"))
    return fields.get("budget_seconds"), fields.get("max_candidates")


def _checked(given: Mapping[str, Any], where: str) -> dict[str, Any]:
    """Options by name, each of the right kind."""
    plain = {
        name: [value] if name in LISTS and isinstance(value, str) else value
        for name, value in given.items()
        if value is not None
    }
    if not isinstance(plain.get("time", ""), str):
        raise SpecError(
            f"{where}: time: expected a text such as '60s', '20m' or '1h30m'. "
            f"Received: {plain['time']!r}."
        )
    options = from_plain(SearchOptions, plain, where)
    return {name: getattr(options, name) for name in plain}


def _fields(options: Mapping[str, Any]) -> dict[str, Any]:
    """The fields of SearchRequest that options stand for."""
    names = {"target": "targets", "space": "spaces"}
    same = (
        "data", "group_by", "max_candidates", "workers", "seed", "name", "rank_by", "repeats",
        "baselines", "weights",
    )  # fmt: skip
    fields = {names.get(name, name): options[name] for name in (*same, *names) if name in options}
    least = {"max_candidates": 1, "workers": 1, "repeats": 1, "seed": 0}
    for name, bound in least.items():
        if fields.get(name, bound) < bound:
            raise InputError(
                f"Expected a number of {bound} or more for {_option(name)}. "
                f"Received: {fields[name]}."
            )
    if "time" in options:
        fields["budget_seconds"] = parse_time(options["time"])
    limits = {name: options.get(name) for name in _LIMITS}
    for name, value in limits.items():
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"Expected a number above 0 for {_option(name)}. Received: {value}.")
    if any(value is not None for value in limits.values()):
        ram_kb, flash_kb = limits["ram_kb"], limits["flash_kb"]
        fields["limits"] = Limits(
            ram_bytes=None if ram_kb is None else int(ram_kb * 1024),
            flash_bytes=None if flash_kb is None else int(flash_kb * 1024),
            latency_ms=limits["latency_ms"],
            train_minutes=limits["train_minutes"],
        )
    return fields


def _option(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _other_versions(spec: RunSpec) -> list[str]:
    """What is installed in other versions than the run was made with."""
    here = versions()
    differ = [
        f"{package} {version} (here {here[package]})"
        for package, version in spec.versions.items()
        if package in here and here[package] != version
    ]
    if not differ:
        return []
    return [f"{spec.name} was made with {', '.join(differ)}; results may differ."]
