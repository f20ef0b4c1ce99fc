"""A Dataset: labelled images with a fixed split, and the cache of resized ones."""

from __future__ import annotations

import fcntl
import os
import shutil
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from PIL import Image

from tuner.data.preprocess import resize_flat
from tuner.data.split import fingerprint, split_rows
from tuner.errors import DataError
from tuner.spec import SPLITS, Colour, DatasetSpec, Preprocessing, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray

PART_IMAGES = 256
"""Workers that want the same prepared images share the work in parts of so many."""

ORIGINALS_BYTES = 512 * 2**20
"""Originals of one size are kept decoded, as RGB, if they take no more: of a 32 x 32 JPEG,
reading and decoding takes three quarters of the time that preparing it takes."""


class ImageReader(Protocol):
    """Where the pixels of a dataset come from."""

    def read(self, row: int) -> Image.Image:
        """Image number `row`, 8 bits, upright, mode `L` or `RGB`.

        Raises:
            DataError: it is no longer there or no longer the same.
        """


class Dataset:
    """Labelled images with a seeded split; made by `open_dataset`.

    Args:
        spec: what a run keeps of it.
        rows: of each split, ascending; this is the split's fixed order.
        labels: of each row, int64.
        names: of each row, for reports.
        reader: gives a row's image.
        one_size: whether all images are `spec.image_height` x `spec.image_width`.
    """

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        rows: Mapping[Split, NDArray[np.int64]],
        labels: NDArray[np.int64],
        names: Sequence[str],
        reader: ImageReader,
        one_size: bool,
    ) -> None:
        self.spec = spec
        self._rows = rows
        self._labels = labels
        self._names = names
        self._reader = reader
        self._originals: Preprocessing | None = None
        decoded = 3 * spec.image_height * spec.image_width * len(labels)
        if one_size and decoded <= ORIGINALS_BYTES:
            self._originals = Preprocessing(
                height=spec.image_height, width=spec.image_width, colour="rgb"
            )

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Where a split's images stand among all that the source gave, ascending, int64, n."""
        return self._rows[split]

    def labels(self, split: Split) -> NDArray[np.int64]:
        """Labels of a split in its fixed order, int64, n."""
        return self._labels[self._rows[split]]

    def names(self, split: Split) -> tuple[str, ...]:
        """File names within the source, or array positions, in the split's fixed order."""
        return tuple(self._names[row] for row in self._rows[split])

    def image(self, split: Split, index: int) -> NDArray[np.uint8]:
        """One original image.

        Args:
            split: the split.
            index: its place in the split's fixed order.

        Returns:
            uint8, height x width x 3, or x 1 where all images of the dataset are grey.

        Raises:
            DataError: no such index, or the file changed.
        """
        rows = self._rows[split]
        if not 0 <= index < len(rows):
            raise DataError(
                f"Expected an image index from 0 to {len(rows) - 1} in {split}. "
                f"Received: index={index}."
            )
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            image = self._reader.read(int(rows[index]))
        pixels = np.asarray(image.convert("RGB" if self.spec.colour == "rgb" else "L"), np.uint8)
        return np.ascontiguousarray(pixels if pixels.ndim == 3 else pixels[:, :, None])

    def arrays(
        self, preprocessing: Preprocessing, split: Split, cache: Path
    ) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """A split's images as a candidate sees them, before scaling, and their labels.

        Made once and kept in `cache / fingerprint / preprocessing.key`. Several processes may ask
        at the same time: each makes a part, and what a killed one left half-done is made again.

        Args:
            preprocessing: size, colour and crop.
            split: the split.
            cache: a folder for prepared images.

        Returns:
            A read-only memory map, uint8, n x height x width x channels, and labels, int64, n.

        Raises:
            DataError: an image is no longer readable or the same, or the cache cannot be written.
        """
        rows = self._rows[split]
        shape = (len(rows), preprocessing.height, preprocessing.width, preprocessing.channels)
        path = cache / self.spec.fingerprint / preprocessing.key / f"{split}.npy"
        images = _map(path, shape)
        if images is None:
            read = self._source(preprocessing, split, cache)
            try:
                _prepare(path, shape, lambda place: resize_flat(read(place), preprocessing))
            except OSError as error:
                raise DataError(
                    f"Expected to write prepared images to {path}. Received: "
                    f"{error.strerror or error}. Free space or choose another folder."
                ) from None
            images = _map(path, shape)
        if images is None:
            raise DataError(
                f"Expected prepared images of shape {shape} at {path}, just written. Received: "
                "a file of another shape. Remove it and try again."
            )
        return images, self.labels(split)

    def _source(
        self, preprocessing: Preprocessing, split: Split, cache: Path
    ) -> Callable[[int], Image.Image]:
        """What gives the original at a place in a split: decoded before, or decoded now."""
        originals = self._originals
        if originals is None or preprocessing.key == originals.key:
            rows = self._rows[split]
            return lambda place: self._reader.read(int(rows[place]))
        pixels = np.asarray(self.arrays(originals, split, cache)[0])
        return lambda place: Image.fromarray(pixels[place])


