"""What a user should know of a search before it starts."""

from __future__ import annotations

from tuner import catalog
from tuner.cost.latency import unknown_core
from tuner.engine.transfer import learned_before
from tuner.propose.edge_impulse import read_parts
from tuner.spec import RunSpec


def notices(spec: RunSpec) -> list[str]:
    """Lines on data, targets and parts of spaces that are left out, and on runtimes."""
    lines = spec.dataset.warnings
    if left_out := spec.dataset.left_out:
        things = "file or folder" if len(left_out) == 1 else "files or folders"
        lines.append(
            f"Left out: {len(left_out)} {things}, the first {left_out[0]} "
            "('tune data check' names all)"
        )
    lines += [f"Left out: {reason}" for reason in spec.left_out.values()]
    lines += filter(None, [learned_before(spec.weights, spec.dataset)])
    lines += [
        f"{name}: {note}"
        for name, content in spec.space_files.items()
        for note in read_parts(content, name)[1]
    ]
    lines += filter(None, map(unknown_core, spec.targets))
    for runtime in dict.fromkeys(target.runtime for target in spec.targets):
        if notice := getattr(catalog.load_module("runtimes", runtime), "notice", None):
            lines.append(notice())
    return lines
