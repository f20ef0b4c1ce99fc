"""`.npz` files: images as one array, labels as another."""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import re
import shutil
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tuner.data.dataset import Dataset, assemble, file_locked
from tuner.data.preprocess import flatten_image
from tuner.data.scan import is_grey
from tuner.data.tree import SPLIT_FOLDERS, readable
from tuner.errors import DataError
from tuner.spec import Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

# The endings of x and y; the first one that is there counts.
SPLIT_ENDINGS: dict[Split, tuple[str, ...]] = {
    "training": ("", "_train", "_training"),
    "validation": ("_validation", "_val"),
    "test": ("_test",),
}
MAPPED_FROM_BYTES = 256 * 2**20
"""Larger images are unpacked into the cache once and mapped, so that no process holds them all."""
COPIED_BYTES = 2**20
SAVE = "save it with numpy.savez_compressed(FILE, x=images, y=labels)"


class ArrayImages:
    """Images of one shape in arrays, one array after the other; converted when they are read.

    Args:
        parts: uint8 or floats, n x height x width, with channels as a fourth axis or without.
        factor: of floats, to 0 to 255.
    """

    def __init__(self, parts: Sequence[NDArray[Any]], factor: float = 1.0) -> None:
        self._parts = parts
        self._starts = np.cumsum([0, *(len(part) for part in parts)])
        self._factor = factor

    def __len__(self) -> int:
        return int(self._starts[-1])

    def __getitem__(self, row: int) -> NDArray[np.uint8]:
        """The image of a row, uint8, height x width x channels."""
        if not 0 <= row < len(self):
            raise IndexError(row)
        part = int(np.searchsorted(self._starts, row, side="right")) - 1
        pixels = np.asarray(self._parts[part][row - self._starts[part]])
        if pixels.dtype != np.uint8:
            pixels = np.rint(pixels.astype(np.float64) * self._factor).astype(np.uint8)
        return pixels if pixels.ndim == 3 else pixels[:, :, None]


class ArrayReader:
    """Images that are rows of arrays, which are loaded when the first one is asked for."""

    def __init__(self, load: Callable[[], ArrayImages]) -> None:
        self._load = load
        self._images: ArrayImages | None = None

    def read(self, row: int) -> Image.Image:
        """The image of a row.

        Raises:
            DataError: the array can no longer be loaded.
        """
        if self._images is None:
            self._images = self._load()
        return as_image(self._images[row])


def as_image(pixels: NDArray[np.uint8]) -> Image.Image:
    """uint8, height x width x 1, 3 or 4 -> `L` or `RGB`."""
    return flatten_image(Image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels))


def dataset_of_arrays(
    *,
    source: str,
    images: ArrayImages,
    labels: NDArray[np.int64],
    classes: Sequence[str],
    names: Sequence[str],
    given: Sequence[Split],
    split_seed: int,
    reader: ArrayReader,
) -> Dataset:
    """Make a Dataset of images in arrays, which are looked at one after the other."""
    height, width, _ = images[0].shape
    shape = repr(images[0].shape).encode()
    digests, grey = [], True
    for row in range(len(images)):
        image = np.ascontiguousarray(images[row])
        digests.append(hashlib.blake2b(image.data, digest_size=16, key=shape).digest())
        grey = grey and is_grey(as_image(image))
    return assemble(
        source=source,
        classes=classes,
        labels=labels,
        names=names,
        digests=digests,
        given=given,
        heights=[height] * len(images),
        widths=[width] * len(images),
        grey=grey,
        left_out=(),
        split_seed=split_seed,
        reader=reader,
    )


