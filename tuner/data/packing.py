"""Image folders that are packed in another way than a folder per class: what, and the mend."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import PurePosixPath

from tuner.data.mends import (
    Packing,
    inside,
    leaves_out,
    listed,
    new_folder,
    shell,
    unpacked,
    words,
)  # fmt: skip
from tuner.data.misnamed_splits import FOLDER_OF, flat_splits, layered_splits, split_named
from tuner.data.tree import SPLIT_FOLDERS, Tree, UnreadableError, holding, join, readable

# Of files that a camera or a program names, which says nothing of what they show.
_CAMERA = {"img", "image", "dsc", "dscn", "dscf", "frame", "pic", "photo", "picture", "screenshot"}
_PREFIX = re.compile(r"([A-Za-z][A-Za-z_-]*?)[ ._-]*[0-9]")
_LABEL_COLUMNS = ("label", "class", "category", "target", "species", "class_name", "label_name")
_BOXES = "Annotations"
_TABLE_ROWS = 2000
_DEEPEST = 3


def unusable_packing(tree: Tree) -> Packing | None:
    """What the layout of data that cannot be opened is; None if it is nothing known."""
    inner = _class_parent(tree, tree.top, _DEEPEST)
    if inner:
        levels = inner.removeprefix(tree.top).strip("/").count("/") + 1
        deep = "one level" if levels == 1 else f"{levels} levels"
        return Packing(
            f"Several folders with images are in {readable(inner)}/, {deep} too deep."
            + leaves_out(tree, len(tree.walk(inner))),
            inside(tree, inner),
        )
    return _flat_packing(tree)


def split_packing(tree: Tree) -> Packing | None:
    """What the layout is where folders look like splits but are not read as such; else None."""
    return layered_splits(tree) or (_flat_packing(tree) if flat_splits(tree) else None)


def _flat_packing(tree: Tree) -> Packing | None:
    flat = _flat_folder(tree)
    if flat is None:
        return None
    return _by_table(tree, flat, tree.images_in(flat)) or _by_prefix(
        tree, {FOLDER_OF[split]: path for split, path in flat_splits(tree).items()} or {"": flat}
    )


def doubtful_packing(tree: Tree) -> Packing | None:
    """A layout that can be opened, but hardly means what it then is taken for."""
    splits = split_packing(tree)
    if splits:
        return splits
    names = holding(tree, tree.top)
    held = [(name, tree.subfolders(join(tree.top, name))) for name in names]
    if len(held) < 2 or any(name.lower() in SPLIT_FOLDERS for name, _ in held):
        return None
    partly = _splits_below_some(tree, held)
    if partly:
        return partly
    first = held[0][1]
    if not first or any(inner != first for _, inner in held):
        return None
    classes = [name for name, _ in held]
    if all(map(split_named, first)):
        new = new_folder(tree)
        root = shell(tree, tree.top)
        kept = sum(len(tree.walk(join(tree.top, c, s))) for c in classes for s in first)
        return Packing(
            f"{listed(first)} lie below the classes, so training and test images are mixed and "
            "split anew." + leaves_out(tree, kept),
            unpacked(tree)
            + f'for s in {words(first)}; do for c in {words(classes)}; do mkdir -p {new}/"$s" && '
            f'ln -sn {root}/"$c"/"$s" {new}/"$s"/"$c"; done; done; tune data check {new}',
        )
    if len(first) < 2:
        return None
    inner = join(tree.top, classes[0])
    return Packing(
        f"{listed(classes)} are taken for the classes, and each holds {listed(first)}."
        + leaves_out(tree, len(tree.walk(inner))),
        "If those are the classes: " + inside(tree, inner),
    )


def _splits_below_some(tree: Tree, held: Sequence[tuple[str, Sequence[str]]]) -> Packing | None:
    """Splits below a class that others lack, so that no command can tell what they should hold."""
    splits = {name: tuple(filter(split_named, inner)) for name, inner in held}
    split = [name for name in splits if {"training"} < set(map(split_named, splits[name]))]
    if not split or len(set(splits.values())) == 1:
        return None
    return Packing(
        f"{listed(splits[split[0]])} lie below {listed(split)} and not below each class, so "
        "training and test images are mixed and split anew.",
        "To keep a split, give one to every class, above the classes: train/CLASS and test/CLASS.",
    )


def _class_parent(tree: Tree, folder: str, deepest: int) -> str:
    """The first folder below `folder` of which several folders hold images; empty if none."""
    if not deepest:
        return ""
    for name in tree.subfolders(folder):
        path = join(folder, name)
        if len(holding(tree, path)) > 1:
            return path
        deeper = _class_parent(tree, path, deepest - 1)
        if deeper:
            return deeper
    return ""


def _flat_folder(tree: Tree) -> str | None:
    """The one folder that all images lie in directly, or all training images."""
    folders = {path.rpartition("/")[0] for path in tree.walk(tree.top)}
    training = [path for path in folders if split_named(path.rpartition("/")[2]) == "training"]
    if len(training) == 1:
        return training[0]
    return folders.pop() if len(folders) == 1 else None


def _by_table(tree: Tree, flat: str, names: Sequence[str]) -> Packing | None:
    for folder in dict.fromkeys((tree.top, flat, flat.rpartition("/")[0])):
        for table in tree.tables_in(folder):
            columns = _columns(tree, join(folder, table), names)
            if columns:
                return _table_packing(tree, flat, join(folder, table), names, *columns)
    return None


def _table_packing(
    tree: Tree,
    flat: str,
    table: str,
    names: Sequence[str],
    image: str,
    label: str,
    delimiter: str,
    suffix: str,
    labelled: int,
) -> Packing:
    new = new_folder(tree)
    program = (
        "import csv, os, sys; table, images, new = map(os.path.abspath, sys.argv[1:]); "
        "[(os.makedirs(folder, exist_ok=True), os.symlink(image, os.path.join(folder, name))) "
        'for row in csv.DictReader(open(table, encoding="utf-8-sig"), delimiter=D) '
        'for folder in [os.path.join(new, row[L].replace("/", "_"))] '
        "for name in [os.path.basename(row[I]) + S] for image in [os.path.join(images, name)] "
        "if os.path.exists(image) and not os.path.lexists(os.path.join(folder, name))]"
    )
    values = {"L": label, "D": delimiter, "I": image, "S": suffix}
    settings = "; ".join(f"{name} = {json.dumps(value)}" for name, value in values.items())
    command = shlex.join(["python3", "-c", f"{settings}; {program}"])
    return Packing(
        f"{len(names)} images lie in one folder, and the column '{readable(label)}' of "
        f"{readable(table)} holds their labels.{leaves_out(tree, labelled)}",
        f"{unpacked(tree)}{command} {shell(tree, table)} {shell(tree, flat)} {new}; "
        f"tune data check {new}",
    )


def _columns(tree: Tree, table: str, names: Sequence[str]) -> tuple[str, str, str, str, int] | None:
    """Columns of image names and labels, the delimiter, what names lack, images that are named."""
    try:
        text = tree.read(table).decode("utf-8-sig")
    except (UnreadableError, UnicodeDecodeError):
        return None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        all_rows = list(reader)
    except csv.Error:
        return None
    rows = all_rows[:_TABLE_ROWS]
    columns = [name for name in (reader.fieldnames or ()) if name]
    known = set(names)
    endings = [
        ending for ending, _ in Counter(PurePosixPath(n).suffix for n in names).most_common()
    ]
    for image in columns:
        for suffix in ("", *endings):
            hits = sum((row[image] or "").rpartition("/")[2] + suffix in known for row in rows)
            if not rows or hits < len(rows) / 2:
                continue
            label = _label_column(rows, [name for name in columns if name != image])
            if label:
                named = {(row[image] or "").rpartition("/")[2] + suffix for row in all_rows}
                return image, label, delimiter, suffix, len(named & known)
    return None


def _label_column(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    kinds = {name: len({row[name] for row in rows}) for name in columns}
    good = [name for name in columns if 2 <= kinds[name] <= max(2, len(rows) // 2)]
    named = [name for name in good if name.strip().lower() in _LABEL_COLUMNS]
    return next(iter(named or sorted(good, key=lambda name: kinds[name])), "")


def _by_prefix(tree: Tree, flat: Mapping[str, str]) -> Packing:
    """Of folders by the name of their split, or ``""``; that of training is among them."""
    names = {split: tree.images_in(folder) for split, folder in flat.items()}
    count = sum(map(len, names.values()))
    place = ", ".join(f"{readable(folder)}/" for folder in flat.values() if folder)
    where = "one folder" if len(flat) == 1 else f"{len(flat)} folders"
    found = (
        f"{count} images lie in {where}{place and ', ' + place}, and nothing says their classes."
    )
    if _BOXES in tree.subfolders(tree.top):
        found += f" {_BOXES}/ holds boxes for object detection (Pascal VOC), which are not read."
    begun = {
        split: Counter(match[1] for name in inner if (match := _PREFIX.match(name)))
        for split, inner in names.items()
    }
    prefixes = sum(begun.values(), Counter())
    frequent = sorted(prefix for prefix, count in prefixes.items() if count > 1)
    covered = {split: sum(begun[split][prefix] for prefix in frequent) for split in names}
    splits = [split for split in names if covered[split] >= 0.95 * len(names[split])]
    if (
        not 2 <= len(frequent) <= 200
        or not {"", "train"} & set(splits)
        or {prefix.lower() for prefix in frequent} & _CAMERA
    ):
        return Packing(
            found,
            "Make a folder per class and sort the images into them: FOLDER/CLASS/IMAGE, for "
            "example images/cat/1.jpg and images/dog/2.jpg. docs/guides/own-data.md sorts them by "
            "their names or by a table.",
        )
    loops = "".join(
        f"for c in {words(frequent)}; do mkdir -p {folder}/$c && "
        f"find {shell(tree, flat[split])} -maxdepth 1 -regextype posix-extended "
        f'-regex ".*/$c[ ._-]*[0-9][^/]*" -exec ln -s -t {folder}/$c {{}} +; done; '
        for split in splits
        for folder in [join(new_folder(tree), split)]
    )
    return Packing(
        f"{found} Their names begin with {listed(frequent)}."
        + leaves_out(tree, sum(covered[split] for split in splits)),
        f"If those are the classes: {unpacked(tree)}{loops}tune data check {new_folder(tree)}",
    )
