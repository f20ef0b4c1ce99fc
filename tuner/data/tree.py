"""Where image files lie: a folder, or a zip that is read without unpacking it."""

from __future__ import annotations

import contextlib
import os
import re
import shlex
import stat
import unicodedata
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from tuner.errors import DataError
from tuner.spec import Split

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif", ".heic", ".heif"),
)
PACKED_SUFFIXES = (".tar", ".tgz", ".gz", ".bz2", ".xz", ".zst", ".7z", ".rar")
OPENED_SUFFIXES = (".zip", ".npz")
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "training",
    "training": "training",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}
# No encoded image of a data set comes near; a file of zeros that a zip claims to hold does.
FILE_MAX_BYTES = 512 * 2**20
_UTF8_NAMES = 0x800
_ENCRYPTED = 0x1
_DRIVE = re.compile(r"[A-Za-z]:/")


class UnreadableError(Exception):
    """A file that cannot be read; its text is the reason."""


class Tree(Protocol):
    """Image files below folders. Paths are relative to the root, with `/`; the root is ``""``.

    Hidden files (a leading dot) and `__MACOSX`, which macOS leaves in zips, do not count.

    Attributes:
        where: the source, for messages.
        top: the folder that is read as the data's root; see `inside_wrappers`.
        refused: what is never read, each with its reason.
        skipped: hidden image files and folders that were passed over.
        others: files passed over that are no images by their ending.
    """

    where: str
    top: str
    refused: list[str]
    skipped: set[str]
    others: set[str]

    def subfolders(self, folder: str) -> list[str]:
        """Names of the folders in a folder, sorted."""

    def images_in(self, folder: str) -> list[str]:
        """Names of the image files directly in a folder, sorted."""

    def tables_in(self, folder: str) -> list[str]:
        """Names of the `.csv` and `.tsv` files directly in a folder, sorted."""

    def walk(self, folder: str) -> list[str]:
        """Paths of the image files below a folder at any depth, sorted."""

    def holds_images(self, folder: str) -> bool:
        """Whether there are image files below a folder at any depth."""

    def read(self, path: str) -> bytes:
        """The content of a file.

        Raises:
            UnreadableError: it cannot be read.
        """

    def stamp(self, path: str) -> list[int]:
        """What changes when a file does: size, times of change, identity; empty if unknown."""

    def shown(self, path: str) -> str:
        """A path as a person may use it."""


def join(*parts: str) -> str:
    """Parts of a path, of which any may be empty."""
    return "/".join(part for part in parts if part)


def inside_wrappers(tree: Tree) -> str:
    """The folder below which all images lie in folders of their own; a split is passed by none."""
    top = ""
    while not tree.images_in(top):
        inner = holding(tree, top)
        if len(inner) != 1 or inner[0].lower() in SPLIT_FOLDERS:
            return top
        path = join(top, inner[0])
        if tree.images_in(path) or not holding(tree, path):
            return top
        top = path
    return top


def holding(tree: Tree, folder: str) -> list[str]:
    """Names of the folders in a folder that hold images at any depth, sorted."""
    return [name for name in tree.subfolders(folder) if tree.holds_images(join(folder, name))]


def is_image(name: str) -> bool:
    """Whether a file is an image by the ending of its name."""
    return name.lower().endswith(IMAGE_SUFFIXES)


def packed_in(tree: Tree) -> list[str]:
    """Paths of packed files that were passed over, sorted; not of those with a folder so named."""
    return sorted(
        path
        for path in tree.others
        if path.lower().endswith((*OPENED_SUFFIXES, *PACKED_SUFFIXES))
        for folder, _, name in [path.rpartition("/")]
        if name.split(".")[0] not in tree.subfolders(folder)
    )


def is_table(name: str) -> bool:
    """Whether a file may hold a table of labels."""
    return name.lower().endswith((".csv", ".tsv"))


def is_hidden(name: str) -> bool:
    """Whether a file or folder does not count."""
    return name.startswith(".") or name == "__MACOSX"