def open_archive(path: Path, *, split_seed: int, cache: Path) -> Dataset:
    """Read `x`, `y` and what else is given; see `open_dataset`."""
    arrays = _read(path, cache)
    stamp = _stamp(path)
    images, given, names = _all_images(path, arrays)
    labels, classes = _all_labels(path, arrays, given)

    def load() -> ArrayImages:
        if _stamp(path) != stamp:
            raise DataError(
                f"Expected {path} as it was when the data was opened. Received: a changed file. "
                "Start again with the data as it is."
            )
        return _all_images(path, _read(path, cache))[0]

    return dataset_of_arrays(
        source=str(path),
        images=images,
        labels=labels,
        classes=classes,
        names=names,
        given=given,
        split_seed=split_seed,
        reader=ArrayReader(load),
    )


def _stamp(path: Path) -> tuple[int, int] | None:
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_size, status.st_mtime_ns


def _read(path: Path, cache: Path) -> dict[str, NDArray[Any]]:
    """The arrays that have a meaning here, by name; nothing pickled is ever loaded."""
    wanted = {"classes"} | {
        letter + ending
        for endings in SPLIT_ENDINGS.values()
        for ending in endings
        for letter in "xy"
    }
    arrays: dict[str, NDArray[Any]] = {}
    name = ""
    try:
        if not zipfile.is_zipfile(path):
            raise DataError(
                f"Expected an .npz archive at {path}. Received: a damaged file or one of another "
                f"kind; {SAVE}."
            )
        # numpy leaves a damaged file open that it opened by itself.
        with open(path, "rb") as file, np.load(file, allow_pickle=False) as archive:
            held = sorted(archive.files)
            for name in held:
                if name not in wanted:
                    continue
                large = name[0] == "x" and _unpacked_bytes(archive.zip, name) > MAPPED_FROM_BYTES
                arrays[name] = _mapped(path, archive.zip, name, cache) if large else archive[name]
    except ValueError as error:
        reason = (
            "Python objects (pickle), which are never loaded"
            if "pickle" in str(error).lower()
            else f"an array that cannot be read ({_first_line(error)})"
        )
        raise DataError(
            f"Expected plain arrays in {path}. Received: {name or 'the file'} holds {reason}; "
            "save numbers or strings of one shape."
        ) from None
    except (OSError, EOFError, KeyError, zipfile.BadZipFile, zlib.error, RuntimeError) as error:
        raise DataError(
            f"Expected an .npz archive that can be read at {path}. Received: a damaged file "
            f"({_first_line(error)}). Copy or make it again."
        ) from None
    if not any("x" + ending in arrays for ending in SPLIT_ENDINGS["training"]):
        shown = ", ".join(held) or "nothing"
        raise DataError(
            f"Expected an array x in {path}. Received: {shown}; {_renaming(path, held) or SAVE}."
        )
    return arrays


def _unpacked_bytes(archive: zipfile.ZipFile, name: str) -> int:
    return archive.getinfo(f"{name}.npy").file_size if f"{name}.npy" in archive.namelist() else 0


def _mapped(path: Path, archive: zipfile.ZipFile, name: str, cache: Path) -> NDArray[Any]:
    """An array unpacked into the cache, unless it is there, and memory-mapped.

    Raises:
        DataError: the cache cannot be written.
        Exception: what numpy and zipfile raise for a damaged array.
    """
    key = hashlib.blake2b(f"{path} {_stamp(path)}".encode(), digest_size=8).hexdigest()
    place = cache / "arrays" / f"{key}-{name}.npy"
    if not place.exists():
        with archive.open(f"{name}.npy") as packed:
            _unpack(packed, place)
    try:
        array: NDArray[Any] = np.load(place, mmap_mode="r", allow_pickle=False)
    except ValueError:
        place.unlink()
        raise
    return array


def _unpack(packed: IO[bytes], place: Path) -> None:
    """Copy a file of an archive, so that a reader sees all of it or nothing."""
    temporary = place.with_name(f".{place.name}.{os.getpid()}")
    try:
        place.parent.mkdir(parents=True, exist_ok=True)
        # `tune clean` leaves alone what is locked.
        with file_locked(place.with_name(f".{place.stem}.lock"), fcntl.LOCK_SH):
            with open(temporary, "wb") as file:
                shutil.copyfileobj(packed, file, COPIED_BYTES)
            os.replace(temporary, place)
    except OSError as error:
        raise DataError(
            f"Expected to unpack an array to {place}. Received: {error.strerror or error}. Free "
            "space or set TUNE_HOME to a folder with more."
        ) from None
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink(missing_ok=True)


