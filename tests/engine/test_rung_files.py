"""What lies on disk after each step of a candidate is what its builds name."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tuner.engine import jobs
from tuner.engine.plan import Plan
from tuner.engine.search import SearchRequest, make_proposer, prepare_run
from tuner.spec import Result, to_plain
from tuner.store.runs import fold_results


def files_exist(result: Result, folder: Path) -> bool:
    return all((folder / build.artifact).is_file() for build in result.builds.values())


def test_a_candidate_far_behind_at_a_later_rung_keeps_the_files_of_the_one_before(home: Path):
    request = SearchRequest(targets=("nano33ble",), data="sample:digits", max_candidates=4)
    run = prepare_run(request)
    spec = run.spec()
    proposal = make_proposer(spec, Plan(spec)).propose([], frozenset())
    assert proposal is not None
    folder = run.candidate(proposal.candidate.id)
    events: list[dict[str, Any]] = [
        {
            "event": "proposed",
            "index": 0,
            "origin": proposal.origin,
            "candidate": to_plain(proposal.candidate),
            "costs": to_plain(proposal.costs),
        }
    ]

    def step(rung: int, trained: int, others: tuple[float, ...]) -> tuple[dict[str, Any], Result]:
        """Train to a rung as a slot does, and tidy up as the supervisor does."""
        given = jobs.train_candidate(
            to_plain(spec), folder, to_plain(proposal.candidate), rung, trained, 2, 2, None, False,
            others,
        )  # fmt: skip
        jobs.drop_replaced(folder, trained, given)
        events.append({"event": "finished" if "status" in given else "rung", "index": 0, **given})
        return given, fold_results(events)[0]

    _, first = step(0, -1, ())
    assert first.rung == 0
    assert files_exist(first, folder)
    given, behind = step(1, 0, (1.0, 1.0))
    assert given["status"] == "stopped"
    assert "builds" not in given
    assert behind.builds == first.builds
    assert (behind.rung, behind.epochs > first.epochs) == (0, True)
    assert files_exist(behind, folder)

    events.pop()
    _, further = step(1, 0, ())
    assert further.builds != first.builds
    assert files_exist(further, folder)
    assert not jobs.rung_folder(folder, 0).exists(), "what was replaced takes no place"
