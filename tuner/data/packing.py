"""Image folders that are packed in another way than a folder per class: what, and the mend."""

from __future__ import annotations

import csv
import io
import json
import re
import shlex
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tuner.data.tree import SPLIT_FOLDERS, Tree, UnreadableError, ZipTree, join, readable

# Of files that a camera or a program names, which says nothing of what they show.
_CAMERA = {"img", "image", "dsc", "dscn", "dscf", "frame", "pic", "photo", "picture", "screenshot"}
_PREFIX = re.compile(r"([A-Za-z][A-Za-z_-]*?)[ ._-]*[0-9]")
_LABEL_COLUMNS = ("label", "class", "category", "target", "species", "class_name", "label_name")
_BOXES = "Annotations"
_TABLE_ROWS = 2000
_DEEPEST = 3


@dataclass(frozen=True, slots=True)
class Packing:
    """A layout that was recognised.

    Args:
        found: what it is, as a sentence.
        mend: what to do; a command where there is one. Commands make a new folder of links and
            leave the originals as they are.
    """

    found: str
    mend: str


def unusable_packing(tree: Tree) -> Packing | None:
    """What the layout of data that cannot be opened is; None if it is nothing known."""
    inner = _class_parent(tree, tree.top, _DEEPEST)
    if inner:
        return Packing(
            f"Several folders with images are in {readable(inner)}/, one level too deep.",
            _inside(tree, inner),
        )
    flat = _flat_folder(tree)
    if flat is None:
        return None
    names = tree.images_in(flat)
    place = f", {readable(flat)}/" if flat else ""
    return _by_table(tree, flat, names) or _by_prefix(tree, flat, names, place)


def doubtful_packing(tree: Tree) -> Packing | None:
    """A layout that can be opened, but hardly means what it then is taken for."""
    folders = [(name, tree.subfolders(join(tree.top, name))) for name in tree.subfolders(tree.top)]
    held = [(name, inner) for name, inner in folders if tree.walk(join(tree.top, name))]
    if len(held) < 2 or any(name.lower() in SPLIT_FOLDERS for name, _ in held):
        return None
    first = held[0][1]
    if not first or any(inner != first for _, inner in held):
        return None
    classes = [name for name, _ in held]
    if all(name.lower() in SPLIT_FOLDERS for name in first):
        new = _new_folder(tree)
        root = _shell(tree, tree.top)
        return Packing(
            f"{_listed(first)} lie below the classes, so training and test images are mixed and "
            "split anew.",
            _unpacked(tree)
            + f"for s in {_words(first)}; do for c in {_words(classes)}; do mkdir -p {new}/$s && "
            f'ln -s {root}/"$c"/"$s" {new}/"$s"/"$c"; done; done; tune data check {new}',
        )
    if len(first) < 2:
        return None
    return Packing(
        f"{_listed(classes)} are taken for the classes, and each holds {_listed(first)}.",
        "If those are the classes: " + _inside(tree, join(tree.top, classes[0])),
    )


def _class_parent(tree: Tree, folder: str, deepest: int) -> str:
    """The first folder below `folder` of which several folders hold images; empty if none."""
    if not deepest:
        return ""
    for name in tree.subfolders(folder):
        path = join(folder, name)
        holding = [inner for inner in tree.subfolders(path) if tree.walk(join(path, inner))]
        if len(holding) > 1:
            return path
        deeper = _class_parent(tree, path, deepest - 1)
        if deeper:
            return deeper
    return ""


def _flat_folder(tree: Tree) -> str | None:
    """The one folder that all images lie in directly, or all training images."""
    holding = {path.rpartition("/")[0] for path in tree.walk(tree.top)}
    training = [
        folder
        for folder in holding
        if SPLIT_FOLDERS.get(folder.rpartition("/")[2].lower()) == "training"
    ]
    if len(training) == 1:
        return training[0]
    return holding.pop() if len(holding) == 1 else None


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
) -> Packing:
    new = _new_folder(tree)
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
        f"{readable(table)} holds their labels.",
        f"{_unpacked(tree)}{command} {_shell(tree, table)} {_shell(tree, flat)} {new}; "
        f"tune data check {new}",
    )


