"""Folders of images: a folder per class, with or without folders for the splits above them."""

from __future__ import annotations

import io
import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from tuner.data.dataset import Dataset, assemble
from tuner.data.preprocess import flatten_image
from tuner.data.scan import ImageFacts, check_images, digest_of, why_unreadable
from tuner.errors import DataError
from tuner.spec import Split

IMAGE_SUFFIXES = (
    *(".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".bmp", ".dib", ".gif", ".webp", ".tif", ".tiff"),
    *(".ppm", ".pgm", ".pbm", ".pnm", ".tga", ".jp2", ".avif", ".heic", ".heif"),
)
SPLIT_FOLDERS: dict[str, Split] = {
    "train": "training",
    "training": "training",
    "validation": "validation",
    "val": "validation",
    "valid": "validation",
    "test": "test",
    "testing": "test",
}
LAYOUT = "lay them out as FOLDER/CLASS/IMAGE, a folder per class"


@dataclass(frozen=True, slots=True)
class _Found:
    split: Split
    class_name: str
    path: str
    name: str


class FileReader:
    """Decodes image files; each must still have the content that it had when it was opened."""

    def __init__(self, paths: Sequence[str], names: Sequence[str], digests: Sequence[str]) -> None:
        self._paths = paths
        self._names = names
        self._digests = digests

    def read(self, row: int) -> Image.Image:
        """Decode the file of a row.

        Raises:
            DataError: it is gone, changed or unreadable.
        """
        try:
            content = Path(self._paths[row]).read_bytes()
            if digest_of(content) != self._digests[row]:
                raise self._changed(row, "other content")
            with Image.open(io.BytesIO(content)) as image:
                return flatten_image(image)
        except OSError as error:
            raise self._changed(row, error.strerror or why_unreadable(error)) from None
        except DataError:
            raise
        except Exception as error:  # Pillow's decoders fail in many ways
            raise self._changed(row, why_unreadable(error)) from None

    def _changed(self, row: int, received: str) -> DataError:
        return DataError(
            f"Expected {self._names[row]} as it was when the data was opened. "
            f"Received: {received}. Put it back, or start again with the data as it is."
        )


def open_folder(root: Path, *, split_seed: int, cache: Path) -> Dataset:
    """Read the layout and check every image; see `open_dataset`."""
    found, left_out = _find_images(root)
    facts = check_images([image.path for image in found], root, cache)
    good: list[tuple[_Found, ImageFacts]] = []
    for image, fact in zip(found, facts, strict=True):
        if fact.problem:
            left_out.append(f"{image.name}: {fact.problem}")
        else:
            good.append((image, fact))
    if not good:
        raise DataError(
            f"Expected readable images in {root}. Received: {len(found)} files, none readable; "
            f"the first: {left_out[0]}. Check how they were copied or exported."
        )
    classes = sorted({image.class_name for image in found})
    if len(classes) == 1:
        raise DataError(_one_class(root, classes[0]))
    _check_given({image.split for image in found}, {image.split for image, _ in good}, root)
    paths = [image.path for image, _ in good]
    names = [image.name for image, _ in good]
    digests = [fact.digest for _, fact in good]
    labels = np.array([classes.index(image.class_name) for image, _ in good], np.int64)
    return assemble(
        source=_readable(str(root)),
        classes=classes,
        labels=labels,
        names=names,
        digests=[bytes.fromhex(digest) for digest in digests],
        given=[image.split for image, _ in good],
        heights=[fact.height for _, fact in good],
        widths=[fact.width for _, fact in good],
        grey=all(fact.grey for _, fact in good),
        left_out=left_out,
        split_seed=split_seed,
        reader=FileReader(paths, names, digests),
    )


def _find_images(root: Path) -> tuple[list[_Found], list[str]]:
    """Image files in a fixed order, and what lies beside them and is not used."""
    folders = _subfolders(root)
    if not folders:
        images = _images_in(root)
        if images:
            raise DataError(
                f"Expected a folder per class in {root}. Received: {len(images)} images directly "
                f"in it; {LAYOUT}."
            )
        raise DataError(
            f"Expected a folder per class in {root}. Received: a folder without folders or "
            f"images; {LAYOUT}."
        )
    tops = _split_folders(root, folders)
    left_out = [f"{name}: not in the folder of a class" for name in _images_in(root)]
    if tops:
        used = set(tops.values())
        left_out += [
            f"{_readable(name)}/: not train, validation or test"
            for name in folders
            if name not in used
        ]
    found: list[_Found] = []
    for split, top in (tops or {"training": ""}).items():
        above = root / top
        class_folders = _subfolders(above)
        if not class_folders:
            raise DataError(
                f"Expected a folder per class in {above}. Received: "
                f"{len(_images_in(above))} images and no folders; {LAYOUT}."
            )
        if top:
            left_out += [
                f"{top}/{name}: not in the folder of a class" for name in _images_in(above)
            ]
        for class_name in class_folders:
            paths = _walk(above / class_name)
            shown = _readable(class_name)
            if not paths:
                left_out.append(f"{top + '/' if top else ''}{shown}/: no images in it")
            for path in paths:
                name = _readable(os.path.relpath(path, root))
                found.append(_Found(split, shown, path, name))
    if not found:
        raise DataError(
            f"Expected images in the folders of {root}. Received: {len(folders)} folders without "
            f"images ({', '.join(folders[:5])}); {LAYOUT}."
        )
    return found, left_out


def _split_folders(root: Path, folders: Sequence[str]) -> dict[Split, str]:
    """The folder of each split; empty if the folders are classes, one of which may be `train`."""
    named = [name for name in folders if name.lower() in SPLIT_FOLDERS]
    tops: dict[Split, str] = {}
    for name in named:
        split = SPLIT_FOLDERS[name.lower()]
        if split in tops:
            raise DataError(
                f"Expected one folder for {split} in {root}. Received: {tops[split]}/ and "
                f"{name}/. Merge or rename one."
            )
        tops[split] = name
    if "training" in tops:
        top = root / tops["training"]
        holds_classes = bool(_subfolders(top)) and not _images_in(top)
        return tops if holds_classes or len(named) == len(folders) else {}
    if named and len(named) == len(folders):
        raise DataError(
            f"Expected a folder train/ in {root}, beside {', '.join(f'{n}/' for n in named)}. "
            "Received: none. Add it; validation and test images alone teach nothing."
        )
    return {}


def _check_given(listed: set[Split], good: set[Split], root: Path) -> None:
    for split in sorted(listed - good):
        raise DataError(
            f"Expected readable images in the {split} folder of {root}. Received: none. "
            "Mend them, or remove the folder to have a part of training taken instead."
        )


def _one_class(root: Path, name: str) -> str:
    text = f"Expected at least two classes in {root}. Received: one, '{name}'."
    inner = root / name
    if inner.is_dir() and len(_subfolders(inner)) > 1:
        return f"{text} Did you mean {inner}?"
    return f"{text} Add a folder with images of what it is to be told apart from."


def _subfolders(folder: Path) -> list[str]:
    return [entry.name for entry in _entries(folder) if entry.is_dir()]


def _images_in(folder: Path) -> list[str]:
    return [_readable(entry.name) for entry in _entries(folder) if _is_image(entry.name)]


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    """What lies in a folder, sorted, without hidden files and macOS' archive remains."""
    try:
        with os.scandir(folder) as entries:
            kept = [e for e in entries if not e.name.startswith(".") and e.name != "__MACOSX"]
    except OSError as error:
        raise DataError(
            f"Expected a folder that can be read at {folder}. Received: {error.strerror}. "
            "Check its permissions."
        ) from None
    return sorted(kept, key=lambda entry: entry.name)


def _is_image(name: str) -> bool:
    return name.lower().endswith(IMAGE_SUFFIXES)


def _walk(top: Path) -> list[str]:
    """Image files at any depth, sorted; links are followed, no folder twice."""
    paths: list[str] = []
    seen: set[str] = set()
    waiting = [top]
    while waiting:
        folder = waiting.pop()
        real = os.path.realpath(folder)
        if real in seen:
            continue
        seen.add(real)
        for entry in _entries(folder):
            if entry.is_dir():
                waiting.append(folder / entry.name)
            elif _is_image(entry.name):
                paths.append(entry.path)
    return sorted(paths)


def _readable(name: str) -> str:
    """A file name as text that can be written as UTF-8, whatever its bytes are."""
    return os.fsencode(name).decode("utf-8", "replace")
