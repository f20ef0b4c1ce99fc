"""The board of a run: its ranked candidates, and one of them by rank or id."""

from __future__ import annotations

from tuner.errors import InputError, UnknownNameError
from tuner.rank.order import Ranked, rank_results
from tuner.spec import RankBy
from tuner.store.runs import RunFolder


def board(folder: RunFolder, rank_by: RankBy | None = None) -> list[Ranked]:
    """The ranked candidates of a run.

    Args:
        folder: of the run.
        rank_by: which accuracy decides; None for what the run was started with.
    """
    spec = folder.spec()
    finished = [result for result in folder.results() if result.status is not None]
    return rank_results(finished, spec.targets[0].name, rank_by or spec.rank_by)


def find_candidate(folder: RunFolder, wanted: str) -> Ranked:
    """The row that a rank number, an id or a unique prefix of an id names.

    Raises:
        UnknownNameError: none does.
        InputError: several do.
    """
    rows = board(folder)
    if wanted.isdigit():
        matches = [row for row in rows if row.rank == int(wanted)]
    else:
        matches = [row for row in rows if wanted and row.result.candidate.id.startswith(wanted)]
    if len(matches) == 1:
        return matches[0]
    if matches:
        ids = ", ".join(row.result.candidate.id for row in matches)
        raise InputError(f"Several candidates begin with '{wanted}': {ids}. Give more letters.")
    raise UnknownNameError(
        f"candidate of the run '{folder.name}'",
        wanted,
        [row.result.candidate.id for row in rows],
        f"Ranks 1 to {len(rows)} name them too; see 'tune report {folder.name}'.",
    )
