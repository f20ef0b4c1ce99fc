"""`tune report --format html`."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from report_support import made_up_run


def test_the_command_writes_a_file(cli: Callable[..., tuple[int, str, str]], home: Path) -> None:
    made_up_run(home / "runs" / "mine", 3)
    assert cli("report", "mine", "--format", "html") == (0, "Written: mine.html\n", "")
    assert (home / "mine.html").read_text().startswith("<!doctype html>")
    code, out, _ = cli("report", "--format", "html", "-o", "pages/other.html")
    assert (code, out) == (0, "Written: pages/other.html\n")
    assert (home / "pages" / "other.html").stat().st_size > 1_000_000
    (home / "folder").mkdir()
    code, out, err = cli("report", "--format", "html", "-o", "folder")
    assert (code, out, err.count("\n")) == (2, "", 1)
    assert "folder" in err