def _prepare(
    path: Path, shape: tuple[int, ...], image_at: Callable[[int], NDArray[np.uint8]]
) -> None:
    """Write a `.npy` file of images, together with all others that ask for it now.

    The locks are the kernel's, so that none outlives its process. Whoever makes parts holds a
    shared one, and whoever joins them waits for an exclusive one; parts that are missing then
    belong to a process that was killed.

    Args:
        path: the file.
        shape: n x height x width x channels.
        image_at: makes one image.
    """
    parts = path.with_name(f".{path.stem}.parts")
    lock = path.with_name(f".{path.stem}.lock")
    path.parent.mkdir(parents=True, exist_ok=True)
    while True:
        with file_locked(lock, fcntl.LOCK_SH):
            if _map(path, shape) is not None:
                return
            parts.mkdir(exist_ok=True)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
                for part, places in _parts(parts, shape):
                    _make_part(part, places, shape, image_at)
        with file_locked(lock, fcntl.LOCK_EX):
            if _map(path, shape) is not None or _join(parts, path, shape):
                return


def _parts(folder: Path, shape: tuple[int, ...]) -> Iterator[tuple[Path, range]]:
    """File and places of each part."""
    for start in range(0, shape[0], PART_IMAGES):
        end = min(start + PART_IMAGES, shape[0])
        yield folder / f"{start}-{end}", range(start, end)


def _part_bytes(places: range, shape: tuple[int, ...]) -> int:
    return len(places) * int(np.prod(shape[1:]))


def _make_part(
    path: Path,
    places: range,
    shape: tuple[int, ...],
    image_at: Callable[[int], NDArray[np.uint8]],
) -> None:
    """Write the pixels of some images unless it was done, or another process is at it."""
    try:
        with file_locked(path, fcntl.LOCK_EX | fcntl.LOCK_NB) as descriptor:
            if os.fstat(descriptor).st_size == _part_bytes(places, shape):
                return
            os.ftruncate(descriptor, 0)
            # Plain writes rather than a memory map: a full disk is then an error, not a signal.
            with open(descriptor, "wb", closefd=False) as file:
                file.write(np.stack([image_at(place) for place in places]).tobytes())
    except BlockingIOError:
        return


def _join(parts: Path, path: Path, shape: tuple[int, ...]) -> bool:
    """Make one file of all parts and remove them; False if one is missing."""
    header = {"descr": "|u1", "fortran_order": False, "shape": shape}
    joined = parts / "joined"
    with open(joined, "wb") as file:
        np.lib.format.write_array_header_1_0(file, header)
        for part, places in _parts(parts, shape):
            if part.stat().st_size != _part_bytes(places, shape):
                return False
            with open(part, "rb") as pixels:
                shutil.copyfileobj(pixels, file)
    os.replace(joined, path)
    shutil.rmtree(parts, ignore_errors=True)
    return True


@contextmanager
def file_locked(path: Path, operation: int) -> Iterator[int]:
    """Hold a lock on a file, which is made if there is none; gives its descriptor."""
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        fcntl.flock(descriptor, operation)
        yield descriptor
    finally:
        os.close(descriptor)


def _map(path: Path, shape: tuple[int, ...]) -> NDArray[np.uint8] | None:
    """A prepared file, memory-mapped; None if there is none of this shape, or only a part."""
    try:
        images: NDArray[np.uint8] = np.load(path, mmap_mode="r", allow_pickle=False)
    except (OSError, ValueError, EOFError):
        return None
    return images if images.shape == shape and images.dtype == np.uint8 else None


def assemble(
    *,
    source: str,
    classes: Sequence[str],
    labels: NDArray[np.int64],
    names: Sequence[str],
    digests: Sequence[bytes],
    given: Sequence[Split],
    heights: Sequence[int],
    widths: Sequence[int],
    grey: bool,
    left_out: Sequence[str],
    split_seed: int,
    reader: ImageReader,
    group_by: str = "",
    groups: Sequence[str] | None = None,
) -> Dataset:
    """Split rows of labelled images and make the Dataset; all sequences are by row.

    `groups` are the names that `group_by` gave; see `split_rows`.

    Raises:
        DataError: fewer than two classes, or a class with too few images.
    """
    if len(classes) < 2:
        raise DataError(
            f"Expected at least two classes in {source}. Received: one, '{classes[0]}'. "
            "Add images of what it is to be told apart from."
        )
    rows = split_rows(labels, digests, given, classes, split_seed, source, groups)
    spec = DatasetSpec(
        source=source,
        fingerprint=fingerprint(rows, labels, digests, classes, group_by),
        classes=tuple(classes),
        counts={split: len(rows[split]) for split in SPLITS},
        image_height=int(np.median(heights)),
        image_width=int(np.median(widths)),
        colour=_colour(grey),
        split_seed=split_seed,
        left_out=tuple(left_out),
        group_by=group_by,
        class_counts={
            split: tuple(np.bincount(labels[rows[split]], minlength=len(classes)).tolist())
            for split in SPLITS
        },
    )
    return Dataset(
        spec=spec,
        rows=rows,
        labels=labels,
        names=names,
        reader=reader,
        one_size=len(set(zip(heights, widths, strict=True))) == 1,
    )


def _colour(grey: bool) -> Colour:
    return "grey" if grey else "rgb"
