from __future__ import annotations

from typing import Any

from tests_support import make_result
from tuner import catalog
from tuner.engine.steps import Steps
from tuner.propose.rungs import promotable
from tuner.spec import DatasetSpec, RunSpec, to_plain


def run_spec(*targets: str) -> RunSpec:
    return RunSpec(
        name="r",
        dataset=DatasetSpec(
            source="x",
            fingerprint="f",
            classes=("a", "b"),
            counts={"training": 80, "validation": 20, "test": 0},
            image_height=8,
            image_width=8,
            colour="grey",
            split_seed=0,
        ),
        targets=tuple(map(catalog.load_target, targets or ("nano33ble",))),
        task="classification",
        spaces=(),
        seed=0,
        workers=2,
        budget_seconds=None,
        max_candidates=8,
    )


def proposed(
    index: int, others: tuple[float, ...] = (), focus: str = "nano33ble"
) -> dict[str, Any]:
    return {"event": "proposed", "index": index, "focus": focus, "known": 0,
            "others": others}  # fmt: skip


def reached(index: int, correct: int, rung: int = 0) -> dict[str, Any]:
    builds = to_plain(make_result(index, correct=correct).builds)
    return {"event": "rung", "index": index, "rung": rung, "builds": builds,
            "train_seconds": 3.0 + rung, "curve": [correct / 40, correct / 20]}  # fmt: skip


def test_a_step_has_the_score_of_the_board_once_it_is_known():
    steps = Steps(run_spec())
    for event in (proposed(0), proposed(1), reached(1, 15)):
        steps.take(event)
    assert [step.index for step in steps.unfinished()] == [0]
    assert steps.done(0)
    assert not steps.done(1)
    first, second = steps.seen(2)
    assert (first.known, first.score) == (False, None)
    assert (second.known, second.score, second.ended) == (True, 0.75, False)
    assert steps.seen(1)[1].score is None, "a decision that knows one step does not see the second"


def test_a_candidate_is_compared_with_the_worst_that_would_be_promoted():
    steps = Steps(run_spec())
    for index, correct in enumerate((12, 18, 6, 9, 16, 3, 4, 5)):
        steps.take(proposed(index))
        steps.take(reached(index, correct))
    assert steps.others(0, 3, 0) == (), "of three none would be promoted"
    assert steps.others(0, 4, 0) == (18 / 40, 18 / 20)
    assert steps.others(0, 8, 0) == (16 / 40, 16 / 20), "two of eight would be, this is the second"
    assert steps.others(1, 8, 0) == ()
    steps.take(proposed(8, others=(0.4, 0.8)))
    assert steps.compared_with(8) == (0.4, 0.8)


def test_nets_for_small_devices_are_not_held_against_those_for_large_ones():
    small, large = "nano33ble", "raspberry-pi-4"
    steps = Steps(run_spec(small, large))
    assert steps.group_of(small) != steps.group_of(large)
    for index, correct in enumerate((5, 16, 6, 17, 7, 18, 8, 19)):
        steps.take(proposed(index, focus=(small, large)[index % 2]))
        steps.take(reached(index, correct))
    assert steps.others(0, 8, steps.group_of(small)) == (8 / 40, 8 / 20)
    assert steps.others(0, 8, steps.group(7)) == (19 / 40, 19 / 20)
    assert steps.others(0, 6, steps.group_of(small)) == (), "of three none would be promoted"


def test_what_was_far_behind_has_ended_with_a_score_and_what_was_cut_keeps_its_own():
    steps = Steps(run_spec())
    behind = {"event": "finished", "index": 0, "status": "stopped", "rung": 0, "curve": [0.1, 0.3]}
    cut = {"event": "finished", "index": 1, "status": "stopped"}
    failed = {"event": "finished", "index": 2, "status": "failed"}
    for event in (proposed(0), behind, proposed(1), reached(1, 8), cut, proposed(2), failed):
        steps.take(event)
    assert [(step.score, step.ended) for step in steps.seen(3)] == [
        (0.3, True),
        (0.4, False),
        (None, True),
    ]


def test_a_candidate_whose_next_step_failed_trains_no_further():
    steps = Steps(run_spec())
    promoted = {"event": "promoted", "index": 0, "rung": 1, "known": 1}
    lost = {"event": "finished", "index": 0, "status": "stopped", "rung": 0,
            "step_status": "failed", "reason": "no loss today"}  # fmt: skip
    for event in (proposed(0), reached(0, 8), promoted, lost):
        steps.take(event)
    assert steps.unfinished() == []
    first, second = steps.seen(2)
    assert (first.score, first.ended) == (0.4, False)
    assert (second.rung, second.score, second.ended) == (1, None, True)
    assert promotable(steps.seen(2), range(3)) == []


def test_the_time_of_the_last_step_of_each_candidate_is_kept():
    steps = Steps(run_spec())
    promoted = {"event": "promoted", "index": 0, "rung": 1, "known": 1}
    assert steps.trained_seconds(0) == 0.0
    for event in (proposed(0), reached(0, 8), proposed(1), promoted):
        steps.take(event)
    assert [steps.trained_seconds(index) for index in (0, 1)] == [3.0, 0.0]
    steps.take(reached(0, 9, rung=1))
    assert steps.trained_seconds(0) == 4.0, "not that of all its steps"


def test_what_an_earlier_decision_knew_stays_known():
    steps = Steps(run_spec())
    steps.take(proposed(0))
    steps.take({**proposed(1), "known": 1})
    steps.take({"event": "promoted", "index": 0, "rung": 1, "known": 0})
    assert steps.surely_known == 1
    assert [(step.index, step.rung) for step in steps.seen(0)] == [(0, 0), (1, 0), (0, 1)]


def test_a_run_of_an_earlier_version_that_names_no_focus_goes_on():
    steps = Steps(run_spec())
    steps.take({"event": "proposed", "index": 0})
    steps.take({"event": "finished", "index": 0, "status": "failed"})
    assert [(step.group, step.rung, step.ended) for step in steps.seen(1)] == [(0, 0, True)]


def test_what_was_begun_is_finished_first_and_what_was_lost_never():
    steps = Steps(run_spec())
    assert steps.to_finish(2) is None
    for event in (proposed(0), proposed(1), reached(0, 15), reached(1, 12)):
        steps.take(event)
    assert steps.to_finish(2) == 0
    steps.take({"event": "promoted", "index": 1, "rung": 2, "known": 2})
    assert steps.to_finish(2) == 1, "a killed session left it"
    lost = {
        "event": "finished",
        "status": "stopped",
        "index": 1,
        "rung": 0,
        "step_status": "failed",
    }
    steps.take(lost)
    assert steps.to_finish(2) == 0
    steps.take({"event": "promoted", "index": 0, "rung": 2, "known": 3})
    steps.take({**lost, "index": 0})
    assert steps.to_finish(2) is None
