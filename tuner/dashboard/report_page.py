"""Write a run as one HTML file that opens without a network.

The page carries its data once. What the table and the figures show of each candidate lies in
columns of plain JSON; the details of the candidates, the images that the best of them took for
something else, and plotly.js, are compressed (zlib, base64), and the browser unpacks them when
they are wanted. Figures come from
`tuner.dashboard.figures`; those whose points the page chooses by its switches are carried empty.
The page's policy (CSP) forbids the browser any request.
"""

from __future__ import annotations

import base64
import html
import json
import re
import zlib
from collections.abc import Mapping, Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from tuner import catalog
from tuner.cost.fit import LIMIT_NAMES
from tuner.cost.lower import lower
from tuner.dashboard.event_lines import event_line
from tuner.dashboard.figures import (
    COST_NAMES,
    curve_figure,
    empty_cost_figure,
    front_ranks,
    group_of,
    history_figure,
    importance_figure,
    plotly_script,
)
from tuner.dashboard.history import best_so_far, choice_importances
from tuner.dashboard.mistakes import STOPPED, Mistakes, gather_mistakes
from tuner.dashboard.profile import operator_rows
from tuner.dashboard.rows import SPLITS_SHOWN, report_rows, the_best
from tuner.engine.board import Board
from tuner.engine.builds import PRECISIONS
from tuner.engine.compiling import recipes_in_words
from tuner.propose.sampler import IMPORTANCE_LEAST
from tuner.rank.majority import majority_of
from tuner.rank.order import Ranked, ranking_precision
from tuner.spec import RankBy, to_plain
from tuner.store.runs import RunFolder

ACCURACIES: tuple[RankBy, ...] = ("target", "int8", "float32")
SCRIPTS = ("format.js", "state.js", "table.js", "figures.js", "details.js", "main.js")
"""In the order of execution; each uses only those before it."""

CHUNK = 100
"""So many candidates' details are compressed together."""

LOG_LETTERS = 4000
"""So much of the end of a failed candidate's log is carried."""


def report_page(folder: RunFolder, board: Board) -> str:
    """The page of a run on one target.

    Args:
        folder: of the run, finished or not.
        board: its ranked candidates.

    Returns:
        A whole HTML document.
    """
    events = folder.events()
    proposed = {event["index"]: event for event in events if event["event"] == "proposed"}
    rows = report_rows(board)
    mistakes = gather_mistakes(folder, board)
    details = _details(folder, board, rows, events, proposed, mistakes)
    parts = {
        "title": html.escape(f"{folder.name} on {board.target.name}"),
        "style": page_asset("style.css"),
        "script": "\n".join(page_asset(name) for name in SCRIPTS),
        "board": embedded_json(_board(board, rows, events, mistakes)),
        "figures": embedded_json(_figures(board, events)),
        "details": "\n".join(
            f'<script type="text/plain" id="details-{number}">{packed(chunk)}</script>'
            for number, chunk in enumerate(_chunks(details))
        ),
        "images": packed(json.dumps(mistakes.images, separators=(",", ":"))),
        "plotly": packed(plotly_script()),
    }
    # One pass, so that nothing in a part is taken for another's place.
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], page_asset("page.html"))


def embedded_json(plain: Any) -> str:
    """JSON that can stand within a script element: no data ends or opens a tag."""
    text = json.dumps(plain, separators=(",", ":"))
    for letter in "<>&":
        text = text.replace(letter, f"\\u{ord(letter):04x}")
    return text


def packed(text: str) -> str:
    """The text as zlib, as base64."""
    return base64.b64encode(zlib.compress(text.encode(), 9)).decode()


def page_asset(name: str) -> str:
    """The text of a file of the page."""
    return (resources.files("tuner.dashboard") / "page" / name).read_text(encoding="utf-8")


def _chunks(details: Sequence[Mapping[str, Any]]) -> list[str]:
    return [
        json.dumps(details[start : start + CHUNK], separators=(",", ":"))
        for start in range(0, len(details), CHUNK)
    ]


def _board(
    board: Board,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    mistakes: Mistakes,
) -> dict[str, Any]:
    """What the page knows at once: the run, and a column of each figure in rank order."""
    spec, target = board.spec, board.target
    majority = majority_of(spec.dataset)
    shown = {ranked.result.index for ranked in board.rows}
    kinds = ("proposed", "rung", "finished")
    latest = {event["index"]: event["event"] for event in events if event["event"] in kinds}
    builds: Mapping[str, Any] = next((row["builds"] for row in rows if "int8" in row["builds"]), {})
    return {
        "run": {
            "name": spec.name,
            "created": spec.created[:16].replace("T", " "),
            # A path tells where the data lay, which is nobody's business but the owner's.
            "data": Path(spec.dataset.source).name,
            "classes": list(spec.dataset.classes),
            "images": dict(spec.dataset.counts),
            "majority": to_plain(majority) if majority else None,
            "spaces": list(spec.spaces),
            "budget_seconds": spec.budget_seconds,
            "elapsed_seconds": max((event.get("elapsed", 0.0) for event in events), default=0.0),
            "seed": spec.seed,
            "versions": dict(spec.versions),
            "rank_by": spec.rank_by,
            "precision": ranking_precision(spec.rank_by),
            "ended": bool(events) and events[-1]["event"] == "ended",
            "unfinished": sum(
                kind != "finished" and index not in shown for index, kind in latest.items()
            ),
        },
        "target": {
            "name": target.name,
            "title": target.title,
            "option": board.target_option,
            "limits": to_plain(target.model_limits),
            "simulated": _simulated(rows),
            "run_with": {
                precision: f"{build['runtime']} {build['kernels']}"
                for precision, build in builds.items()
            },
        },
        "refused": {LIMIT_NAMES[limit]: count for limit, count in board.refused.items()},
        "nearest_miss": board.nearest_miss,
        "pictures": mistakes.pictures,
        "images_note": mistakes.note,
        "chunk": CHUNK,
        "columns": _columns(board, rows),
        "fronts": {
            split: {
                kind: {cost: front_ranks(board, cost, split, kind) for cost in COST_NAMES}
                for kind in ACCURACIES
            }
            for split in SPLITS_SHOWN
        },
    }


