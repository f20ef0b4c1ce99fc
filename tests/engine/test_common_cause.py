"""A drop-in that fails every time ends the run with its reason, not the user's evening."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from tuner import catalog
from tuner.engine.supervisor import FAILURES_IN_A_ROW
from tuner.store.runs import RunFolder

CANDIDATES = FAILURES_IN_A_ROW + 3


def test_a_run_in_which_all_fail_ends_early_says_why_and_goes_on_once_mended(home: Path):
    task = catalog.names("tasks")["classification"].read_text(encoding="utf-8")
    broken = re.sub(
        r"^def loss\(.*$", r'\g<0>\n    raise RuntimeError("no loss today")', task, flags=re.M
    )
    assert broken != task
    environment = {**os.environ, "TUNE_HOME": str(home)}
    (home / "tasks").mkdir()
    (home / "tasks" / "classification.py").write_text(broken, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "tuner", "--target", "nano33ble", "--data", "sample:digits",
         "--space", "mixed_stages", "--max-candidates", str(CANDIDATES), "--name", "broken"],
        cwd=home, env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    last = done.stderr.strip().splitlines()[-1]
    assert f"The last {FAILURES_IN_A_ROW} candidates of 'broken' failed" in last
    assert "no loss today" in last
    events = (home / "runs" / "broken" / "events.jsonl").read_text().splitlines()
    finished = [event for event in map(json.loads, events) if event["event"] == "finished"]
    assert FAILURES_IN_A_ROW <= len(finished) < CANDIDATES
    assert {event["status"] for event in finished} == {"failed"}
    # A candidate that was in work when the run ended has none.
    logs = list((home / "runs" / "broken" / "candidates").glob("*/error.log"))
    assert len(logs) == len(finished)
    assert all("no loss today" in log.read_text() for log in logs)

    (home / "tasks" / "classification.py").unlink()
    resume = [sys.executable, "-m", "tuner", "resume", "broken"]
    done = subprocess.run(resume, cwd=home, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    statuses = [result.status for result in RunFolder(home / "runs" / "broken").results()]
    assert statuses.count("failed") == len(finished)
    assert statuses.count("ok") >= 1
    assert statuses.count("ok") + statuses.count("stopped") == CANDIDATES - len(finished)
