"""A run's events in words, a line each."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any


def event_line(event: Mapping[str, Any], ids: Mapping[int, str] = MappingProxyType({})) -> str:
    """One event in words, with the candidate's id if it is known by `ids`."""
    seconds = int(event.get("elapsed", 0.0))
    clock = f"{seconds // 3600}:{seconds // 60 % 60:02d}:{seconds % 60:02d}"
    name = f"{ids[event['index']]} " if event.get("index") in ids else ""
    return f"{clock:>8}  {name}{_words(event)}"


def _words(event: Mapping[str, Any]) -> str:
    kind = event["event"]
    if kind == "proposed":
        return f"proposed, {event['origin']}"
    if kind == "promoted":
        return f"promoted to rung {event['rung']}"
    if kind == "started":
        seconds = event["seconds"]
        limit = "" if seconds is None else f" in at most {seconds:.0f} s"
        again = f", attempt {event['attempt']}" if event["attempt"] > 1 else ""
        return f"started to rung {event['rung']}: {event['epochs']} epochs{limit}{again}"
    if kind in ("rung", "finished"):
        what = f"rung {event['rung']}" if kind == "rung" else event["status"]
        trained = ""
        if "epochs" in event:
            trained = f", {event['epochs']} epochs in {event['train_seconds']:.0f} s"
        reason = f": {event['reason']}" if event.get("reason") else ""
        return f"{what}{trained}{reason}"
    if kind == "repeated":
        return (
            f"training {event['repeat'] + 1}, from another seed: {event['epochs']} epochs in "
            f"{event['train_seconds']:.0f} s"
        )
    if kind == "measured":
        measured = [f"measured for {', '.join(event['measured'])}"] if event["measured"] else []
        return "; ".join((*measured, *dict.fromkeys(event.get("unmeasured", {}).values())))
    if kind == "tested":
        return "scored on the test set"
    if kind == "extended":
        limits = []
        if event["budget_seconds"] is not None:
            limits.append(f"{event['budget_seconds']:.0f} s")
        if event["max_candidates"] is not None:
            limits.append(f"{event['max_candidates']} candidates")
        return f"extended to {' and '.join(limits)} in all"
    return str(kind)
