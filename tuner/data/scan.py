"""Checking image files: digest, size and look of each, or why it cannot be used."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import io
import json
import threading
import time
import warnings
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import astuple, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, UnidentifiedImageError

from tuner.data.look import look_of
from tuner.data.preprocess import flatten_image, is_deep, orientation_of
from tuner.data.tree import Tree, UnreadableError, readable
from tuner.store.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

THREADS = 2
# Waiting files cost memory each; a part of so many keeps it small.
PART_FILES = 4096
PROGRESS_FILES = 200
# A folder that takes longer than this is worth remembering.
INDEX_FROM_SECONDS = 1.0
# A file changed this shortly before it was read may change again within the clock's tick.
SETTLED_AFTER_SECONDS = 2.0
INDEX_VERSION = 4
LOOKED_AT_SIDE = 64
REASON_LETTERS = 100
PIXELS_MAX = 178_956_970
"""An image with more is left out: Pillow's bound against files that unpack to fill the memory."""
SIDE_MAX = 65_535
"""The longest side of a JPEG. No camera's images come near; of damaged headers, many claim more."""
LARGE_PIXELS = 2**24
FORMATS = (
    *("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "WEBP", "TIFF", "PPM", "TGA", "JPEG2000"),
    *("AVIF", "ICO", "PCX", "SGI", "DDS", "QOI", "HEIF"),
)
"""What is decoded, whatever a file's ending. Others are not: for EPS Pillow starts a program."""

_HEIC = "HEIC: pip install pillow-heif, or save as JPEG"

_large_images = threading.Lock()


@dataclass(frozen=True, slots=True)
class ImageFacts:
    """What is known of one file without keeping its pixels.

    Args:
        digest: hexadecimal hash of the file's bytes.
        height: pixels, upright.
        width: pixels, upright.
        grey: no pixel looked at has colour.
        problem: why it cannot be used; empty if it can.
        kind: format of the file, such as JPEG.
        mode: Pillow's name of its colours, such as RGB, P or I;16.
        animated: it has more than one frame; the first is used.
        turned: it is stored turned or mirrored, and EXIF says how.
        size_bytes: of the file.
        look: see `look_of`.
        brightest: largest value of an image of more than 8 bits, as it is read, 0 to 255; -1 of
            others.
    """

    digest: str = ""
    height: int = 0
    width: int = 0
    grey: bool = False
    problem: str = ""
    kind: str = ""
    mode: str = ""
    animated: bool = False
    turned: bool = False
    size_bytes: int = 0
    look: str = ""
    brightest: int = -1

    @property
    def content(self) -> bytes:
        """`digest` as bytes; with another end for files that versions before read otherwise."""
        read_anew = (self.kind == "TIFF" and self.turned) or (
            self.kind == "PPM" and self.mode == "I"
        )
        return bytes.fromhex(self.digest) + (b"1" if read_anew else b"")


def digest_of(content: bytes) -> str:
    """Hexadecimal hash of a file's bytes."""
    return hashlib.blake2b(content, digest_size=16).hexdigest()


@functools.cache
def _formats() -> tuple[str, ...]:
    Image.init()
    with contextlib.suppress(ImportError):
        from pillow_heif import register_heif_opener

        register_heif_opener()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def open_image(content: bytes) -> Image.Image:
    """Open an encoded image of one of `FORMATS`.

    Raises:
        Exception: whatever Pillow raises for a file that it does not know.
    """
    return Image.open(io.BytesIO(content), formats=_formats())


def check_image(tree: Tree, path: str) -> ImageFacts:
    """Read and decode one file; large JPEGs are decoded at an eighth of their size."""
    try:
        content = tree.read(path)
    except UnreadableError as error:
        return ImageFacts(problem=str(error))
    return facts_of(content)


def facts_of(content: bytes) -> ImageFacts:
    """Decode an image file's content and look at it."""
    if not content:
        return ImageFacts(problem="empty file")
    try:
        with open_image(content) as image:
            width, height = image.size
            if width * height > PIXELS_MAX:
                return ImageFacts(problem=_too_many(f"{width} x {height}"))
            if max(width, height) > SIDE_MAX:
                reason = f"{width} x {height} pixels, a side longer than {SIDE_MAX}"
                return ImageFacts(problem=reason)
            large = width * height > LARGE_PIXELS
            # One at a time: decoded they take up to a gigabyte each.
            with _large_images if large else contextlib.nullcontext():
                return _decoded(image, content)
    except Exception as error:  # Pillow's decoders fail in many ways
        return ImageFacts(problem=_HEIC if _is_heic(content) else why_unreadable(error))


def _is_heic(content: bytes) -> bool:
    """Whether it is a picture of ISO/IEC 23008-12, of its HEVC kinds, that nothing here decodes."""
    if "HEIF" in _formats():
        return False
    return content[4:8] == b"ftyp" and content[8:12] in (b"heic", b"heix", b"mif1", b"msf1")


def _decoded(image: Image.Image, content: bytes) -> ImageFacts:
    width, height = image.size
    mode, tiff = image.mode, image.format == "TIFF"
    turned = tiff and orientation_of(image) != 1  # Pillow turns it when it loads it
    # Every byte is still parsed, so that a truncated file does not pass.
    image.draft(None, (LOOKED_AT_SIDE, LOOKED_AT_SIDE))
    flat = flatten_image(image)
    # Of a PNG it is asked for after all is read, or a damaged one would pass with a part.
    orientation = orientation_of(image)
    if tiff:
        width, height = flat.size
    elif orientation >= 5:
        width, height = height, width
    return ImageFacts(
        digest=digest_of(content),
        height=height,
        width=width,
        grey=is_grey(flat),
        kind=image.format or "",
        mode=mode,
        animated=_is_animated(image),
        turned=turned or orientation != 1,
        size_bytes=len(content),
        look=look_of(flat),
        brightest=int(np.asarray(flat).max()) if is_deep(image) else -1,
    )


def facts_of_pixels(pixels: NDArray[np.uint8]) -> ImageFacts:
    """Look at an image that is no file: uint8, height x width x 1 or 3."""
    flat = Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels)
    return ImageFacts(
        digest=digest_of(repr(pixels.shape).encode() + pixels.tobytes()),
        height=flat.height,
        width=flat.width,
        grey=is_grey(flat),
        kind="array",
        mode=flat.mode,
        look=look_of(flat),
    )


