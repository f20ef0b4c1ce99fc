"""Gather what a model costs on targets, operator by operator, as plain rows."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.cost.arena import plan_arena
from tuner.cost.change import nearest_change
from tuner.cost.fit import explain
from tuner.cost.flash import model_file_bytes
from tuner.cost.latency import unknown_core
from tuner.cost.lower import Graph, lower
from tuner.dashboard.rows import cost_row
from tuner.engine.board import board, find_candidate
from tuner.engine.costs import cost_on
from tuner.errors import InputError, TuneError
from tuner.runtimes.tflite_file import read_graph
from tuner.spec import Architecture, Candidate, Cost, Target, from_plain, to_plain
from tuner.store.files import read_json
from tuner.store.runs import RunFolder, find_run
from tuner.store.templates import read_template


@dataclass(frozen=True, slots=True, kw_only=True)
class Subject:
    """What is profiled.

    Args:
        name: as the user knows it.
        graph: its operators and tensors.
        architecture: of a candidate or template; None for a file, which cannot be changed.
        model: the file's bytes; None where there is no file.
        targets: those it was made for, with the limits it was made for; empty for a file.
    """

    name: str
    graph: Graph
    architecture: Architecture | None = None
    model: bytes | None = None
    targets: tuple[Target, ...] = ()


def find_subject(wanted: str, names: Sequence[str] = ()) -> Subject:
    """The model that a user means.

    Args:
        wanted: a `.tflite` file, a `candidate.json`, a template `.toml`, or a candidate of a run:
            `RUN/RANK`, `RUN/ID` with a unique prefix of the id, where RUN may be `latest`.
        names: the targets that were named; a single one's board gives the rank.

    Raises:
        InputError: it is none of these, or cannot be read.
    """
    path = Path(wanted).expanduser()
    if path.suffix.lower() == ".tflite":
        graph = read_graph(path)
        return Subject(name=path.name, graph=graph, model=path.read_bytes())
    if path.suffix == ".json":
        candidate = from_plain(Candidate, read_json(path), str(path))
        own = () if names else _targets_of_run(path)
        return _of_candidate(path.name, candidate.architecture, own)
    if path.suffix == ".toml":
        template = read_template(path)
        return _of_candidate(template.name, template.architecture, (template.target,))
    run, slash, name = wanted.rpartition("/")
    if not slash:
        raise InputError(
            "Expected a .tflite file, a candidate.json, a template .toml, or RUN/CANDIDATE such "
            f"as latest/1. Received: '{wanted}'."
        )
    folder = find_run(run)
    ranked = board(folder, target_name=names[0] if len(names) == 1 else None)
    result = find_candidate(ranked, name).result
    return _of_candidate(
        f"{folder.name}/{result.candidate.id}",
        result.candidate.architecture,
        folder.spec().targets,
    )


def _of_candidate(name: str, architecture: Architecture, targets: tuple[Target, ...]) -> Subject:
    return Subject(name=name, graph=lower(architecture), architecture=architecture, targets=targets)


def _targets_of_run(candidate: Path) -> tuple[Target, ...]:
    """The targets of the run whose folder a `candidate.json` lies in; none elsewhere."""
    parents = candidate.resolve().parents
    if len(parents) > 2 and (parents[2] / "run.json").is_file():
        return RunFolder(parents[2]).spec().targets
    return ()


def choose_targets(
    subject: Subject, names: Sequence[str], all_targets: bool
) -> tuple[tuple[Target, ...], list[str]]:
    """The targets to profile for: those named, and all of the catalog where asked for.

    A name of one of the subject's own targets stands for that one, with its limits. Without any
    name they are the subject's own; for a file, all of the catalog.

    Returns:
        The targets, and lines on those of the catalog whose files are broken and on cores.

    Raises:
        UnknownNameError: no such target.
        InputError: two different ones of one name.
    """
    own = {target.name: target for target in subject.targets}
    wanted = [own.get(name) or catalog.load_runnable_target(name) for name in names]
    lines = []
    if all_targets or not (names or own):
        loaded, broken = catalog.load_targets()
        wanted += loaded.values()
        lines += [f"Left out: {error}" for error in broken]
    found: dict[str, Target] = {}
    for target in wanted or subject.targets:
        if found.setdefault(target.name, target) != target and target.name not in own:
            raise InputError(
                f"Expected targets of different names. Received two named '{target.name}' that "
                "differ; give one of them another name."
            )
    lines += filter(None, map(unknown_core, found.values()))
    return tuple(found.values()), lines


def profile_row(subject: Subject, target: Target, *, measure: bool) -> dict[str, Any]:
    """What a model costs on one target.

    Args:
        subject: the model.
        target: the device.
        measure: also ask a tool of the runtime, where there is one and the model is a file.

    Returns:
        The fields of `cost_row`, and `target`, `runtime`, `file_bytes` (exact for a file, else
        predicted), `limits`, `unsupported` (kinds of operators that the runtime lacks), `reasons`
        (why it is refused and what is over, in words), `advice` (what would make it fit),
        `measured` and `measure_note` (why nothing was measured), and `operators`.
    """
    graph = subject.graph
    runtime = catalog.load_module("runtimes", target.runtime)
    lacking = sorted({item.kind for item in graph.operators} - runtime.OPERATORS)
    cost = cost_on(graph, target)
    measured, note = _measured(subject, target) if measure else ({}, "")
    row = cost_row(cost)
    return {
        "target": target.name,
        "runtime": target.runtime,
        **row,
        "limits": to_plain(target.model_limits),
        "unsupported": lacking,
        "reasons": [
            *cost.refused,
            *(explain(replace(excess, at=spoken_name(excess.at))) for excess in cost.over),
        ],
        "advice": _advice(subject, target, cost),
        "file_bytes": round(model_file_bytes(graph).value),
        "measured": measured,
        "measure_note": note,
        "operators": operator_rows(graph, target, runtime),
    }


def overview_rows(subject: Subject, targets: Iterable[Target]) -> list[dict[str, Any]]:
    """A row for each of several targets, nothing measured.

    A target whose runtime refuses the model gets the same fields, without figures, and the reason.
    """
    rows: list[dict[str, Any]] = []
    refused: dict[int, dict[str, Any]] = {}
    for index, target in enumerate(targets):
        try:
            rows.append(profile_row(subject, target, measure=False))
        except TuneError as error:
            refused[index] = {
                "target": target.name,
                "runtime": target.runtime,
                "fits": False,
                "limits": to_plain(target.model_limits),
                "reasons": [str(error).rstrip(".")],
            }
    fields = dict.fromkeys(rows[0]) if rows else {}
    for index, row in refused.items():
        rows.insert(index, {**fields, **row})
    return rows


def smallest_fitting(rows: Iterable[dict[str, Any]]) -> str:
    """The target that fits with the least RAM, then flash, that a model may use; or empty."""
    fitting = [row for row in rows if row["fits"]]
    if not fitting:
        return ""
    smallest = min(
        fitting, key=lambda row: (row["limits"]["ram_bytes"], row["limits"]["flash_bytes"])
    )
    return str(smallest["target"])


def spoken_name(name: str) -> str:
    """A node's or tensor's name for people: the first of joined ones, without the model's scope."""
    return name.split(";")[0].split("/", 1)[-1]


