"""What may be removed from a home, and removing it; models and templates are never touched."""

from __future__ import annotations

import fcntl
import os
import shutil
import time
from collections.abc import Collection, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from tuner.errors import LockedError, SpecError
from tuner.store.files import cache_folder, home, read_json
from tuner.store.lock import is_locked, locked
from tuner.store.runs import RunFolder, known_runs
from tuner.store.work import going_on as going_on_now

Kind = Literal["weights", "remains", "run", "images"]

KEPT_IN_CACHE = ("index", "samples", "weights")
"""What the cache holds beside a folder of prepared images for each dataset's fingerprint."""


ARRAYS = "arrays"
"""Folder of the cache with arrays that were unpacked, of all datasets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Removable:
    """Files that serve nothing any more.

    Args:
        kind: `weights` of candidates whose run has ended; `remains` of files that a killed
            process was writing; `run`, a whole run; `images` prepared for a dataset.
        name: of the run, or the fingerprint of the dataset.
        paths: files or folders.
        size_bytes: of all of them.
    """

    kind: Kind
    name: str
    paths: tuple[Path, ...]
    size_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Cleaned:
    """What was, or would be, removed; and the runs that are going on, which were left alone."""

    removed: tuple[Removable, ...]
    going_on: tuple[str, ...]


def clean(
    runs: Collection[RunFolder],
    *,
    whole: bool = False,
    all_images: bool = False,
    older_than_seconds: float = 0.0,
    dry_run: bool = False,
) -> Cleaned:
    """Remove what serves nothing any more.

    Of each run: what killed processes left half-written and, once it has ended, the weights
    that its candidates would have been trained on from. Of the cache: images prepared for data
    that no run has. A run that is going on is left alone, and so are images that a process is
    preparing.

    Args:
        runs: to look at.
        whole: remove these runs altogether.
        all_images: remove the prepared images of all data; they are made again when needed.
        older_than_seconds: leave runs alone that were written to since.
        dry_run: remove nothing, only tell.
    """
    removed: list[Removable] = []
    gone: set[str] = set()
    going_on: set[str] = set()
    for run in sorted(runs, key=lambda run: run.name):
        try:
            with locked(run.lock, f"The run '{run.name}'"):
                if _age_seconds(run) < older_than_seconds:
                    continue
                found = [_removable("run", run.name, [run.path])] if whole else _leftovers(run)
                removed += _remove(found, dry_run)
                if whole:
                    gone.add(run.name)
        except LockedError:
            going_on.add(run.name)
    used = {
        _fingerprint(run)
        for run in known_runs()
        if run.name not in gone and (not all_images or is_locked(run.lock))
    }
    if going_on_now():  # workers that start later would unpack them again
        used.add(ARRAYS)
    for folder in _image_folders():
        if folder.name not in used:
            with ExitStack() as held:
                if _hold(folder, held):
                    removed += _remove([_removable("images", folder.name, [folder])], dry_run)
    return Cleaned(removed=tuple(removed), going_on=tuple(sorted(going_on)))


def _fingerprint(run: RunFolder) -> str | None:
    """Of the run's dataset, without checking the rest; None if it cannot be told."""
    try:
        return str(read_json(run.path / "run.json")["dataset"]["fingerprint"])
    except (SpecError, KeyError, TypeError):
        return None


def _age_seconds(run: RunFolder) -> float:
    """Seconds since the run's last event."""
    log = run.path / "events.jsonl"
    return time.time() - (log if log.exists() else run.path / "run.json").stat().st_mtime


def _leftovers(run: RunFolder) -> list[Removable]:
    files = [path for path in run.path.rglob("*") if path.is_file() and not path.is_symlink()]
    remains = [path for path in files if path.name.startswith(".") or _is_left(path, run.path)]
    found = [_removable("remains", run.name, remains)]
    events = run.events()
    if events and events[-1]["event"] == "ended":
        weights = [path for path in files if path.name == "weights.npz"]
        found.append(_removable("weights", run.name, weights))
    return [item for item in found if item.paths]


def _is_left(path: Path, run: Path) -> bool:
    """Whether a worker's file lies where `tuner.engine.slots` keeps them while a job runs."""
    return Path(path.relative_to(run).parts[0]).suffix in (".outcome", ".tmp")


def _image_folders() -> Iterator[Path]:
    cache = cache_folder()
    if cache.is_dir():
        for path in sorted(cache.iterdir()):
            if path.is_dir() and path.name not in KEPT_IN_CACHE:
                yield path


def _hold(folder: Path, held: ExitStack) -> bool:
    """Take the locks under which images are prepared; False if a process holds one."""
    for lock in sorted(folder.rglob(".*.lock")):
        file = held.enter_context(lock.open("rb+"))
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
    return True


def _removable(kind: Kind, name: str, paths: list[Path]) -> Removable:
    return Removable(
        kind=kind, name=name, paths=tuple(paths), size_bytes=sum(map(_size_bytes, paths))
    )


def _size_bytes(path: Path) -> int:
    """Of a file, or of all files in a folder; links are not followed."""
    files = path.rglob("*") if path.is_dir() else [path]
    return sum(os.lstat(file).st_size for file in files if not file.is_dir())


def _remove(found: list[Removable], dry_run: bool) -> list[Removable]:
    if not dry_run:
        for item in found:
            for path in item.paths:
                if path.is_dir():
                    _remove_folder(path)
                else:
                    path.unlink(missing_ok=True)
    return found


def _remove_folder(folder: Path) -> None:
    """Of a run, `run.json` and the lock last: what is interrupted can be named again till then."""
    if not folder.is_symlink():  # which rmtree refuses
        for path in folder.iterdir():
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path)
            elif path.name not in ("run.json", "run.lock"):
                path.unlink(missing_ok=True)
        (folder / "run.json").unlink(missing_ok=True)
    shutil.rmtree(folder)


def relative_to_home(path: Path) -> str:
    """A path of a home as text that does not name where the home lies."""
    return path.relative_to(home()).as_posix()
