"""Images that are only looked at: laid out in any way, labelled or not, one or many."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from pathlib import Path

import numpy as np

from tuner.data.dataset import Dataset
from tuner.data.folder import FileReader
from tuner.data.scan import check_images
from tuner.data.source import SAMPLE_PREFIX, absolute, tree_at
from tuner.data.split import fingerprint
from tuner.data.tree import SPLIT_FOLDERS, FolderTree, Tree, is_image, readable, utf8
from tuner.errors import DataError
from tuner.spec import SPLITS, DatasetSpec, Split
from tuner.store.files import cache_folder

UNKNOWN = -1
"""Label of an image that is not known to be of a class."""

WHOLE: Split = "test"
"""The split that holds all images."""


def open_unsplit(source: str | Path, classes: Sequence[str]) -> Dataset | None:
    """Open all images of a folder or a zip, at any depth, or one file, as one split, `WHOLE`.

    An image is of the first class whose name a folder above it has; the folders of splits do not
    count. All others have the label `UNKNOWN`, and the first folder above each adds a class to
    `spec.classes`, after those that are known.

    Args:
        source: a folder, a zip or an image file.
        classes: that are known, in label order.

    Returns:
        The images; None where they are not files. Files that cannot be read are in `spec.left_out`.

    Raises:
        DataError: there is no image that can be read.
    """
    if str(source).startswith(SAMPLE_PREFIX):
        return None
    path = absolute(source)
    if path.is_file() and is_image(path.name):
        tree: Tree = FolderTree(path.parent)
        paths = [path.name]
    else:
        found = tree_at(path)
        if found is None:
            return None
        tree, paths = found, found.walk(found.top)
    facts = check_images(tree, paths, cache_folder())
    good = [(item, fact) for item, fact in zip(paths, facts, strict=True) if not fact.problem]
    left_out = [
        *tree.refused,
        *(f"{readable(p)}: {fact.problem}" for p, fact in zip(paths, facts, strict=True)
          if fact.problem),
    ]  # fmt: skip
    if not good:
        first = f"; the first: {left_out[0]}" if left_out else ""
        raise DataError(
            f"Expected images that can be read in {readable(str(path))}. Received: {len(left_out)} "
            f"files, none readable{first}. Check the path."
        )
    numbers = {name: number for number, name in enumerate(classes)}
    # A folder around all others may be the one class that there are images of.
    top = "" if any(readable(part) in numbers for part in tree.top.split("/")) else tree.top
    above = [_folders(item.removeprefix(top), numbers) for item, _ in good]
    labels = np.array(
        [next((numbers[part] for part in parts if part in numbers), UNKNOWN) for parts in above],
        np.int64,
    )
    unknown = {
        parts[0] for parts, label in zip(above, labels, strict=True) if parts and label == UNKNOWN
    }
    names = [readable(item) for item, _ in good]
    digests = [fact.digest for _, fact in good]
    contents = [fact.content for _, fact in good]
    rows = {split: np.arange(len(good) if split == WHOLE else 0) for split in SPLITS}
    spec = DatasetSpec(
        source=utf8(str(path)),
        fingerprint=fingerprint(rows, labels, contents, classes),
        classes=(*classes, *sorted(unknown)),
        counts={split: len(rows[split]) for split in SPLITS},
        image_height=int(np.median([fact.height for _, fact in good])),
        image_width=int(np.median([fact.width for _, fact in good])),
        colour="grey" if all(fact.grey for _, fact in good) else "rgb",
        split_seed=0,
        left_out=tuple(left_out),
    )
    return Dataset(
        spec=spec,
        rows=rows,
        labels=labels,
        names=names,
        reader=FileReader(tree, [item for item, _ in good], names, digests),
        one_size=len({(fact.height, fact.width) for _, fact in good}) == 1,
    )


def _folders(path: str, known: Collection[str]) -> list[str]:
    """The folders above an image, without one that names a split and no class."""
    folders = [readable(part) for part in path.split("/")[:-1] if part]
    if folders and folders[0] not in known and folders[0].lower() in SPLIT_FOLDERS:
        return folders[1:]
    return folders
