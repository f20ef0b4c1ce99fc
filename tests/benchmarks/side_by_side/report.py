"""What the side-by-side found: tables and a picture, from its JSON files."""

from __future__ import annotations

import json
import math
import statistics
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.side_by_side.tools import TOOLS

Record = dict[str, Any]

BEGIN, END = "<!-- results -->", "<!-- end of results -->"
OURS = "ours"


def load(folder: Path) -> dict[str, list[Record]]:
    """Records by tool, each sorted by seed; tools in the order of `TOOLS`."""
    found: dict[str, list[Record]] = {}
    for tool in TOOLS:
        paths = sorted(folder.glob(f"{tool}-*.json"), key=lambda path: (len(path.name), path.name))
        records = [json.loads(path.read_text(encoding="utf-8")) for path in paths]
        records = [record for record in records if record["tool"] == tool]
        if records:
            found[tool] = records
    return found


def accuracy_at(record: Record, seconds: float) -> float | None:
    """int8 test accuracy of the newest feasible pick at that time; None if there was none."""
    value = None
    for point in record["curve"]:
        if point["seconds"] <= seconds and point["feasible"]:
            value = point["accuracy"]
    return value


def best_feasible(record: Record) -> float | None:
    """Accuracy of the last feasible pick at the end."""
    return accuracy_at(record, record["settings"]["seconds"])


def final_score(record: Record) -> float | None:
    """Accuracy of the last pick, 0 if it exceeds a limit; None if nothing was picked."""
    final = record["final"]
    if final is None:
        return None
    return float(final["accuracy"]) if final["feasible"] else 0.0


def passes(record: Record, level: float) -> float | None:
    """Seconds from which on the newest feasible pick stays at or above `level`."""
    since = None
    for point in record["curve"]:
        if not point["feasible"]:
            continue
        if point["accuracy"] < level:
            since = None
        elif since is None:
            since = float(point["seconds"])
    return since


def median(values: Sequence[float | None]) -> float | None:
    """The median; what never happened counts as later than all, and may be the median."""
    if not values:
        return None
    middle = statistics.median([math.inf if value is None else value for value in values])
    return None if math.isinf(middle) else middle


def _percent(value: float | None) -> str:
    return "none" if value is None else f"{100 * value:.1f}"


def _spread(values: Sequence[float | None]) -> str:
    """Median and range of shares, as percent; without a value is no share."""
    known = [value for value in values if value is not None]
    if not known:
        return "none"
    text = _percent(statistics.median(known))
    if len(known) > 1:
        text += f" ({_percent(min(known))} to {_percent(max(known))})"
    if len(known) < len(values):
        text += f", {len(values) - len(known)} of {len(values)} runs without"
    return text


