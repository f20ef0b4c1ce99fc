"""The ranked tables of a board, and what their figures mean, drawn with Rich."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tuner.cost.fit import LIMIT_NAMES, format_bytes, format_minutes, reasons
from tuner.dashboard.rows import the_best
from tuner.dashboard.terminal import SHORT_ID, input_text, milliseconds, percent
from tuner.engine.compiling import recipes_in_words
from tuner.rank.majority import majority_of
from tuner.rank.order import (
    Ranked,
    precision_accuracy,
    ranking_precision,
    target_accuracy,
)
from tuner.spec import Precision, Result

if TYPE_CHECKING:
    from rich.console import RenderableType

    from tuner.engine.board import Board


def print_board(board: Board) -> None:
    """Print the ranked table and what its figures mean, made to fit 80 columns."""
    from rich.console import Console

    console = Console(highlight=False)
    for renderable in board_renderables(board):
        console.print(renderable)


def print_bests(boards: Sequence[Board]) -> None:
    """Print the best candidate of each target, made to fit 80 columns."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("target", no_wrap=True)
    table.add_column("best", no_wrap=True)
    table.add_column("input", no_wrap=True)
    for name in ("int8 %", "test", "RAM", "flash", "ms", "fit"):
        table.add_column(name, justify="right", no_wrap=True)
    for board in boards:
        name = board.target.name
        trained = [row for row in board.rows if row.result.status in ("ok", "stopped")]
        fitting = [row for row in trained if row.fits]
        count = f"{len(fitting)}/{len(trained)}"
        if not fitting:
            table.add_row(name, "none", "", "", "", "", "", "", count, style="dim")
            continue
        result = fitting[0].result
        cost = result.costs[name]
        table.add_row(
            name,
            result.candidate.id[:SHORT_ID],
            input_text(result),
            percent(precision_accuracy(result, "int8")),
            percent(result.accuracy("int8", "test")),
            format_bytes(cost.ram_bytes.value),
            format_bytes(cost.flash_bytes.value),
            milliseconds(cost.latency_ms.value),
            count,
        )
    console = Console(highlight=False)
    console.print(table)
    console.print(
        f"best: the id's beginning, by {ranking_precision(boards[0].spec.rank_by)} validation "
        "accuracy; fit: of those trained",
        style="dim",
    )


