"""Folders that look like splits, but are named or placed so that they are taken for classes."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import cast

from tuner.data.mends import Packing, inside, leaves_out, linked, listed
from tuner.data.tree import SPLIT_FOLDERS, Tree, holding, join, readable
from tuner.spec import SPLITS, Split

FOLDER_OF: dict[Split, str] = {"training": "train", "validation": "validation", "test": "test"}
_BESIDE = "(?:the|my|data|sets?|seg|split|images?|imgs?|pictures?|pics?|photos?|samples?|[0-9])"
_NAME = re.compile(
    rf"(?:{_BESIDE}[ ._-]*)*"
    "(?:(?P<training>train(?:ing)?)|(?P<validation>val(?:id(?:ation)?)?|dev)|(?P<test>tests?|testing))"
    rf"(?:[ ._-]*{_BESIDE})*",
    re.IGNORECASE,
)


def split_named(name: str) -> Split | None:
    """The split that a folder's name plainly means, as `training_set` or `imgs-test` do."""
    match = _NAME.fullmatch(name)
    return cast(Split, match.lastgroup) if match else None


def flat_splits(tree: Tree) -> dict[Split, str]:
    """Folders of training and other splits that hold their images directly, without classes."""
    flat: dict[Split, str] = {}
    for name in holding(tree, tree.top):
        split, path = split_named(name), join(tree.top, name)
        if split and split not in flat and tree.images_in(path) and not holding(tree, path):
            flat[split] = path
    flat = {split: flat[split] for split in SPLITS if split in flat}
    return flat if "training" in flat and len(flat) > 1 else {}


def layered_splits(tree: Tree) -> Packing | None:
    """Splits above classes that are not read as splits; None if there are none."""
    return _below_a_class(tree) or _under_other_names(tree) or _beside_unknown(tree)


def _below_a_class(tree: Tree) -> Packing | None:
    nested: dict[str, list[str]] = {}
    names = holding(tree, tree.top)
    for name in names:
        path = join(tree.top, name)
        splits = [inner for inner in holding(tree, path) if split_named(inner)]
        if (
            not split_named(name)
            and {"training"} < {split_named(inner) for inner in splits}
            and all(holding(tree, join(path, inner)) for inner in splits)
        ):
            nested[path] = splits
    if not nested or len(nested) == len(names) > 1:  # of all, they may be splits below the classes
        return None
    counts = {path: len(tree.walk(path)) for path in nested}
    largest = max(nested, key=lambda path: counts[path])
    classes = holding(tree, join(largest, nested[largest][0]))
    taken = (
        "is taken for a class, but holds" if len(nested) == 1 else "are taken for classes, but hold"
    )
    return Packing(
        f"{_folders(list(nested))} {taken} {_folders(nested[largest])} "
        f"above folders of classes: {listed(classes)}.{leaves_out(tree, counts[largest])}",
        ("If those are the classes: " if len(nested) > 1 else "") + inside(tree, largest),
    )


def _under_other_names(tree: Tree) -> Packing | None:
    tops: dict[Split, list[str]] = {}
    for name in holding(tree, tree.top):
        split = split_named(name)
        path = _above_classes(tree, join(tree.top, name))
        if split and holding(tree, path):
            tops.setdefault(split, []).append(path)
    if "training" not in tops or all(
        [path.removeprefix(tree.top).strip("/").lower() in SPLIT_FOLDERS for path in paths]
        == [True]
        for paths in tops.values()
    ):
        return None
    tops = {split: tops[split] for split in SPLITS if split in tops}
    classes = {split: set().union(*(holding(tree, p) for p in tops[split])) for split in tops}
    if not all(names & classes["training"] for names in classes.values()):
        return None
    found = (
        f"{_folders([path for paths in tops.values() for path in paths])} look like "
        f"{', '.join(tops)} data above the classes {listed(sorted(classes['training']))}, and are "
        "not read as such: splits are train/, validation/ and test/, directly above the classes."
    )
    if any(len(paths) > 1 for paths in tops.values()):
        return Packing(found, "Merge the folders of one split into one, and name it so.")
    folders = {FOLDER_OF[split]: paths[0] for split, paths in tops.items()}
    kept = sum(len(tree.walk(path)) for path in folders.values())
    return Packing(found + leaves_out(tree, kept), linked(tree, folders))


def _beside_unknown(tree: Tree) -> Packing | None:
    """Test or validation data whose classes another folder has too, such as `trian`."""
    names = holding(tree, tree.top)
    splits = {split: name for name in names if (split := split_named(name))}
    if not splits or "training" in splits:
        return None
    classes = set().union(*(holding(tree, join(tree.top, name)) for name in splits.values()))
    others = [
        name
        for name in names
        if name not in splits.values()
        and len(classes) > 1
        and classes <= set(holding(tree, join(tree.top, name)))
    ]
    if len(others) != 1:
        return None
    folders = {"train": others[0], **{FOLDER_OF[split]: splits[split] for split in splits}}
    folders = {name: join(tree.top, inner) for name, inner in folders.items()}
    kept = sum(len(tree.walk(path)) for path in folders.values())
    return Packing(
        f"{_folders(list(folders.values()))} are not read as splits above the classes "
        f"{listed(sorted(classes))}: none of them is called train/.{leaves_out(tree, kept)}",
        f"If {readable(others[0])}/ is for training: {linked(tree, folders)}",
    )


def _above_classes(tree: Tree, folder: str) -> str:
    """A folder, or the only one in it, and so on, that holds a folder per class."""
    while not tree.images_in(folder):
        inner = holding(tree, folder)
        if len(inner) != 1 or tree.images_in(join(folder, inner[0])):
            break
        folder = join(folder, inner[0])
    return folder


def _folders(paths: Sequence[str]) -> str:
    return ", ".join(f"{readable(path)}/" for path in paths)