def main_table(found: dict[str, list[Record]]) -> list[str]:
    """A row a tool, Markdown."""
    lines = [
        "| tool | runs | best feasible, % | last pick's score, % | trainings | refused before "
        "| over a limit | first lasting pick, s | memory, MB |",
        "|---|--:|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for tool, records in found.items():
        trained = sum(record["trained"] for record in records)
        over = sum(record["trained_over_limit"] for record in records)
        first = median([next((p["seconds"] for p in r["curve"]), None) for r in records])
        cells = (
            TOOLS[tool].title,
            str(len(records)),
            _spread([best_feasible(record) for record in records]),
            _spread([final_score(record) for record in records]),
            f"{statistics.median(record['trained'] for record in records):g}",
            f"{statistics.median(record['refused'] for record in records):g}",
            f"{over} of {trained}",
            "none" if first is None else f"{first:.0f}",
            f"{statistics.median(r['peak_memory_bytes'] for r in records) / 1e6:.0f}",
        )
        lines.append("| " + " | ".join(cells) + " |")
    return lines


def passing_table(found: dict[str, list[Record]]) -> list[str]:
    """When ours has what another tool has at its end, Markdown."""
    ours = found[OURS]
    budget = ours[0]["settings"]["seconds"]
    end = statistics.median(best_feasible(record) or 0.0 for record in ours)
    lines = [
        "| tool | has at its end, % | `tune` passes it after, s | share of the time "
        "| `tune` is ahead at the end, points |",
        "|---|--:|--:|--:|--:|",
    ]
    for tool, records in found.items():
        if tool == OURS:
            continue
        known = [value for record in records if (value := best_feasible(record)) is not None]
        if not known:
            lines.append(f"| {TOOLS[tool].title} | no feasible pick | | | |")
            continue
        level = statistics.median(known)
        times = [passes(record, level) for record in ours]
        middle = median(times)
        shown = ", ".join("never" if time is None else f"{time:.0f}" for time in times)
        lines.append(
            f"| {TOOLS[tool].title} | {_percent(level)} "
            f"| {'never' if middle is None else f'{middle:.0f}'} ({shown}) "
            f"| {'' if middle is None else f'{middle / budget:.2f}'} "
            f"| {100 * (end - level):+.1f} |"
        )
    return lines


def report(found: dict[str, list[Record]]) -> str:
    """All tables and what they were taken on, Markdown."""
    first = next(iter(found.values()))[0]
    machine, settings = first["machine"], first["settings"]
    packages: dict[str, str] = {}
    for records in found.values():
        for record in records:
            packages |= record["versions"]
    parts = [
        f"{settings['seconds'] / 60:g} minutes a run, {settings['cores']} cores of "
        f"{machine['cpu']} ({machine['cores']} in all, {machine['memory_bytes'] / 2**30:.0f} GB), "
        f"{machine['system']}, Python {machine['python']}; "
        + ", ".join(f"{name} {number}" for name, number in sorted(packages.items()))
        + ".",
        "\n".join(main_table(found)),
    ]
    if OURS in found and len(found) > 1:
        parts.append("\n".join(passing_table(found)))
    return "\n\n".join(parts) + "\n"


def fill(page: Path, text: str) -> None:
    """Put the results between the page's two marks."""
    content = page.read_text(encoding="utf-8")
    if content.count(BEGIN) != 1 or content.count(END) != 1:
        raise SystemExit(f"Expected one '{BEGIN}' and one '{END}' in {page}.")
    before, after = content.split(BEGIN)[0], content.split(END)[1]
    page.write_text(f"{before}{BEGIN}\n{text}{END}{after}", encoding="utf-8")


# The picture.

WIDTH, HEIGHT = 760, 420
LEFT, RIGHT, TOP, BOTTOM = 56, 190, 20, 46
FIRST_SECONDS = 5.0
TICKS_SECONDS = (5, 10, 30, 60, 120, 300, 600, 1800, 3600)
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#999999")
"""Okabe and Ito's palette, which people with colour-blindness can tell apart."""


def svg(found: dict[str, list[Record]]) -> str:
    """Newest feasible pick's int8 test accuracy against time: median and range over the seeds."""
    budget = max(record["settings"]["seconds"] for records in found.values() for record in records)
    grid = [FIRST_SECONDS * (budget / FIRST_SECONDS) ** (step / 300) for step in range(301)]
    series = {
        tool: [[accuracy_at(record, seconds) or 0.0 for record in records] for seconds in grid]
        for tool, records in found.items()
    }
    top = max((max(max(column) for column in columns) for columns in series.values()), default=0.0)
    highest = max(0.1, math.ceil(top * 10) / 10)

    def x(seconds: float) -> float:
        share = math.log(seconds / FIRST_SECONDS) / math.log(budget / FIRST_SECONDS)
        return LEFT + share * (WIDTH - LEFT - RIGHT)

    def y(accuracy: float) -> float:
        return HEIGHT - BOTTOM - accuracy / highest * (HEIGHT - TOP - BOTTOM)

    marks = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" '
        'font-family="DejaVu Sans, sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{HEIGHT}" fill="white"/>',
    ]
    for tenth in range(round(highest * 10) + 1):
        level = y(tenth / 10)
        marks.append(
            f'<line x1="{LEFT}" y1="{level:.1f}" x2="{WIDTH - RIGHT}" y2="{level:.1f}" '
            f'stroke="#ddd"/><text x="{LEFT - 6}" y="{level + 4:.1f}" '
            f'text-anchor="end">{10 * tenth}</text>'
        )
    for tick in TICKS_SECONDS:
        if tick <= budget:
            label = f"{tick} s" if tick < 60 else f"{tick // 60} min"
            marks.append(
                f'<line x1="{x(tick):.1f}" y1="{TOP}" x2="{x(tick):.1f}" '
                f'y2="{HEIGHT - BOTTOM}" stroke="#eee"/><text x="{x(tick):.1f}" '
                f'y="{HEIGHT - BOTTOM + 18}" text-anchor="middle">{label}</text>'
            )
    marks.append(
        f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">'
        "time from the start of the process</text>"
        f'<text transform="translate(14,{(TOP + HEIGHT - BOTTOM) / 2}) rotate(-90)" '
        'text-anchor="middle">int8 test accuracy, %</text>'
    )
    for number, (tool, columns) in enumerate(series.items()):
        colour = COLOURS[number % len(COLOURS)]
        shown = [
            (seconds, column)
            for seconds, column in zip(grid, columns, strict=True)
            if statistics.median(column) > 0
        ]
        if shown:
            upper = [f"{x(s):.1f},{y(max(c)):.1f}" for s, c in shown]
            lower = [f"{x(s):.1f},{y(min(c)):.1f}" for s, c in reversed(shown)]
            middle = [f"{x(s):.1f},{y(statistics.median(c)):.1f}" for s, c in shown]
            marks.append(
                f'<polygon points="{" ".join(upper + lower)}" fill="{colour}" opacity="0.15"/>'
                f'<polyline points="{" ".join(middle)}" fill="none" stroke="{colour}" '
                'stroke-width="2"/>'
            )
        row = TOP + 16 + 20 * number
        marks.append(
            f'<rect x="{WIDTH - RIGHT + 14}" y="{row - 9}" width="14" height="4" '
            f'fill="{colour}"/><text x="{WIDTH - RIGHT + 34}" y="{row - 3}">'
            f"{TOOLS[tool].title}</text>"
        )
    marks.append("</svg>")
    return "\n".join(marks) + "\n"
