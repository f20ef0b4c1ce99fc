"""Where things lie, and atomic writes."""

from __future__ import annotations

import json
import os
import tempfile
from pathlib import Path
from typing import Any

from tuner.errors import SpecError


def home() -> Path:
    """The folder that holds `runs/` and `models/`: `$TUNE_HOME`, or the current one."""
    return Path(os.environ.get("TUNE_HOME") or ".").resolve()


def cache_folder() -> Path:
    """Prepared images, shared by all runs of this home."""
    return home() / "runs" / ".cache"


def write_atomic(path: Path, content: str | bytes) -> None:
    """Write a file so that a reader sees the old or the new content, never a part."""
    path.parent.mkdir(parents=True, exist_ok=True)
    data = content.encode() if isinstance(content, str) else content
    handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with os.fdopen(handle, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        umask = os.umask(0)
        os.umask(umask)
        os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files private
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise


def write_json(path: Path, plain: Any) -> None:
    """Write plain data as indented JSON, atomically."""
    write_atomic(path, json.dumps(plain, indent=2, ensure_ascii=False) + "\n")


def read_json(path: Path) -> Any:
    """Read a JSON file.

    Raises:
        SpecError: it is not there or not JSON.
    """
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"Expected a file at {path}; there is none.") from None
    except (OSError, ValueError) as error:
        raise SpecError(f"{path} cannot be read as JSON: {error}.") from None
