"""The side-by-side from the command line: `run` measures, `score` scores again, `report` prints.

PYTHONPATH=tests .venv/bin/python -m benchmarks.side_by_side run
PYTHONPATH=tests .venv/bin/python -m benchmarks.side_by_side report
"""

from __future__ import annotations

import argparse
from pathlib import Path

from benchmarks.side_by_side.report import fill, load, report, svg
from benchmarks.side_by_side.run import run_tool, score_again
from benchmarks.side_by_side.tools import COMPARED, TOOLS


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.side_by_side")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("run", help="measure what is not measured yet")
    run.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    run.add_argument("--tools", nargs="+", choices=list(TOOLS), default=list(COMPARED))
    again = commands.add_parser("score", help="let the referee score again what was picked")
    show = commands.add_parser("report", help="print the tables and draw the picture")
    show.add_argument("--page", type=Path, help="Markdown file whose results are to be replaced")
    show.add_argument("--picture", type=Path, help="SVG file; beside the results unless given")
    for command in (run, again, show):
        command.add_argument("--minutes", type=float, default=10.0, help="a run")
        command.add_argument("--out", type=Path, default=Path("bench-results"))
    options = parser.parse_args()
    out = options.out.resolve()
    results = out / f"{options.minutes:g}-minutes"
    if options.command == "run":
        for number, seed in enumerate(options.seeds):
            shift = number % len(options.tools)  # no tool is always the first, nor the last
            for tool in options.tools[shift:] + options.tools[:shift]:
                run_tool(tool, seed, options.minutes * 60.0, results, out / "data")
        return
    if options.command == "score":
        for result in sorted(results.glob("*.json")):
            score_again(result, out / "data")
        return
    found = load(results)
    if not found:
        raise SystemExit(f"Expected results in {results}; there are none. Start with 'run'.")
    text = report(found)
    print(text, end="")
    picture = options.picture or results / "side_by_side.svg"
    picture.write_text(svg(found), encoding="utf-8")
    if options.page:
        fill(options.page, text)


if __name__ == "__main__":
    main()
