"""`tune report --format html`."""

from __future__ import annotations

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
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


def test_links_and_pipes_that_are_named_stay_what_they_are(
    cli: Callable[..., tuple[int, str, str]], home: Path
) -> None:
    made_up_run(home / "runs" / "mine", 3)
    report = ("report", "--format", "json")
    told = cli(*report)[1]
    assert cli(*report, "-o", "-")[1] == told
    assert not (home / "-").exists()

    served = home / "served.json"
    served.write_text("old")
    (home / "link.json").symlink_to(served)
    assert cli(*report, "-o", "link.json") == (0, "Written: link.json\n", "")
    assert (home / "link.json").is_symlink()
    assert served.read_text() == told

    os.mkfifo(home / "pipe")
    with ThreadPoolExecutor(1) as reader:
        read = reader.submit((home / "pipe").read_text)
        assert cli(*report, "-o", "pipe") == (0, "", "")
        assert read.result(timeout=10) == told
    assert (home / "pipe").is_fifo()
