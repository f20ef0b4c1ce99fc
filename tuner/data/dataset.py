"""A Dataset: labelled images with a fixed split, and the cache of resized ones."""

from __future__ import annotations

import os
import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tuner.data.preprocess import resize_image
from tuner.data.split import fingerprint, split_rows
from tuner.errors import DataError
from tuner.spec import SPLITS, Colour, DatasetSpec, Preprocessing, Split

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

ROWS_AT_ONCE = 256


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
    """

    def __init__(
        self,
        *,
        spec: DatasetSpec,
        rows: Mapping[Split, NDArray[np.int64]],
        labels: NDArray[np.int64],
        names: Sequence[str],
        reader: ImageReader,
    ) -> None:
        self.spec = spec
        self._rows = rows
        self._labels = labels
        self._names = names
        self._reader = reader

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

        Made once and kept in `cache / fingerprint / preprocessing.key`; several processes may
        ask at the same time.

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
            try:
                self._write(path, shape, preprocessing, rows)
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

    def _write(
        self,
        path: Path,
        shape: tuple[int, ...],
        preprocessing: Preprocessing,
        rows: NDArray[np.int64],
    ) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
        header = {"descr": "|u1", "fortran_order": False, "shape": shape}
        try:
            # Plain writes rather than a memory map: a full disk is then an error, not a signal.
            with os.fdopen(handle, "wb") as file, warnings.catch_warnings():
                warnings.simplefilter("ignore")  # Pillow's remarks on odd but readable files
                np.lib.format.write_array_header_1_0(file, header)
                for start in range(0, len(rows), ROWS_AT_ONCE):
                    block = [
                        resize_image(self._reader.read(int(row)), preprocessing)
                        for row in rows[start : start + ROWS_AT_ONCE]
                    ]
                    file.write(np.stack(block).tobytes())
            umask = os.umask(0)
            os.umask(umask)
            os.chmod(temporary, 0o666 & ~umask)  # mkstemp makes files private
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise


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
) -> Dataset:
    """Split rows of labelled images and make the Dataset; all sequences are by row.

    Raises:
        DataError: fewer than two classes, or a class with too few images.
    """
    if len(classes) < 2:
        raise DataError(
            f"Expected at least two classes in {source}. Received: one, '{classes[0]}'. "
            "Add images of what it is to be told apart from."
        )
    rows = split_rows(labels, digests, given, classes, split_seed, source)
    spec = DatasetSpec(
        source=source,
        fingerprint=fingerprint(rows, labels, digests, classes),
        classes=tuple(classes),
        counts={split: len(rows[split]) for split in SPLITS},
        image_height=int(np.median(heights)),
        image_width=int(np.median(widths)),
        colour=_colour(grey),
        split_seed=split_seed,
        left_out=tuple(left_out),
    )
    return Dataset(spec=spec, rows=rows, labels=labels, names=names, reader=reader)


def _colour(grey: bool) -> Colour:
    return "grey" if grey else "rgb"
