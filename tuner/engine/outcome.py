"""How a search ended, the same for the command line and Python: its best board, or why none."""

from __future__ import annotations

from collections.abc import Sequence

from tuner.engine.board import Board
from tuner.engine.plan import Plan
from tuner.engine.steps import Steps
from tuner.errors import NothingFitsError, TuneError
from tuner.spec import RunSpec
from tuner.store.runs import RunFolder


def best_board(folder: RunFolder, boards: Sequence[Board]) -> Board:
    """The first board with a candidate that was trained and fits its target.

    Args:
        folder: of a run that has ended.
        boards: of its targets, in their order.

    Raises:
        NothingFitsError: by what was measured, no candidate keeps the limits.
        TuneError: none was trained, or none to its end.
    """
    spec = boards[0].spec
    if not boards[0].rows:
        raise TuneError(_too_short(spec, max(event["elapsed"] for event in folder.events())))
    if not any(row.result.status == "ok" for row in boards[0].rows):
        raise TuneError(
            f"No candidate of {folder.name} was trained to its end; 'tune report "
            f"{folder.name} --format json' has the reasons.{_going_on(folder, boards[0])}"
        )
    best = next((item for item in boards if item.rows[0].fits), None)
    if best is None:
        raise NothingFitsError(
            "By what was measured after training, no candidate keeps the limits; 'tune report "
            f"{folder.name}' says why. Loosen them, or choose a larger target ('tune targets')."
        )
    return best


def _going_on(folder: RunFolder, board: Board) -> str:
    """What to do where the best was stopped before its end; nothing where nothing was trained."""
    spec, best = board.spec, board.rows[0]
    if best.result.status != "stopped" or not best.fits:
        return ""
    in_full = f"'tune select {spec.name} 1' and 'tune retrain' train the best in full"
    plan = Plan(spec)
    if plan.final_seconds is None:
        return f" {in_full}."
    steps = Steps(spec)
    for event in folder.events():
        steps.take(event)
    index = steps.to_finish(len(plan.rung_shares) - 1)
    named = [row.result for row in board.rows if row.result.index == index]
    if not named:  # all went wrong on their way to the last rung
        return f" {in_full}."
    more = plan.finishing_extension(named[0].candidate, steps.trained_seconds(named[0].index))
    what = "the best" if index == best.result.index else named[0].candidate.id
    return f" Finish {what} with 'tune extend {spec.name} --time {more}s'; {in_full}."


def _too_short(spec: RunSpec, elapsed_seconds: float) -> str:
    """Why a search by the clock trained nothing, and the time that is enough."""
    plan = Plan(spec)
    before = spec.extended[-1].elapsed_seconds if spec.extended else 0.0
    given = (spec.budget_seconds or 0.0) - before
    left = max(0.0, (plan.search_ends_seconds or 0.0) - elapsed_seconds)
    time = f"--time {plan.enough_seconds(elapsed_seconds)}s"
    again = f"Search again with {time}" + (" or --workers 1." if spec.workers > 1 else ".")
    return (
        f"No candidate of {spec.name} was trained: opening the data and measuring this machine "
        f"took {elapsed_seconds - before:.0f} of {given:.0f} s. That left the search {left:.0f} s, "
        f"and a first candidate is started with {plan.least_seconds:.0f} s or more. "
        + (f"Go on with 'tune extend {spec.name} {time}'." if spec.extended else again)
    )