def _renaming(path: Path, held: Sequence[str]) -> str:
    """The command that gives arrays the names that are looked for; empty if they are unclear."""
    pairs = []
    for name in held:
        words = re.split(r"[_.-]", name.lower())
        letters = {w[0] for w in words if w in ("images", "image", "data", "labels", "label")}
        letter = {"i": "x", "d": "x", "l": "y"}[letters.pop()] if len(letters) == 1 else ""
        split = next((SPLIT_FOLDERS[word] for word in words if word in SPLIT_FOLDERS), "training")
        ending = "" if split == "training" else f"_{split}"
        if letter:
            pairs.append((f"{letter}{ending}", name))
    if len(dict(pairs)) < len(pairs) or not {"x", "y"} <= dict(pairs).keys():
        return ""
    arrays = ", ".join(f"{wanted}=d['{name}']" for wanted, name in pairs)
    return f"rename them: d = numpy.load('{path}'); numpy.savez_compressed('renamed.npz', {arrays})"


def _first_line(error: Exception) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _given_splits(
    path: Path, arrays: Mapping[str, NDArray[Any]]
) -> list[tuple[Split, str, NDArray[Any], NDArray[Any]]]:
    """Split, name of x, x and y of each split that is there; lengths agree."""
    found: list[tuple[Split, str, NDArray[Any], NDArray[Any]]] = []
    for split, endings in SPLIT_ENDINGS.items():
        ending = next((e for e in endings if "x" + e in arrays or "y" + e in arrays), None)
        if ending is None:
            continue
        x_name, y_name = "x" + ending, "y" + ending
        for name in (x_name, y_name):
            if name not in arrays:
                other = y_name if name == x_name else x_name
                raise DataError(
                    f"Expected an array {name} beside {other} in {path}. Received: none; {SAVE}."
                )
        x, y = arrays[x_name], arrays[y_name]
        if y.ndim == 2 and y.shape[1] == 1:
            y = y[:, 0]
        if y.ndim != 1:
            raise DataError(
                f"Expected {y_name} in {path} to hold one label an image, shape (n,). Received: "
                f"shape {y.shape}. Of one-hot labels, save numpy.argmax(y, axis=1)."
            )
        if x.ndim not in (3, 4) or (x.ndim == 4 and x.shape[3] not in (1, 3, 4)):
            raise DataError(
                f"Expected {x_name} in {path} to have shape (n, height, width) or (n, height, "
                f"width, channels) with 1, 3 or 4 channels. Received: shape {x.shape}."
                " Reshape or transpose it."
            )
        if 0 in x.shape:
            raise DataError(
                f"Expected images in {x_name} of {path}. Received: shape {x.shape}, which holds "
                "none. Save at least one, or leave the array out."
            )
        if len(x) != len(y):
            raise DataError(
                f"Expected as many labels as images in {path}. Received: {len(x)} images in "
                f"{x_name} and {len(y)} labels in {y_name}."
            )
        found.append((split, x_name, x, y))
    return found


def _all_images(
    path: Path, arrays: Mapping[str, NDArray[Any]]
) -> tuple[ArrayImages, list[Split], list[str]]:
    """Images of all splits; split and name of each."""
    parts = _given_splits(path, arrays)
    shape = parts[0][2].shape[1:]
    for _, name, x, _ in parts:
        if x.shape[1:] != shape or x.dtype != parts[0][2].dtype:
            raise DataError(
                f"Expected {name} in {path} to have images of shape {shape} and dtype "
                f"{parts[0][2].dtype} like {parts[0][1]}. Received: {x.shape[1:]} {x.dtype}."
            )
    images = [x for _, _, x, _ in parts]
    factor = _factor(path, parts[0][1], images)
    given = [split for split, _, x, _ in parts for _ in range(len(x))]
    names = [f"{name}[{row}]" for _, name, x, _ in parts for row in range(len(x))]
    return ArrayImages(images, factor), given, names