def operator_rows(graph: Graph, target: Target, runtime: Any) -> list[dict[str, Any]]:
    """One row an operator; `runtime` is the target's.

    `ram_bytes` are the tensors, and scratch of the kernels, alive while it runs; `share` is that
    of the latency.
    """
    alive = plan_arena(graph, kernels=target.kernels, cpu=target.cpu).alive_bytes
    latencies = runtime.operator_latency_ms(graph, target)
    total = sum(latencies)
    return [
        {
            "index": index,
            "name": operator.name,
            "kind": operator.kind,
            "output_shape": list(operator.output_shape),
            "macs": operator.macs,
            "weights": operator.weights,
            "ram_bytes": ram_bytes,
            "latency_ms": milliseconds,
            "share": milliseconds / total if total else 0.0,
            "supported": operator.kind in runtime.OPERATORS,
        }
        for index, (operator, ram_bytes, milliseconds) in enumerate(
            zip(graph.operators, alive, latencies, strict=True), start=1
        )
    ]


def _measured(subject: Subject, target: Target) -> tuple[dict[str, Any], str]:
    """What a tool of the runtime says about a file, by name, and why there is nothing."""
    runtime = catalog.load_module("runtimes", target.runtime)
    if subject.model is None or not hasattr(runtime, "measure"):
        return {}, ""
    try:
        found = runtime.measure({subject.graph.precision: subject.model}, target)
    except (ImportError, TuneError) as error:
        return {}, str(error)
    return {name: to_plain(quantity) for name, quantity in found.items()}, ""


def _advice(subject: Subject, target: Target, cost: Cost) -> str:
    if not cost.over or cost.refused:
        return ""
    if subject.architecture is not None:
        return nearest_change(subject.architecture, _fits_on(target))
    weights = sum(operator.weights for operator in subject.graph.operators)
    ways = {
        "ram_bytes": "smaller tensors"
        + (f" at '{spoken_name(cost.ram_peak_at)}'" if cost.ram_peak_at else ""),
        "flash_bytes": f"fewer than its {weights:,} weights",
        "latency_ms": f"fewer than its {cost.macs:,} MACs",
    }
    return "a file cannot be changed here; it needs " + ", ".join(
        ways[excess.limit] for excess in cost.over if excess.limit in ways
    )


def _fits_on(target: Target) -> Callable[[Architecture], bool]:
    def fits(architecture: Architecture) -> bool:
        return cost_on(lower(architecture), target).fits

    return fits
