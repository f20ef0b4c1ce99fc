"""Keep what TensorFlow's C++ writes to stderr out of the user's terminal."""

from __future__ import annotations

import os
import sys
import tempfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

UNUSED_PACKAGES = ("sklearn", "pandas")
"""That Keras imports where it finds them, for wrappers and data frames: 88 MB and .9 of 3 s."""


@contextmanager
def quiet() -> Iterator[None]:
    """Send file descriptor 2 to nowhere while the block runs."""
    with tempfile.TemporaryFile() as sink:
        saved = os.dup(2)
        os.dup2(sink.fileno(), 2)
        try:
            yield
        finally:
            os.dup2(saved, 2)
            os.close(saved)


def import_tensorflow(*, whole: bool = True) -> None:
    """Import TensorFlow and Keras for the CPU, without their greetings.

    Args:
        whole: with what Keras has for other packages; not needed in processes of our own.
    """
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "-1")
    os.environ.setdefault("KERAS_BACKEND", "tensorflow")
    with quiet(), _hidden(() if whole else UNUSED_PACKAGES):
        import keras
        import tensorflow as tf
    keras.utils.disable_interactive_logging()
    tf.get_logger().setLevel("ERROR")


@contextmanager
def _hidden(packages: Iterable[str]) -> Iterator[None]:
    """Let imports of packages that are not imported yet fail while the block runs."""
    hidden = [name for name in packages if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