def _factor(path: Path, name: str, images: Sequence[NDArray[Any]]) -> float:
    """What makes values 0 to 255."""
    x = images[0]
    if x.dtype == np.uint8:
        return 1.0
    expected = f"Expected {name} in {path} as uint8, or as floats from 0 to 1 or from 0 to 255."
    if x.dtype == np.uint16:
        raise DataError(
            f"{expected} Received: dtype uint16. Of values from 0 to 65535, save "
            f"({name} >> 8).astype('uint8'); of values from 0 to 255, {name}.astype('uint8')."
        )
    if x.dtype.kind != "f":
        raise DataError(
            f"{expected} Received: dtype {x.dtype}. If its values are from 0 to 255, save "
            f"{name}.astype('uint8')."
        )
    # numpy's minimum of minima keeps a NaN, which Python's does not.
    low = float(np.min([part.min() for part in images]))
    high = float(np.max([part.max() for part in images]))
    if not (low >= 0.0 and high <= 255.0):  # also where there is a NaN
        raise DataError(
            f"{expected} Received: values from {low:.6g} to {high:.6g}. Scale them before saving."
        )
    return 255.0 if high <= 1.0 else 1.0


def _all_labels(
    path: Path, arrays: Mapping[str, NDArray[Any]], given: Sequence[Split]
) -> tuple[NDArray[np.int64], list[str]]:
    """Labels of all splits and the names of the classes."""
    y = np.concatenate([part[3] for part in _given_splits(path, arrays)])
    names: list[str] | None = None
    if "classes" in arrays:
        classes = arrays["classes"]
        if classes.ndim != 1 or classes.dtype.kind not in "US":
            raise DataError(
                f"Expected classes in {path} as a list of strings. Received: shape "
                f"{classes.shape}, dtype {classes.dtype}."
            )
        names = [_text(name) for name in classes]
        if len(set(names)) < len(names):
            raise DataError(f"Expected different names in classes of {path}. Received: {names}.")
        _check_names(path, names)
    if y.dtype.kind in "US":
        texts = [_text(label) for label in y]
        names = names or sorted(set(texts))
        _check_names(path, names)
        unknown = sorted(set(texts) - set(names))
        if unknown:
            raise DataError(
                f"Expected the labels of {path} to be among its classes {names}. "
                f"Received: {unknown[:5]}."
            )
        numbers = {name: number for number, name in enumerate(names)}
        return np.array([numbers[text] for text in texts], np.int64), names
    if y.dtype.kind not in "iu":
        raise DataError(
            f"Expected y in {path} as integers from 0 or as strings. Received: dtype {y.dtype}."
        )
    last = len(names) - 1 if names else len(np.unique(y)) - 1
    if int(y.min()) < 0 or int(y.max()) > last:
        raise DataError(
            f"Expected y in {path} to hold every integer from 0 to {last}, one a class. Received: "
            f"values from {int(y.min())} to {int(y.max())}. Number the classes from 0 without gaps."
        )
    return y.astype(np.int64), names or [str(number) for number in range(last + 1)]


def _check_names(path: Path, names: Sequence[str]) -> None:
    """A class is a line of labels.txt.

    Raises:
        DataError: the name of one is none.
    """
    wrong = [name for name in names if readable(name) != name or not name.strip()]
    if wrong:
        raise DataError(
            f"Expected the names of the classes of {path} to be one line of text each. Received: "
            f"{wrong[:5]}. Strip them before saving."
        )


def _text(value: Any) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else str(value)