def _columns(tree: Tree, table: str, names: Sequence[str]) -> tuple[str, str, str, str] | None:
    """Columns of image names and labels, the delimiter, and what the names lack at their end."""
    try:
        text = tree.read(table).decode("utf-8-sig")
    except (UnreadableError, UnicodeDecodeError):
        return None
    header = text.partition("\n")[0]
    delimiter = max(",;\t", key=header.count)
    try:
        reader = csv.DictReader(io.StringIO(text), delimiter=delimiter)
        rows = [row for row, _ in zip(reader, range(_TABLE_ROWS), strict=False)]
    except csv.Error:
        return None
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
                return image, label, delimiter, suffix
    return None


def _label_column(rows: Sequence[dict[str, str]], columns: Sequence[str]) -> str:
    kinds = {name: len({row[name] for row in rows}) for name in columns}
    good = [name for name in columns if 2 <= kinds[name] <= max(2, len(rows) // 2)]
    named = [name for name in good if name.strip().lower() in _LABEL_COLUMNS]
    return next(iter(named or sorted(good, key=lambda name: kinds[name])), "")


def _by_prefix(tree: Tree, flat: str, names: Sequence[str], place: str) -> Packing:
    found = f"{len(names)} images lie in one folder{place}, and nothing says their classes."
    if _BOXES in tree.subfolders(tree.top):
        found += f" {_BOXES}/ holds boxes for object detection (Pascal VOC), which are not read."
    prefixes = Counter(match[1] for name in names if (match := _PREFIX.match(name)))
    frequent = [prefix for prefix, count in prefixes.items() if count > 1]
    covered = sum(prefixes[prefix] for prefix in frequent)
    if (
        not 2 <= len(frequent) <= 200
        or covered < 0.95 * len(names)
        or {prefix.lower() for prefix in frequent} & _CAMERA
    ):
        return Packing(
            found,
            "Make a folder per class and sort the images into them: FOLDER/CLASS/IMAGE, for "
            "example images/cat/1.jpg and images/dog/2.jpg.",
        )
    new, root = _new_folder(tree), _shell(tree, flat)
    return Packing(
        f"{found} Their names begin with {_listed(sorted(frequent))}.",
        f"If those are the classes: {_unpacked(tree)}"
        f"for c in {_words(sorted(frequent))}; do mkdir -p {new}/$c && "
        f"find {root} -maxdepth 1 -regextype posix-extended "
        f'-regex ".*/$c[ ._-]*[0-9][^/]*" -exec ln -s -t {new}/$c {{}} +; done; '
        f"tune data check {new}",
    )


def _inside(tree: Tree, folder: str) -> str:
    """The command that opens a folder of the tree."""
    return f"{_unpacked(tree)}tune data check {_shell(tree, folder)}"


def _unpacked(tree: Tree) -> str:
    """What goes before a command that needs files on disk."""
    if not isinstance(tree, ZipTree):
        return ""
    return f"unzip -q {shlex.quote(tree.where)} -d {shlex.quote(_stem(tree))} && "


def _shell(tree: Tree, path: str) -> str:
    if isinstance(tree, ZipTree):
        return shlex.quote(join(_stem(tree), path))
    return shlex.quote(tree.shown(path))


def _new_folder(tree: Tree) -> str:
    return shlex.quote(f"{_stem(tree)}-sorted")


def _stem(tree: Tree) -> str:
    return (
        str(PurePosixPath(tree.where).with_suffix("")) if isinstance(tree, ZipTree) else tree.where
    )


def _words(names: Sequence[str]) -> str:
    return " ".join(shlex.quote(name) for name in names)


def _listed(names: Sequence[str]) -> str:
    def shown() -> Iterator[str]:
        yield from (readable(name) for name in names[:5])
        if len(names) > 5:
            yield f"{len(names) - 5} more"

    return ", ".join(shown())
