"""Turn a ranked candidate into a template."""

from __future__ import annotations

from pathlib import Path

from tuner.cost.fit import reasons
from tuner.engine.board import Board, board, find_candidate
from tuner.engine.transfer import run_weights
from tuner.errors import InputError
from tuner.rank.order import Ranked
from tuner.spec import Result, RunSpec, Target, Template
from tuner.store.runs import RunFolder, check_name
from tuner.store.templates import write_template


def make_template(
    spec: RunSpec, result: Result, target: Target, name: str, weights: str = ""
) -> Template:
    """The template of a result for a target; its training begins with the file `weights`."""
    return Template(
        name=name,
        run=spec.name,
        candidate=result.candidate.id,
        task=spec.task,
        data=spec.dataset.source,
        fingerprint=spec.dataset.fingerprint,
        split_seed=spec.dataset.split_seed,
        group_by=spec.dataset.group_by,
        seed=spec.seed,
        preprocessing=result.candidate.preprocessing,
        training=result.candidate.training,
        architecture=result.candidate.architecture,
        target=target,
        weights=weights,
    )


def select(
    folder: RunFolder, wanted: str, output: Path | None, target_name: str | None = None
) -> Path:
    """Write the template of a candidate and return its path.

    Args:
        folder: of the run.
        wanted: rank, id or unique prefix of an id.
        output: the file to write; None writes `RUN-ID.toml` in the current folder.
        target_name: the device of the template, whose board gives the rank; None for the run's
            first.

    Raises:
        InputError: no such candidate, it does not fit the target, or the file exists.
    """
    ranked = board(folder, target_name=target_name)
    row = find_candidate(ranked, wanted)
    spec, result, target = ranked.spec, row.result, ranked.target
    if result.status not in ("ok", "stopped"):
        raise InputError(
            f"Expected a candidate that was trained. {result.candidate.id} is "
            f"{result.status}: {result.reason}."
        )
    if not row.fits:
        why = reasons(result.costs[target.name])
        raise InputError(
            f"{result.candidate.id} does not fit {target.name}: {why}. See "
            f"'tune report {folder.name}{ranked.target_option}' for what does."
        )
    if output is None:
        output = Path(f"{folder.name}-{result.candidate.id}.toml")
    if output.suffix != ".toml":
        raise InputError(f"Expected a file that ends in .toml. Received: {output}.")
    check_name("model", output.stem)
    if output.exists():
        raise InputError(f"{output} exists; choose another name with -o, or remove it first.")
    fingerprint = result.candidate.training.weights
    weights = str(run_weights(folder, fingerprint)) if fingerprint else ""
    template = make_template(spec, result, target, output.stem, weights)
    write_template(output, template, _card(ranked, row))
    return output


def _card(board: Board, row: Ranked) -> str:
    result = row.result
    lines = [
        f"Candidate {result.candidate.id}, rank {row.rank} of the run {board.spec.name}",
        f"for {board.target.title}. Retrain it with: tune retrain THIS-FILE",
        "Edit what you like; unknown layers and settings are refused with a reason.",
    ]
    for precision in ("float32", "int8"):
        accuracy = result.accuracy(precision)
        if accuracy:
            lines.append(
                f"{precision} accuracy in the search: {accuracy.value:.1%} on "
                f"{accuracy.total} validation images after {result.epochs} epochs"
            )
    return "\n".join(lines)