def utf8(name: str) -> str:
    """A file name as text that can be written as UTF-8: other bytes as \\xb9, so none are alike."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


def readable(name: str) -> str:
    """A file name as one line of text, without what would steer a terminal."""
    return "".join(
        f"\\x{ord(letter):02x}" if unicodedata.category(letter) == "Cc" else letter
        for letter in utf8(name)
    )


class FolderTree:
    """A folder on disk; links are followed."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.where = readable(str(root))
        self.top = ""
        self.refused: list[str] = []
        self.skipped: set[str] = set()
        self.others: set[str] = set()

    def subfolders(self, folder: str) -> list[str]:
        """See Tree."""
        return [entry.name for entry in self._entries(folder) if _is_folder(entry)]

    def images_in(self, folder: str) -> list[str]:
        """See Tree."""
        names = [entry.name for entry in self._entries(folder) if not _is_folder(entry)]
        self.others.update(join(folder, name) for name in names if not is_image(name))
        return [name for name in names if is_image(name)]

    def tables_in(self, folder: str) -> list[str]:
        """See Tree."""
        return [entry.name for entry in self._entries(folder) if is_table(entry.name)]

    def walk(self, folder: str) -> list[str]:
        """See Tree."""
        return sorted(self._images_below(folder))

    def holds_images(self, folder: str) -> bool:
        """See Tree."""
        return any(True for _ in self._images_below(folder))

    def _images_below(self, folder: str) -> Iterator[str]:
        """Paths of images; no folder is read twice, so that circles of links end."""
        seen: set[str] = set()
        waiting = [folder]
        while waiting:
            inner = waiting.pop()
            real = os.path.realpath(self._path(inner))
            if real in seen:
                continue
            seen.add(real)
            for entry in self._entries(inner):
                path = join(inner, entry.name)
                if _is_folder(entry):
                    waiting.append(path)
                elif is_image(entry.name):
                    yield path
                else:
                    self.others.add(path)

    def read(self, path: str) -> bytes:
        """See Tree."""
        full = self._path(path)
        try:
            status = os.stat(full)
            if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for without end
                raise UnreadableError("not a regular file")
            if status.st_size > FILE_MAX_BYTES:
                raise UnreadableError(_too_large(status.st_size))
            with open(full, "rb") as file:
                return file.read()
        except OSError as error:
            raise UnreadableError(f"cannot be opened ({error.strerror})") from None

    def stamp(self, path: str) -> list[int]:
        """See Tree."""
        return _stamp(self._path(path))

    def shown(self, path: str) -> str:
        """See Tree."""
        return readable(self._path(path))

    def _path(self, path: str) -> str:
        return os.path.join(self.root, path) if path else str(self.root)

    def _entries(self, folder: str) -> list[os.DirEntry[str]]:
        try:
            with os.scandir(self._path(folder)) as entries:
                found = list(entries)
        except OSError as error:
            raise DataError(
                f"Expected a folder that can be read at {self.shown(folder)}. "
                f"Received: {error.strerror}. Check its permissions."
            ) from None
        for entry in found:
            if is_hidden(entry.name) and (is_image(entry.name) or _is_folder(entry)):
                self.skipped.add(join(folder, entry.name))
        kept = [entry for entry in found if not is_hidden(entry.name)]
        return sorted(kept, key=lambda entry: entry.name)


