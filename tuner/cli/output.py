"""Files that the user names, and standard output."""

from __future__ import annotations

from pathlib import Path

STDOUT = Path("-")


def write_output(path: Path, text: str) -> None:
    """Write a file that the user named, and say so; `-` is standard output.

    A link stays one, and what is no file, such as a pipe or /dev/stdout, is written to as it is.
    """
    from tuner.store.files import write_atomic

    if path == STDOUT:
        print(text, end="")
        return
    if path.exists() and not path.is_file():
        path.write_text(text, encoding="utf-8")
        return
    write_atomic(path.resolve(), text)
    print(f"Written: {path}")
