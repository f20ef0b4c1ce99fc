"""Checking image files: digest, size and colour of each, or why it cannot be used."""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import os
import time
import warnings
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from tuner.data.preprocess import flatten_image, orientation_of
from tuner.store.files import write_atomic

THREADS = 2
# A folder that takes longer than this is worth remembering.
INDEX_FROM_SECONDS = 1.0
# A file changed this shortly before it was read may change again within the clock's tick.
SETTLED_AFTER_SECONDS = 2.0
INDEX_VERSION = 1
LOOKED_AT_SIDE = 64


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What opening a folder needs to know of one file.

    Args:
        digest: hexadecimal hash of the file's bytes.
        height: pixels, upright.
        width: pixels, upright.
        grey: no pixel looked at has colour.
        problem: why it cannot be used; empty if it can.
    """

    digest: str = ""
    height: int = 0
    width: int = 0
    grey: bool = False
    problem: str = ""


def digest_of(content: bytes) -> str:
    """Hexadecimal hash of a file's bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


def check_image(path: str) -> ImageFacts:
    """Read and decode one file; large JPEGs are decoded at an eighth of their size."""
    try:
        content = Path(path).read_bytes()
    except OSError as error:
        return ImageFacts(problem=f"cannot be opened ({error.strerror})")
    if not content:
        return ImageFacts(problem="empty file")
    try:
        with Image.open(io.BytesIO(content)) as image:
            width, height = image.size
            if orientation_of(image) >= 5:
                width, height = height, width
            # Every byte is still parsed, so that a truncated file does not pass.
            image.draft(None, (LOOKED_AT_SIDE, LOOKED_AT_SIDE))
            grey = is_grey(flatten_image(image))
    except Exception as error:  # Pillow's decoders fail in many ways
        return ImageFacts(problem=why_unreadable(error))
    return ImageFacts(digest=digest_of(content), height=height, width=width, grey=grey)


def why_unreadable(error: Exception) -> str:
    """A short reason, without paths or addresses."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its beginning"
    if isinstance(error, Image.DecompressionBombError):
        return "too many pixels"
    text = str(error).splitlines()[0] if str(error) else type(error).__name__
    if "truncated" in text.lower():
        return "truncated"
    return f"cannot be decoded ({text})" if "0x" not in text else "cannot be decoded"


def is_grey(flat: Image.Image) -> bool:
    """Whether an `L` or `RGB` image shows no colour in a grid of at most 64 x 64 pixels."""
    if flat.mode == "L":
        return True
    size = (min(flat.width, LOOKED_AT_SIDE), min(flat.height, LOOKED_AT_SIDE))
    if flat.size != size:
        flat = flat.resize(size, Image.Resampling.NEAREST)
    pixels = np.asarray(flat)
    return bool((pixels[:, :, 1:] == pixels[:, :, :1]).all())


def check_images(paths: Sequence[str], root: Path, cache: Path) -> list[ImageFacts]:
    """Check files, two at a time; a slow folder is remembered and only looked at again.

    A file counts as unchanged if its size, inode and times of change are.

    Args:
        paths: files.
        root: the folder that they belong to; it names the index.
        cache: where the index is kept.
    """
    started = time.time()
    index_path = cache / "index" / f"{digest_of(os.fsencode(root))}.json"
    index = _read_index(index_path)
    stamps = [_stamp(path) for path in paths]
    facts: dict[int, ImageFacts] = {}
    for number, (path, stamp) in enumerate(zip(paths, stamps, strict=True)):
        known = index.get(path)
        if stamp and known and known[0] == stamp:
            facts[number] = known[1]
    todo = [number for number in range(len(paths)) if number not in facts]
    # The filter is the whole process's, so it is set here and not in the threads.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
        with ThreadPoolExecutor(THREADS) as pool:
            found = pool.map(check_image, [paths[number] for number in todo])
            facts.update(zip(todo, found, strict=True))
    if todo and time.time() - started > INDEX_FROM_SECONDS:
        settled = (started - SETTLED_AFTER_SECONDS) * 1e9
        entries = {
            paths[number]: [stamp, astuple(facts[number])]
            for number, stamp in enumerate(stamps)
            if stamp and max(stamp[1:3]) < settled
        }
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            text = json.dumps({"version": INDEX_VERSION, "entries": entries})
            write_atomic(index_path, text)
    return [facts[number] for number in range(len(paths))]


def _stamp(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _read_index(path: Path) -> dict[str, tuple[list[int], ImageFacts]]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["version"] != INDEX_VERSION:
            return {}
        return {
            name: (stamp, ImageFacts(*fields)) for name, (stamp, fields) in plain["entries"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
