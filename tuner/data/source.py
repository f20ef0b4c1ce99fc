"""Opening a dataset by what `--data` names."""

from __future__ import annotations

import os
import shlex
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from tuner.data.archive import open_archive
from tuner.data.dataset import Dataset
from tuner.data.folder import LAYOUT, Found, dataset_of_files, find_images
from tuner.data.groups import no_groups
from tuner.data.packing import split_packing, unusable_packing
from tuner.data.problems import (
    Problem,
    dark_problems,
    doubts,
    layout_problems,
    split_problems,
)  # fmt: skip
from tuner.data.sample import open_sample
from tuner.data.scan import check_images
from tuner.data.tree import (
    PACKED_SUFFIXES,
    FolderTree,
    Tree,
    ZipTree,
    inside_wrappers,
    readable,
    utf8,
)  # fmt: skip
from tuner.errors import DataError
from tuner.spec import DatasetSpec
from tuner.store.files import cache_folder

SAMPLE_PREFIX = "sample:"
EXPECTED = "Expected a folder or a zip of images, an .npz file or sample:NAME."


def open_dataset(
    source: str | Path, *, split_seed: int, cache: Path | None = None, group_by: str = ""
) -> Dataset:
    """Open labelled images and split them.

    A folder holds a folder per class, at any depth below which its images lie; or `train/`
    (`training/`) and, where given, `validation/` (`val/`) and `test/`, each with a folder per
    class. A zip holds the same, in a folder of its own or not; it is never unpacked on disk. An
    `.npz` file holds `x` and `y`, and where given `classes`, `x_validation`, `y_validation`,
    `x_test` and `y_test`. A split that is not given is taken from training: 20 % for test, then
    20 % of the rest for validation, stratified and seeded. Files that cannot be read are left
    out and listed in `spec.left_out`.

    Args:
        source: a folder, a zip, an `.npz` file, or `sample:NAME`.
        split_seed: of the split, where the source gives none.
        cache: for generated samples, and for what is known of slow folders; the home's cache
            folder unless given.
        group_by: a regular expression; images whose path below the class's folder gives the same
            text for its first group stay in one split. Empty for none.

    Raises:
        DataError: what is there cannot be used; the message says what to do.
        UnknownNameError: no such sample.
    """
    cache = cache or cache_folder()
    text = str(source)
    if text.startswith(SAMPLE_PREFIX):
        no_groups(group_by, text)
        return open_sample(text.removeprefix(SAMPLE_PREFIX), split_seed=split_seed, cache=cache)
    path = absolute(source)
    tree = tree_at(path)
    if tree is not None:
        found: list[Found] = []
        try:
            found, left_out = find_images(tree)
            facts = check_images(tree, [image.path for image in found], cache)
            dataset = dataset_of_files(
                tree,
                found,
                facts,
                left_out,
                source=str(path),
                split_seed=split_seed,
                group_by=group_by,
            )
        except DataError as error:
            one_class = len({image.class_name for image in found}) < 2
            packing = split_packing(tree) or (unusable_packing(tree) if one_class else None)
            if packing is None:
                raise
            raise DataError(f"{error} {packing.found} {packing.mend}") from None
        problems = [*layout_problems(tree, found), *dark_problems(facts)]
        return _with_doubts(dataset, problems)
    no_groups(group_by, text)
    return _with_doubts(open_archive(path, split_seed=split_seed, cache=cache), [])


def _with_doubts(dataset: Dataset, problems: Sequence[Problem]) -> Dataset:
    """The same dataset, whose spec says what of these problems and of its splits to look at."""
    doubt = doubts([*problems, *split_problems(dataset.spec)])
    dataset.spec = replace(dataset.spec, doubt=doubt)
    return dataset


def open_again(spec: DatasetSpec) -> Dataset:
    """Open what a spec describes, split as it was; its fingerprint may differ by now.

    Raises:
        DataError: what is there cannot be used any more.
    """
    return open_dataset(spec.source, split_seed=spec.split_seed, group_by=spec.group_by)


def is_gone(spec: DatasetSpec) -> bool:
    """Whether nothing lies any more where the data of a spec was."""
    return not spec.source.startswith(SAMPLE_PREFIX) and not Path(spec.source).exists()


def absolute(source: str | Path) -> Path:
    """The path that a source names."""
    return Path(os.path.abspath(os.path.expanduser(source)))


def _unpacking(path: Path) -> str:
    """What to do with a packed file, as commands where `tar` knows it."""
    if ".tar" not in path.suffixes and path.suffix not in (".tgz", ".tbz2", ".txz"):
        return "Unpack it, or pack a zip."
    file, folder = shlex.quote(str(path)), shlex.quote(path.name.split(".")[0] or "images")
    return f"Unpack it: mkdir {folder} && tar -xf {file} -C {folder} && tune data check {folder}"


def tree_at(path: Path) -> Tree | None:
    """The image files at a path; None for an `.npz` file.

    Raises:
        DataError: there is nothing, or something else.
    """
    shown = readable(str(path))
    if utf8(str(path)) != str(path):  # it could not be written into a run, and opened again
        raise DataError(
            f"Expected a path of UTF-8. Received: {shown}. Rename it, or what it lies in."
        )
    if path.is_dir():
        tree = FolderTree(path)
        tree.top = inside_wrappers(tree)
        return tree
    if not path.exists():
        raise DataError(f"{EXPECTED} Received: {shown}, which does not exist. Check the path.")
    if path.suffix.lower() == ".npz":
        return None
    if path.suffix.lower() == ".zip":
        return ZipTree(path)
    if path.name.lower().endswith(PACKED_SUFFIXES):
        raise DataError(f"{EXPECTED} Received: {shown}, a packed file. {_unpacking(path)}")
    raise DataError(f"{EXPECTED} Received: {shown}, a file of another kind; {LAYOUT}.")