class ZipTree:
    """A zip file; each image is unpacked in memory when it is asked for.

    Names may use `\\`; a name without the
    UTF-8 flag is taken as UTF-8 where it is valid UTF-8, as most programs mean it. Of entries
    with one name the last counts, as for programs that unpack. Absolute names and names with
    `..` are refused.

    Raises:
        DataError: it is no zip file, or its directory is damaged.
    """

    def __init__(self, path: Path) -> None:
        self.where = readable(str(path))
        self._file = str(path)
        self.refused: list[str] = []
        self.skipped: set[str] = set()
        self.others: set[str] = set()
        try:
            self._stamp = _stamp(self._file)
            self._zip = zipfile.ZipFile(path)
            infos = self._zip.infolist()
        except PermissionError as error:
            raise DataError(
                f"Expected a zip that can be read at {self.where}. Received: {error.strerror}. "
                "Check its permissions."
            ) from None
        except Exception as error:  # zipfile fails in many ways on a damaged directory
            reason = (str(error) or type(error).__name__).splitlines()[0]
            raise DataError(
                f"Expected a zip file with an undamaged directory at {self.where}. Received: "
                f"{reason}. Copy it again, or mend a copy with: zip -FF {shlex.quote(self.where)} "
                "--out mended.zip"
            ) from None
        self._infos: dict[str, zipfile.ZipInfo] = {}
        self._folders: dict[str, set[str]] = {"": set()}
        self._images: dict[str, list[str]] = {}
        for info in infos:
            self._add(info)
        self.top = inside_wrappers(self)

    def _add(self, info: zipfile.ZipInfo) -> None:
        name = _name_of(info)
        parts = [part for part in name.split("/") if part not in ("", ".")]
        if name.startswith("/") or ".." in parts or _DRIVE.match(name):
            if is_image(name):
                self.refused.append(f"{readable(name)}: refused, its name leads out of the zip")
            return
        path = "/".join(parts)
        if any(is_hidden(part) for part in parts):
            if is_image(name):
                self.skipped.add(path)
            return
        is_folder = name.endswith("/")
        folders = parts if is_folder else parts[:-1]
        for depth, folder in enumerate(folders):
            inner = "/".join(folders[: depth + 1])
            self._folders.setdefault("/".join(folders[:depth]), set()).add(folder)
            self._folders.setdefault(inner, set())
        if is_folder or not parts:
            return
        if not is_image(path):
            self.others.add(path)
        elif path in self._infos:
            self.refused.append(f"{readable(path)}: replaced by a later entry of the same name")
        else:
            self._images.setdefault("/".join(folders), []).append(parts[-1])
        self._infos[path] = info

    def subfolders(self, folder: str) -> list[str]:
        """See Tree."""
        return sorted(self._folders.get(folder, ()))

    def images_in(self, folder: str) -> list[str]:
        """See Tree."""
        return sorted(self._images.get(folder, ()))

    def tables_in(self, folder: str) -> list[str]:
        """See Tree."""
        paths = (path.rpartition("/") for path in self.others)
        return sorted(name for inner, _, name in paths if inner == folder and is_table(name))

    def walk(self, folder: str) -> list[str]:
        """See Tree."""
        below = f"{folder}/" if folder else ""
        return sorted(
            join(inner, name)
            for inner, names in self._images.items()
            if inner == folder or inner.startswith(below)
            for name in names
        )

    def holds_images(self, folder: str) -> bool:
        """See Tree."""
        return bool(self.walk(folder))

    def read(self, path: str) -> bytes:
        """See Tree."""
        info = self._infos[path]
        if stat.S_ISLNK(info.external_attr >> 16):
            raise UnreadableError("a link, which is not followed within a zip")
        if info.flag_bits & _ENCRYPTED:
            raise UnreadableError("encrypted; pack it without a password")
        if info.file_size > FILE_MAX_BYTES:
            raise UnreadableError(_too_large(info.file_size))
        try:
            return self._zip.read(info)
        except NotImplementedError:
            raise UnreadableError(
                f"packed with method {info.compress_type}, which cannot be unpacked here; "
                "pack it with deflate"
            ) from None
        except Exception as error:  # zlib, lzma, bz2 and zipfile fail in many ways
            text = str(error) or type(error).__name__
            reason = "bad checksum" if "CRC" in text else "bad data"
            raise UnreadableError(f"damaged within the zip ({reason})") from None

    def stamp(self, path: str) -> list[int]:
        """See Tree."""
        return [*self._stamp, self._infos[path].header_offset] if self._stamp else []

    def shown(self, path: str) -> str:
        """See Tree."""
        return join(self.where, readable(path))


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link to itself, for example; reading it says so
        return False


def _name_of(info: zipfile.ZipInfo) -> str:
    name = info.filename
    if not info.flag_bits & _UTF8_NAMES:
        with contextlib.suppress(UnicodeError):
            name = name.encode("cp437").decode("utf-8")
    return name.replace("\\", "/")


def _stamp(path: str) -> list[int]:
    try:
        status = os.stat(path)
    except OSError:
        return []
    return [status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino]


def _too_large(size_bytes: int) -> str:
    return (
        f"{size_bytes / 2**20:.0f} MB, more than the {FILE_MAX_BYTES // 2**20} MB that an image "
        "file may have"
    )
