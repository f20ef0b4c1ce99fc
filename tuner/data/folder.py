"""Folders of images: a folder per class, with or without folders for the splits above them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from PIL import Image

from tuner.data.dataset import Dataset, assemble
from tuner.data.groups import group_names
from tuner.data.preprocess import flatten_image
from tuner.data.scan import ImageFacts, digest_of, open_image, why_unreadable
from tuner.data.tree import (
    OPENED_SUFFIXES,
    SPLIT_FOLDERS,
    Tree,
    UnreadableError,
    ZipTree,
    join,
    packed_in,
    readable,
)  # fmt: skip
from tuner.errors import DataError
from tuner.spec import Split

LAYOUT = "lay them out as FOLDER/CLASS/IMAGE, a folder per class"


@dataclass(frozen=True, slots=True)
class Found:
    """An image file of a class.

    Args:
        split: that its folder names; training where none does.
        class_name: of its folder.
        path: within the tree.
        below: the path below the class's folder.
        name: the path, for people.
    """

    split: Split
    class_name: str
    path: str
    below: str
    name: str


class FileReader:
    """Decodes image files; each must still have the content that it had when it was opened."""

    def __init__(
        self, tree: Tree, paths: Sequence[str], names: Sequence[str], digests: Sequence[str]
    ) -> None:
        self._tree = tree
        self._paths = paths
        self._names = names
        self._digests = digests

    def read(self, row: int) -> Image.Image:
        """Decode the file of a row.

        Raises:
            DataError: it is gone, changed or unreadable.
        """
        try:
            content = self._tree.read(self._paths[row])
        except UnreadableError as error:
            raise self._changed(row, str(error)) from None
        if digest_of(content) != self._digests[row]:
            raise self._changed(row, "other content")
        try:
            with open_image(content) as image:
                return flatten_image(image)
        except Exception as error:  # Pillow's decoders fail in many ways
            raise self._changed(row, why_unreadable(error)) from None

    def _changed(self, row: int, received: str) -> DataError:
        return DataError(
            f"Expected {self._names[row]} as it was when the data was opened. "
            f"Received: {received}. Put it back, or start again with the data as it is."
        )


def dataset_of_files(
    tree: Tree,
    found: Sequence[Found],
    facts: Sequence[ImageFacts],
    left_out: Sequence[str],
    *,
    source: str,
    split_seed: int,
    group_by: str,
) -> Dataset:
    """Make a Dataset of the files that can be read; the others are left out and named.

    Args:
        tree: the files.
        found: what `find_images` found.
        facts: of each.
        left_out: what `find_images` left out.
        source: path of the folder or zip.
        split_seed: of the split.
        group_by: see `open_dataset`.

    Raises:
        DataError: they are not enough; the message says of what.
    """
    where = tree.where
    left_out = [
        *left_out,
        *(
            f"{image.name}: {fact.problem}"
            for image, fact in zip(found, facts, strict=True)
            if fact.problem
        ),
    ]
    good = [(image, fact) for image, fact in zip(found, facts, strict=True) if not fact.problem]
    if not good:
        raise DataError(
            f"Expected readable images in {where}. Received: {len(found)} files, none readable; "
            f"the first: {left_out[-len(found)]}. Check how they were copied or exported."
        )
    classes = sorted({image.class_name for image in found})
    if len(classes) == 1:
        raise DataError(_one_class(tree, classes[0]))
    _check_given({image.split for image in found}, {image.split for image, _ in good}, where)
    paths = [image.path for image, _ in good]
    names = [image.name for image, _ in good]
    digests = [fact.digest for _, fact in good]
    numbers = {name: number for number, name in enumerate(classes)}
    return assemble(
        source=source,
        classes=classes,
        labels=np.array([numbers[image.class_name] for image, _ in good], np.int64),
        names=names,
        digests=[fact.content for _, fact in good],
        given=[image.split for image, _ in good],
        heights=[fact.height for _, fact in good],
        widths=[fact.width for _, fact in good],
        grey=all(fact.grey for _, fact in good),
        left_out=left_out,
        split_seed=split_seed,
        reader=FileReader(tree, paths, names, digests),
        group_by=group_by,
        groups=group_names(group_by, [image.below for image, _ in good], where),
    )


def find_images(tree: Tree) -> tuple[list[Found], list[str]]:
    """Image files in a fixed order, and what lies beside them and is not used.

    Raises:
        DataError: there is no folder per class.
    """
    where, root = tree.where, tree.top
    folders = tree.subfolders(root)
    if not folders:
        images = tree.images_in(root)
        if images:
            raise DataError(
                f"Expected a folder per class in {where}. Received: {len(images)} images directly "
                f"in it; {LAYOUT}."
            )
        _refuse_packed(tree)
        raise DataError(
            f"Expected a folder per class in {where}. Received: {_nothing(tree)}; {LAYOUT}."
        )
    tops = split_folders(tree)
    left_out = [
        *(
            f"{readable(join(root, name))}: not in the folder of a class"
            for name in tree.images_in(root)
        ),
        *tree.refused,
    ]
    if tops:
        used = set(tops.values())
        left_out += [
            f"{readable(join(root, name))}/: not train, validation or test; "
            f"images in it: {len(tree.walk(join(root, name)))}"
            for name in folders
            if name not in used
        ]
    found: list[Found] = []
    for split, top in (tops or _NO_TOPS).items():
        above = join(root, top)
        class_folders = tree.subfolders(above)
        if not class_folders:
            raise DataError(
                f"Expected a folder per class in {tree.shown(above)}. Received: "
                f"{len(tree.images_in(above))} images and no folders; {LAYOUT}."
            )
        if top:
            left_out += [
                f"{readable(join(above, name))}: not in the folder of a class"
                for name in tree.images_in(above)
            ]
        for class_name in class_folders:
            folder = join(above, class_name)
            paths = tree.walk(folder)
            shown = readable(class_name)
            if not paths:
                left_out.append(f"{readable(folder)}/: no images in it")
            for path in paths:
                below = readable(path[len(folder) + 1 :])
                found.append(Found(split, shown, path, below, readable(path)))
    if not found:
        _refuse_packed(tree)
        shown = ", ".join(readable(name) for name in folders[:5])
        raise DataError(
            f"Expected images in the folders of {where}. Received: {len(folders)} folders without "
            f"images ({shown}); {LAYOUT}."
        )
    return found, left_out


_NO_TOPS: dict[Split, str] = {"training": ""}


def _refuse_packed(tree: Tree) -> None:
    """Name the packed files of data without an image, if there are some."""
    packed = packed_in(tree)
    if not packed:
        return
    names = ", ".join(readable(path) for path in packed[:5])
    if len(packed) == 1 and packed[0].lower().endswith(OPENED_SUFFIXES):
        if not isinstance(tree, ZipTree):
            names += f". Did you mean {tree.shown(packed[0])}?"
        else:
            names += ". Unpack the outer zip, and give the inner one."
    else:
        names += f". Unpack {'them' if len(packed) > 1 else 'it'}; {LAYOUT}."
    raise DataError(f"Expected a folder per class in {tree.where}. Received: no image, but {names}")


def _nothing(tree: Tree) -> str:
    if not tree.refused:
        return "a folder without folders or images"
    return f"none that can be used; {len(tree.refused)} were refused, the first {tree.refused[0]}"


def split_folders(tree: Tree) -> dict[Split, str]:
    """The folder of each split; empty if the folders are classes, one of which may be `train`.

    Raises:
        DataError: two folders for one split, or none for training.
    """
    folders = tree.subfolders(tree.top)
    named = [name for name in folders if name.lower() in SPLIT_FOLDERS]
    tops: dict[Split, str] = {}
    for name in named:
        split = SPLIT_FOLDERS[name.lower()]
        if split in tops:
            raise DataError(
                f"Expected one folder for {split} in {tree.where}. Received: {tops[split]}/ and "
                f"{name}/. Merge or rename one."
            )
        tops[split] = name
    if "training" in tops:
        top = join(tree.top, tops["training"])
        inner = set(tree.subfolders(top))
        # With a stray image beside them they are the classes if another split has one of them.
        holds_classes = bool(inner) and (
            not tree.images_in(top)
            or any(
                inner.intersection(tree.subfolders(join(tree.top, name)))
                for split, name in tops.items()
                if split != "training"
            )
        )
        return tops if holds_classes or len(named) == len(folders) else {}
    if named and len(named) == len(folders):
        raise DataError(
            f"Expected a folder train/ in {tree.where}, beside "
            f"{', '.join(f'{n}/' for n in named)}. "
            "Received: none. Add it; validation and test images alone teach nothing."
        )
    return {}


def _check_given(listed: set[Split], good: set[Split], where: str) -> None:
    for split in sorted(listed - good):
        raise DataError(
            f"Expected readable images in the {split} folder of {where}. Received: none. "
            "Mend them, or remove the folder to have a part of training taken instead."
        )


def _one_class(tree: Tree, name: str) -> str:
    text = f"Expected at least two classes in {tree.where}. Received: one, '{name}'."
    folders = [folder for folder in tree.subfolders(tree.top) if readable(folder) == name]
    if folders and len(tree.subfolders(join(tree.top, folders[0]))) > 1:
        return f"{text} Did you mean {tree.shown(join(tree.top, folders[0]))}?"
    return f"{text} Add a folder with images of what it is to be told apart from."
