"""The command as users run it, and real data small enough for tests."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np


def small_digits(path: Path, *, test_seed: int | None = None) -> Path:
    """Real digits 0 to 2 as .npz with given splits; a seed scrambles the test split alone."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    keep = digits.target < 3
    images = (digits.images[keep] * 15.9).astype(np.uint8)
    labels = digits.target[keep].astype(np.int64)
    x_test, y_test = images[400:], labels[400:]
    if test_seed is not None:
        generator = np.random.default_rng(test_seed)
        y_test = generator.permutation(y_test)
        x_test = generator.permutation(x_test)
    np.savez(
        path, x=images[:300], y=labels[:300], x_validation=images[300:400],
        y_validation=labels[300:400], x_test=x_test, y_test=y_test,
        classes=np.array(["zero", "one", "two"]),
    )  # fmt: skip
    return path


def tune(home: Path, *arguments: object, code: int = 0) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [sys.executable, "-m", "tuner", *map(str, arguments)],
        cwd=home,
        env={**os.environ, "TUNE_HOME": str(home), "COLUMNS": "80", "NO_COLOR": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == code, done.stderr
    assert "Traceback" not in done.stderr
    return done
