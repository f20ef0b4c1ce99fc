"""What the table in the terminal says beside the candidates."""

from __future__ import annotations

import io
import re
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from runs_support import TARGET, make_run, make_spec
from tests_support import quantity
from tuner.cli.board_table import board_renderables
from tuner.cost.fit import format_minutes
from tuner.dashboard.rows import report_rows
from tuner.engine.board import Board, board
from tuner.propose.proposer import Miss
from tuner.spec import SPLITS, Excess, Paired, to_plain
from tuner.store.runs import RunFolder


def table(shown: Board) -> str:
    console = Console(file=io.StringIO(), width=80)
    for part in board_renderables(shown):
        console.print(part)
    return console.file.getvalue()


def made(home: Path, largest: float) -> Board:
    """Three candidates with 15, 12 and 10 of 20 images, a fourth that failed."""
    plain = make_spec("plain").dataset
    others = len(plain.classes) - 1
    split = (round(1000 * largest), *[round(1000 * (1 - largest) / others)] * others)
    dataset = replace(plain, class_counts=dict.fromkeys(SPLITS, split))
    return board(make_run(home, "made", [10, 12, 15, None], ended=True, dataset=dataset))


def lines_of(text: str) -> list[str]:
    """The candidate of each row."""
    return re.findall(r"^.{0,4}(majority|c[0-9a-f]{11})", text, re.MULTILINE)


def test_the_majority_class_has_its_place_among_the_candidates(home: Path) -> None:
    shown = made(home, 0.55)
    ids = [row.result.candidate.id for row in shown.rows]
    assert lines_of(table(shown))[:3] == [ids[0], ids[1], "majority"]
    assert lines_of(table(made(home / "other", 0.9)))[0] == "majority"
    assert lines_of(table(made(home / "least", 0.5)))[3] == "majority"


def test_spaces_and_times_of_retraining_are_told(home: Path) -> None:
    plain = made(home, 0.5)
    assert "by space" not in table(plain)
    assert "Retraining" not in table(plain)
    rows = []
    for row, space, minutes in zip(
        plain.rows, ("residual", "stages", "residual", "stages"), (3, 1.25, 20, 1), strict=True
    ):
        cost = replace(row.result.costs[TARGET], train_minutes=quantity(minutes))
        rows.append(replace(row, result=replace(row.result, space=space, costs={TARGET: cost})))
    told = " ".join(table(replace(plain, rows=rows)).split())
    assert (
        "Candidates by space: 2 from residual (the best is rank 1), 2 from stages (the best is "
        "rank 2)."
    ) in told
    assert "Retraining one in full takes about 1.2 to 20.0 min (predicted)." in told
    assert "3 of 4 after 2 epochs (" in told


def test_finalists_are_counted(home: Path) -> None:
    plain = made(home, 0.5)
    measured = {TARGET: {"ram_bytes": quantity(1200)}}
    rows = [replace(row, result=replace(row.result, measured=measured)) for row in plain.rows]
    assert "Measured for 1 finalist (" in table(replace(plain, rows=rows[:1]))
    assert "Measured for 2 finalists (" in table(replace(plain, rows=rows[:2]))


def test_short_times_are_told_in_seconds() -> None:
    assert format_minutes(0.03, 0.2) == "2 to 12 s"
    assert format_minutes(1.5) == format_minutes(1.5, 1.501) == "90 s"
    assert format_minutes(0.5, 4) == "0.5 to 4.0 min"
    assert format_minutes(0.0, 0.002) == "under 1 s"


def test_a_table_with_a_devices_own_accuracy_has_room_for_all_figures(home: Path) -> None:
    plain = made(home, 0.5)
    rows = []
    for row in plain.rows[:3]:
        drawn = row.result.candidate
        sides = {"height": 128, "width": 128}
        first, *others = drawn.architecture.nodes
        nodes = (replace(first, op=replace(first.op, **sides, channels=1)), *others)
        large = replace(
            drawn,
            preprocessing=replace(drawn.preprocessing, **sides, colour="grey"),
            architecture=replace(drawn.architecture, nodes=nodes),
        )
        cost = replace(
            row.result.costs[TARGET], ram_bytes=quantity(400_000), flash_bytes=quantity(400_000),
            latency_ms=quantity(0.0231),
        )  # fmt: skip
        pairs = Paired(images=20, gained=2, lost=3)
        own = replace(row.result.builds["int8"], paired={"validation": pairs})
        result = replace(
            row.result, candidate=large,
            builds={**row.result.builds, "target": own},
            costs={TARGET: cost},
        )  # fmt: skip
        rows.append(replace(row, result=result, fits=False))
    told = table(replace(plain, rows=rows))
    assert "…" not in told
    assert told.count("390.6 KB 390.6 KB 0.023") == 3, told


def test_what_the_devices_compiler_refused_is_told_with_its_reason(home: Path) -> None:
    made(home, 0.5)
    folder = RunFolder(home / "runs" / "made")
    why = "Not measured for nncase: nncase cannot compile the model: Unsupported operator."
    with folder.open_log() as log:
        log.append(
            "measured", elapsed=66.0, index=2, measured={}, over={}, builds={},
            unmeasured={TARGET: why},
        )  # fmt: skip
    shown = board(folder)
    refused = folder.results()[2].candidate.id
    assert [row.result.candidate.id for row in shown.rows][2] == refused, "the best by int8"
    assert f"failed: {refused}: {why}" in " ".join(table(shown).split())
    rows = report_rows(shown)
    assert [row["unmeasured"] for row in rows] == [{}, {}, {TARGET: why}, {}]


def test_a_refusal_for_the_searchs_own_time_says_what_ends_it(home: Path) -> None:
    folder = make_run(home, "made", [10], ended=True)
    (first,) = (event for event in folder.events() if event["event"] == "proposed")
    over = Excess(limit="candidate_minutes", needed=0.3503, allowed=0.3451)
    miss = Miss(target=TARGET, image="96x96 rgb", over=(over,), change="")
    refused = {"over_limit": {"candidate_minutes": 3}, "nearest_miss": to_plain(miss)}
    del first["event"], first["at"]
    with folder.open_log() as log:
        log.append("proposed", **{**first, "index": 1, **refused})
    told = " ".join(table(board(folder)).split())
    assert (
        "Nearest miss: 96x96 rgb, training within this search 21.0 s > 20.7 s, 0.3 s too much; "
        "more --time allows it."
    ) in told
