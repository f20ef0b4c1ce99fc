"""Reading a report of `tune data check`."""

from __future__ import annotations

from tuner.data.check import DataReport
from tuner.data.problems import Problem


def kinds(report: DataReport) -> list[str]:
    return [problem.kind for problem in report.problems]


def problem(report: DataReport, kind: str) -> Problem:
    found = [problem for problem in report.problems if problem.kind == kind]
    assert len(found) == 1, kinds(report)
    return found[0]


def classes_of(report: DataReport) -> dict[str, int]:
    return {row.name: row.images for row in report.classes}