def _is_animated(image: Image.Image) -> bool:
    try:
        return bool(getattr(image, "is_animated", False))
    except Exception:  # of a damaged second frame; the first one was good
        return True


def _too_many(received: str) -> str:
    return f"too many pixels ({received}; at most {PIXELS_MAX / 1e6:.0f} million are decoded)"


def why_unreadable(error: Exception) -> str:
    """A short reason, without paths or addresses."""
    if isinstance(error, UnidentifiedImageError):
        return "not an image, or damaged at its beginning"
    if isinstance(error, Image.DecompressionBombError):
        return _too_many("as its header says")
    if isinstance(error, MemoryError):
        return "too large for the memory"
    text = readable(str(error) or type(error).__name__)[:REASON_LETTERS]
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


def check_images(
    tree: Tree,
    paths: Sequence[str],
    cache: Path,
    on_progress: Callable[[int, int], None] = lambda done, count: None,
) -> list[ImageFacts]:
    """Check files, two at a time; a slow folder is remembered and only looked at again.

    A file counts as unchanged if its size, inode and times of change are; a file in a zip, if
    those of the zip are.

    Args:
        tree: where they lie; it names the index.
        paths: files.
        cache: where the index is kept.
        on_progress: called now and then with the files done and their count.
    """
    started = time.time()
    index_path = cache / "index" / f"{digest_of(tree.shown('').encode())}.json"
    index = _read_index(index_path)
    stamps = [tree.stamp(path) for path in paths]
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
            for start in range(0, len(todo), PART_FILES):
                part = todo[start : start + PART_FILES]
                found = pool.map(lambda number: check_image(tree, paths[number]), part)
                for number, fact in zip(part, found, strict=True):
                    facts[number] = fact
                    if len(facts) % PROGRESS_FILES == 0:
                        on_progress(len(facts), len(paths))
    if todo and time.time() - started > INDEX_FROM_SECONDS:
        settled = (started - SETTLED_AFTER_SECONDS) * 1e9
        entries = {
            paths[number]: [stamp, astuple(facts[number])]
            for number, stamp in enumerate(stamps)
            # What cannot be used may be mended by what is installed, or by a free disk.
            if stamp and not facts[number].problem and max(stamp[1:3]) < settled
        }
        with contextlib.suppress(OSError):  # a folder that cannot be written only costs time
            text = json.dumps({"version": _index_version(), "entries": entries})
            write_atomic(index_path, text)
    return [facts[number] for number in range(len(paths))]


def _index_version() -> list[int | str]:
    """What is decoded is a part of it: facts of HEIC pictures serve only where they can be read."""
    return [INDEX_VERSION, *_formats()]


def _read_index(path: Path) -> dict[str, tuple[list[int], ImageFacts]]:
    try:
        plain = json.loads(path.read_text(encoding="utf-8"))
        if plain["version"] != _index_version():
            return {}
        return {
            name: (stamp, ImageFacts(*fields)) for name, (stamp, fields) in plain["entries"].items()
        }
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return {}