def board_renderables(board: Board) -> list[RenderableType]:
    """The ranked table and its legend."""
    from rich.table import Table
    from rich.text import Text

    target = board.target
    table = Table(box=None, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    table.add_column("#", justify="right", no_wrap=True)
    # Where the device's own build was simulated, it comes first and int8 loses its error.
    simulated = any("target" in row.result.builds for row in board.rows)
    table.add_column("id" if simulated else "candidate", no_wrap=True)
    table.add_column("input", no_wrap=True)
    own_name = [f"{target.kernels.upper()} %"] if simulated else []
    for name in (*own_name, *(("int8", "float") if simulated else ("int8 %", "float32")), "test"):
        table.add_column(name, justify="right", no_wrap=True)
    for name in ("RAM", "flash", "ms"):
        table.add_column(name, justify="right", no_wrap=True)

    def accuracies(result: Result) -> list[str]:
        refused = target.name in result.unmeasured
        kpu = "failed" if refused else percent(target_accuracy(result), error=True)
        own = [kpu] if simulated else []
        int8 = percent(precision_accuracy(result, "int8"), error=not simulated)
        return [*own, int8, percent(precision_accuracy(result, "float32"))]

    def shown_id(result: Result) -> str:
        return result.candidate.id[: SHORT_ID if simulated else None]

    least = _majority_row(board, 2 if simulated else 1)
    for row in board.rows:
        result = row.result
        cost = result.costs[target.name]
        if least is not None and least.is_above(row):
            table.add_row(*least.cells, style="dim")
            least = None
        if result.status == "stopped":
            table.add_row(
                str(row.rank) if row.fits else "over", shown_id(result), input_text(result),
                *accuracies(result), f"rung {result.rung}",
                format_bytes(cost.ram_bytes.value), format_bytes(cost.flash_bytes.value),
                milliseconds(cost.latency_ms.value), style="dim",
            )  # fmt: skip
            continue
        if result.status != "ok":
            table.add_row(
                "", shown_id(result), input_text(result), str(result.status), "", "",
                *([""] if simulated else []), format_bytes(cost.ram_bytes.value),
                format_bytes(cost.flash_bytes.value), "", style="dim",
            )  # fmt: skip
            continue
        table.add_row(
            f"{row.rank}{'=' if row.tied else ''}" if row.fits else "over",
            shown_id(result),
            input_text(result),
            *accuracies(result),
            percent(result.accuracy("int8", "test")),
            format_bytes(cost.ram_bytes.value),
            format_bytes(cost.flash_bytes.value),
            milliseconds(cost.latency_ms.value),
            style=None if row.fits else "dim",
        )
    if least is not None:
        table.add_row(*least.cells, style="dim")
    return [table, Text(_legend(board), style="dim")]


@dataclass(frozen=True, slots=True)
class _MajorityRow:
    """What taking all images for one class gives, as a row of the table."""

    accuracy: float
    precision: Precision
    cells: tuple[str, ...]

    def is_above(self, row: Ranked) -> bool:
        """Whether it belongs before a candidate, which may have no accuracy."""
        found = precision_accuracy(row.result, self.precision)
        return found is None or not row.fits or found.value < self.accuracy


def _majority_row(board: Board, own_columns: int) -> _MajorityRow | None:
    """The row of the largest class; None where nothing was trained or counted."""
    majority = majority_of(board.spec.dataset)
    if majority is None or not any(row.result.builds for row in board.rows):
        return None
    shown = {split: f"{100 * share:.1f}" for split, share in majority.accuracy.items()}
    validation, test = shown.get("validation", "-"), shown.get("test", "-")
    return _MajorityRow(
        accuracy=majority.accuracy.get("validation", 0.0),
        precision=ranking_precision(board.spec.rank_by),
        cells=("", "majority", "", *[validation] * own_columns, validation, test, "", "", ""),
    )


def _legend(board: Board) -> str:
    spec, target, rows = board.spec, board.target, board.rows
    build = next((row.result.builds["int8"] for row in rows if "int8" in row.result.builds), None)
    lines = []
    if build is not None:
        total = build.accuracy["validation"].total
        lines.append(
            f"Accuracy in %: int8 (± standard error) and float32 on {total} validation images, "
            f"test = int8 on {spec.dataset.counts['test']} test images, never used to choose; "
            f"int8 run with {build.runtime} {build.kernels} kernels."
        )
    majority = majority_of(spec.dataset)
    if build is not None and majority is not None:
        lines.append(f"majority: all images taken for the largest class, '{majority.class_name}'.")
    times = [
        predicted.value
        for row in rows
        if row.fits
        and row.result.builds
        and (predicted := row.result.costs[target.name].train_minutes)
    ]
    if times:
        shown = format_minutes(min(times), max(times))
        lines.append(f"Retraining one in full takes about {shown} (predicted).")
    spaces: dict[str, list[int]] = {}
    for row in rows:
        spaces.setdefault(row.result.space, []).append(row.rank)
    if len(spaces) > 1:
        drawn = (
            f"{len(ranks)} from {space} (the best is rank {ranks[0]})"
            for space, ranks in spaces.items()
        )
        lines.append(f"Candidates by space: {', '.join(drawn)}.")
    baselines = [
        f"{row.result.baseline} is {row.result.candidate.id}, "
        + (f"rank {row.rank}" if row.result.builds else str(row.result.status))
        for row in rows
        if row.result.baseline
    ]
    if baselines:
        lines.append(f"Baselines: {'; '.join(baselines)}.")
    own = [row.result.builds["target"] for row in rows if "target" in row.result.builds]
    if own:
        sizes = sorted({build.paired["validation"].images for build in own})
        recipes = recipes_in_words([build.recipe for build in own])
        images = " to ".join(str(size) for size in dict.fromkeys((sizes[0], sizes[-1])))
        lines.append(
            f"{target.kernels.upper()}: {the_best(len(own))}, compiled ({recipes}) and run in "
            f"its simulator on {images} validation images: int8 and the difference there; the "
            "error is of both."
        )
    lines += _unmeasured_lines(board)
    if any(row.result.repeated for row in rows):
        lines.append(
            "(n): the mean of n trainings from different seeds, ± the standard error of that mean; "
            "test, and the files, are of the first."
        )
    stopped = [row.result for row in rows if row.result.status == "stopped"]
    if stopped:
        epochs = sorted(result.epochs for result in stopped)
        after = " to ".join(dict.fromkeys((str(epochs[0]), str(epochs[-1]))))
        lines.append(
            f"rung: stopped there to train the best, {len(stopped)} of {len(rows)} after "
            f"{after} epochs (without accuracy: far behind the others by "
            "half of a rung); 'tune retrain' trains any of them in full."
        )
    if any(row.tied for row in rows):
        lines.append("= ties in correct images, broken by latency, flash, id.")
    if rows and rows[0].fits and rows[0].result.status == "ok":
        cost = rows[0].result.costs[target.name]
        lines.append(
            f"RAM, flash, ms: estimated for {target.name}; "
            f"ms of rank 1: {milliseconds(cost.latency_ms.low)} to "
            f"{milliseconds(cost.latency_ms.high)} ({cost.latency_ms.basis})."
        )
        if frames := cost.frames_per_second:
            lines.append(
                f"Camera loop of rank 1: {frames.value:.0f} frames a second, {frames.low:.0f} to "
                f"{frames.high:.0f} (estimated: {frames.basis})."
            )
    trained = (row for row in rows if row.result.status in ("ok", "stopped"))
    over = next((row for row in trained if not row.fits), None)
    if over is not None:
        why = reasons(over.result.costs[target.name])
        lines.append(f"over: does not fit {target.name}; {over.result.candidate.id}: {why}.")
    if board.refused:
        counts = ", ".join(
            f"{LIMIT_NAMES[limit]} {count}" for limit, count in board.refused.items()
        )
        lines.append(f"Refused before training, by what is over: {counts}.")
        if board.nearest_miss:
            lines.append(f"Nearest miss: {board.nearest_miss}.")
    lines += _measured_lines(board)
    return "\n".join(lines)


def _unmeasured_lines(board: Board) -> list[str]:
    """What a tool of the runtime failed on, with the reason."""
    reasons: dict[str, list[str]] = {}
    for row in board.rows:
        if why := row.result.unmeasured.get(board.target.name):
            reasons.setdefault(why, []).append(row.result.candidate.id)
    return [f"failed: {', '.join(ids)}: {why}" for why, ids in reasons.items()]


def _measured_lines(board: Board) -> list[str]:
    """What tools of the runtime measured of the finalists, beside the estimates."""
    name = board.target.name
    rows = [row for row in board.rows if name in row.result.measured]
    if not rows:
        return []
    basis = next(iter(rows[0].result.measured[name].values())).basis
    parts = []
    heads = [
        (row.rank, row.result.measured[name]["arena_head_bytes"].value, planned)
        for row in rows
        if (planned := row.result.costs[name].ram_parts.get("arena_head")) is not None
        and "arena_head_bytes" in row.result.measured[name]
    ]
    differ = [
        f"rank {rank} {format_bytes(head)} (planned {format_bytes(planned)})"
        for rank, head, planned in heads
        if head != planned
    ]
    if heads:
        equal = f"as planned for {len(heads) - len(differ)} of {len(heads)}"
        parts.append(f"arena head {', '.join([equal, *differ])}")
    show = {"ram_bytes": format_bytes, "flash_bytes": format_bytes, "latency_ms": milliseconds}
    labels = {"ram_bytes": "RAM", "flash_bytes": "flash", "latency_ms": "ms"}
    for field, write in show.items():
        pairs = [
            f"rank {row.rank} {write(row.result.measured[name][field].value)} "
            f"(estimated {write(getattr(row.result.costs[name], field).value)})"
            for row in rows
            if field in row.result.measured[name]
        ]
        if pairs:
            parts.append(f"{labels[field]} {', '.join(pairs)}")
    finalists = "1 finalist" if len(rows) == 1 else f"{len(rows)} finalists"
    return [f"Measured for {finalists} ({basis}): {'; '.join(parts)}."]