def _simulated(rows: Sequence[Mapping[str, Any]]) -> str:
    """What the target's own compiler and simulator did, in words; nothing without them."""
    builds = [row["builds"]["target"] for row in rows if "target" in row["builds"]]
    if not builds:
        return ""
    images = sorted({build["paired"]["validation"]["images"] for build in builds})
    count = " to ".join(str(number) for number in dict.fromkeys((images[0], images[-1])))
    recipes = recipes_in_words([build["recipe"] for build in builds])
    return (
        f"target: {the_best(len(builds))}, compiled ({recipes}) and run in the "
        f"simulator of {builds[0]['runtime']} {builds[0]['kernels']} on {count} validation images: "
        "int8 and the difference there."
    )


def _columns(board: Board, rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    costs = [row["costs"].get(board.target.name, {}) for row in rows]
    plain: dict[str, Any] = {
        name: [row[name] for row in rows]
        for name in ("id", "rank", "tied", "status", "reason", "epochs", "trainings")
    }
    # What is shown as origin: of a known net its name too.
    plain["origin"] = [f"{row['origin']} {row['baseline']}".rstrip() for row in rows]
    plain["fits"] = [row.fits for row in board.rows]
    plain["group"] = [group_of(row) for row in board.rows]
    plain["space"] = [row["space"] for row in rows]
    plain["input"] = [
        "{width}x{height} {colour}".format(**row["candidate"]["preprocessing"]) for row in rows
    ]
    for name in (*COST_NAMES, "macs", "train_minutes"):
        plain[name] = [_rounded(cost.get(name)) for cost in costs]
    for name in ("accuracy", "standard_error"):
        plain[name] = {
            split: {
                kind: [_rounded(row[name][split].get(kind)) for row in rows] for kind in ACCURACIES
            }
            for split in SPLITS_SHOWN
        }
        # What the simulator did not run has int8 alone, and so have all others beside it.
        for split, shares in plain[name].items():
            if any("target" in row["builds"] and "target" not in row[name][split] for row in rows):
                shares["target"] = [None] * len(rows)
    return plain


def _rounded(value: float | None) -> float | None:
    """Six digits: more than is shown, and short as JSON."""
    return None if value is None else float(f"{value:.6g}")


def _figures(board: Board, events: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Figures as plotly's JSON; empty ones where the page fills in the points."""
    shares = choice_importances(events, ranking_precision(board.spec.rank_by))
    return {
        "cost": {cost: _plain(empty_cost_figure(board, cost)) for cost in COST_NAMES},
        "curve": _plain(curve_figure(())),
        "history": {
            precision: _plain(history_figure(best_so_far(board, events, precision)))
            for precision in PRECISIONS
        },
        "importance": _plain(importance_figure(shares)) if shares else None,
        "importance_least": IMPORTANCE_LEAST,
    }


def _plain(figure: Any) -> dict[str, Any]:
    return dict(json.loads(figure.to_json()))


def _details(
    folder: RunFolder,
    board: Board,
    rows: Sequence[Mapping[str, Any]],
    events: Sequence[Mapping[str, Any]],
    proposed: Mapping[int, Mapping[str, Any]],
    mistakes: Mistakes,
) -> list[dict[str, Any]]:
    """What the page shows of one candidate, in rank order."""
    runtime = catalog.load_module("runtimes", board.target.runtime)
    ends = _rung_ends(events)
    lines: dict[int, list[str]] = {}
    for event in events:
        if "index" in event:
            lines.setdefault(event["index"], []).append(event_line(event))
    return [
        {
            "row": row,
            "choices": proposed[ranked.result.index]["choices"],
            "rung_ends": ends.get(ranked.result.index, []),
            "layers": operator_rows(
                lower(ranked.result.candidate.architecture), board.target, runtime
            ),
            "log": "\n".join([*lines[ranked.result.index], *_error(folder, ranked)]),
            "mistakes": (
                {"note": STOPPED, "splits": {}}
                if ranked.result.status == "stopped"
                else mistakes.candidates.get(ranked.result.candidate.id)
            ),
        }
        for ranked, row in zip(board.rows, rows, strict=True)
    ]


def _rung_ends(events: Sequence[Mapping[str, Any]]) -> dict[int, list[int]]:
    """By index, the epochs, counted over all rungs, at which a rung of the candidate ended."""
    found: dict[int, list[int]] = {}
    for event in events:
        if event["event"] in ("rung", "finished") and event.get("epochs"):
            ends = found.setdefault(event["index"], [])
            ends.append(event["epochs"] + (ends[-1] if ends else 0))
    return found


def _error(folder: RunFolder, ranked: Ranked) -> list[str]:
    """The end of what went wrong, where it was written down."""
    path = folder.candidate(ranked.result.candidate.id) / "error.log"
    if not path.is_file():
        return []
    return [path.read_text(encoding="utf-8", errors="replace")[-LOG_LETTERS:]]
