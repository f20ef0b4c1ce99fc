"""Run or go on with a prepared search, and show how it ended."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

from tuner.store.runs import RunFolder

TARGETS_SHOWN = 5
WIDTH = 80
"""Columns of a terminal; names of classes that take more are not shown."""


def run_and_show(folder: RunFolder, started: float | None = None) -> None:
    """Search with live progress on stderr; the board and the next step on stdout.

    Args:
        folder: of the run.
        started: `time.monotonic()` from which its budget counts; None for now.

    Raises:
        TuneError: the search could not go on, was stopped, or nothing fits.
    """
    from tuner.cli.board_table import print_bests, print_board
    from tuner.dashboard.terminal import live_progress
    from tuner.engine.board import board
    from tuner.engine.notices import notices
    from tuner.engine.outcome import best_board
    from tuner.engine.search import run_search
    from tuner.engine.signals import interrupt_on_signals

    spec = folder.spec()
    dataset, several = spec.dataset, len(spec.targets) > 1
    counts = dataset.counts
    names = f"      {', '.join(dataset.classes)}\n"
    print(
        f"Data: {dataset.source}, {len(dataset.classes)} classes, "
        f"{dataset.image_width}x{dataset.image_height} {dataset.colour}\n"
        f"{names if len(names) <= WIDTH else ''}"
        f"      {counts['training']} training, {counts['validation']} validation, "
        f"{counts['test']} test images",
        file=sys.stderr,
    )
    if several:
        shown = [target.name for target in spec.targets[:TARGETS_SHOWN]]
        more = len(spec.targets) - len(shown)
        print(f"For:  {', '.join(shown)}{f' and {more} more' if more else ''}", file=sys.stderr)
    for line in notices(spec):
        print(line, file=sys.stderr)
    print(f"Run:  {folder.path}", file=sys.stderr)
    interrupt_on_signals()
    with live_progress(spec) as progress:
        run_search(folder, progress, started=started)
    boards = [board(folder, target_name=target.name) for target in spec.targets]
    if boards[0].rows and several:
        print_bests(boards)
        print(f"\nEach board: tune report {folder.name} --target NAME")
    elif boards[0].rows:
        print_board(boards[0])
    best = best_board(folder, boards)
    which = f" --target {best.target.name}" if several else ""
    template = _free_template(folder.name)
    print(
        f"\nNext: tune select {folder.name} 1{which} -o {template} &&"
        f"\n      tune retrain {template}"
        f"\nRank 1: {best.rows[0].result.candidate.id}"
        f"\nAll figures: tune report {folder.name} --format json"
    )


def _free_template(run: str) -> str:
    """A file to select into; one that is there may be of another run."""
    names = (run if number == 1 else f"{run}-{number}" for number in itertools.count(1))
    return next(f"{name}.toml" for name in names if not Path(f"{name}.toml").exists())
