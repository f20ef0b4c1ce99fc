from __future__ import annotations

import subprocess
import sys

SCRIPT = """
import sys
from tuner.train.quiet import import_tensorflow
import_tensorflow(whole={whole})
print("sklearn" in sys.modules)
import sklearn.metrics
"""


def loaded(whole: bool) -> str:
    """Whether a package that Keras imports if it is there has been imported."""
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT.format(whole=whole)],
        capture_output=True,
        text=True,
        check=True,
    )
    return done.stdout.strip()


def test_a_process_of_our_own_goes_without_what_keras_has_for_other_packages():
    assert loaded(whole=True) == "True"
    assert loaded(whole=False) == "False"
