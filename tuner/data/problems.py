"""What is wrong with a data set, or good to know of it, in words."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

from tuner.data.folder import Found, split_folders
from tuner.data.groups import group_names
from tuner.data.mends import listed
from tuner.data.packing import doubtful_packing
from tuner.data.scan import ImageFacts
from tuner.data.tree import Tree, holding, join, packed_in, readable
from tuner.spec import DatasetSpec, Split

ADVISED_IMAGES = 300
"""Images a class; the rule of thumb of alwaysAI's training FAQ, "about 300 images per label"."""
UNEVEN_RATIO = 10
SMALL_SIDE = 8
DARK_BELOW = 64
"""Of 255, the largest value in all images of 16 bits: 14 bits and fewer."""
ENDINGS_SHOWN = 5
FRAMES = r"^(.+)[_-][0-9]+\."

Severity = Literal["error", "warning", "note"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Problem:
    """One finding.

    Args:
        severity: `error` if the data cannot be used so, `warning` if the result suffers, `note`
            if it is only good to know.
        kind: a fixed word for programs.
        text: what was found, as sentences.
        mend: what to do; empty if nothing.
        count: how many are concerned; 0 where that says nothing.
        items: all of them, or of each group two.
    """

    severity: Severity
    kind: str
    text: str
    mend: str = ""
    count: int = 0
    items: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Row:
    """An image that can be used."""

    name: str
    class_name: str
    split: Split | None
    facts: ImageFacts


def doubts(problems: Sequence[Problem]) -> str:
    """What a search tells of warnings at its start: a line each, and its mend in the next."""
    return "\n".join(
        f"{problem.text}\n  {problem.mend}" for problem in problems if problem.severity == "warning"
    )


def layout_problems(tree: Tree, found: Sequence[Found]) -> list[Problem]:
    """Of how folders are arranged and classes named."""
    problems = []
    if tree.top:
        problems.append(
            Problem(
                severity="note",
                kind="passed_through",
                text=f"{readable(tree.top)}/ is around all images and is passed through.",
            )
        )
    packing = doubtful_packing(tree)
    if packing is not None:
        problems.append(
            Problem(severity="warning", kind="packing", text=packing.found, mend=packing.mend)
        )
    tops = split_folders(tree)
    if packing is None:
        problems += _unused_splits(tree, tops) if tops else _deeper_classes(tree)
    missing = [split for split in ("validation", "test") if tops and split not in tops]
    if missing:
        names = " and ".join(missing)
        problems.append(
            Problem(
                severity="note",
                kind="split_missing",
                text=f"There is a folder for training and none for {names}, so images are taken "
                f"from training for {names}: 20 % of what is there for each.",
            )
        )
    alike: dict[str, set[str]] = {}
    for name in sorted({image.class_name for image in found}):
        plain = unicodedata.normalize("NFKC", name).casefold()
        alike.setdefault("".join(filter(str.isalnum, plain)), set()).add(name)
    for names_alike in alike.values():
        if len(names_alike) > 1:
            shown = " and ".join(f"'{name}'" for name in sorted(names_alike))
            problems.append(
                Problem(
                    severity="warning",
                    kind="class_names",
                    text=f"{shown} are different classes, and their names hardly differ.",
                    mend="If they are one class, give their folders one name.",
                )
            )
    return problems


def _unused_splits(tree: Tree, tops: Mapping[Split, str]) -> list[Problem]:
    """Of folders beside the splits with the same classes, such as `eval`."""
    classes = set(holding(tree, join(tree.top, tops["training"])))
    unused = {
        name: len(tree.walk(join(tree.top, name)))
        for name in holding(tree, tree.top)
        if name not in tops.values() and classes & set(holding(tree, join(tree.top, name)))
    }
    return [
        Problem(
            severity="warning",
            kind="unused_split",
            text=f"{readable(name)}/ has classes of {readable(tops['training'])}/ and is not read: "
            f"{count} of {len(tree.walk(tree.top))} images are left out.",
            mend="If it is a split, rename it to validation or test.",
            count=count,
        )
        for name, count in unused.items()
    ]


def _deeper_classes(tree: Tree) -> list[Problem]:
    """Of a class that holds several folders of images and none itself, unlike another class."""
    classes = holding(tree, tree.top)
    inner = {
        name: holding(tree, join(tree.top, name))
        for name in classes
        if not tree.images_in(join(tree.top, name))
    }
    return [
        Problem(
            severity="note",
            kind="deeper_classes",
            text=f"{readable(name)}/ is taken for one class, with the images of its folders: "
            f"{listed(inner[name])}.",
            mend=f"If those are classes, put their folders beside {readable(name)}/.",
            items=tuple(f"{readable(join(name, folder))}/" for folder in inner[name]),
        )
        for name in inner
        if len(inner[name]) > 1 and len(inner) < len(classes)
    ]


def split_problems(spec: DatasetSpec) -> list[Problem]:
    """Of classes that a given split has no image of."""
    missing = {
        split: [name for name, count in zip(spec.classes, counts, strict=True) if not count]
        for split, counts in spec.class_counts.items()
    }
    return [
        Problem(
            severity="warning",
            kind="class_not_in_split",
            text=f"{split} has no image of {listed(names)}, so accuracy on it is over "
            f"{len(spec.classes) - len(names)} of {len(spec.classes)} classes.",
            mend=f"Add images of each class, or leave {split} out to have a part of training taken "
            "instead.",
            count=len(names),
            items=tuple(names),
        )
        for split, names in missing.items()
        if names
    ]


def left_out_problems(
    tree: Tree, unreadable: Sequence[str], left_out: Sequence[str]
) -> list[Problem]:
    """Of files that are not among the images."""
    problems = []
    if unreadable:
        problems.append(
            Problem(
                severity="warning",
                kind="unreadable",
                text=f"{_many(len(unreadable), 'image', 'images')} cannot be read, left out.",
                mend="Copy or export them again.",
                count=len(unreadable),
                items=tuple(unreadable),
            )
        )
    if left_out:
        problems.append(
            Problem(
                severity="note",
                kind="left_out",
                text=f"{_many(len(left_out), 'file or folder', 'files or folders')} left out.",
                count=len(left_out),
                items=tuple(left_out),
            )
        )
    skipped = sorted(map(readable, tree.skipped))
    if skipped:
        problems.append(
            Problem(
                severity="note",
                kind="hidden",
                text=f"{_many(len(skipped), 'hidden image or folder is', 'hidden ones are')} "
                "passed over: a leading dot, or __MACOSX.",
                count=len(skipped),
                items=tuple(skipped),
            )
        )
    packed = packed_in(tree)
    if packed and tree.holds_images(tree.top):
        problems.append(
            Problem(
                severity="warning",
                kind="packed_files",
                text=f"{_many(len(packed), 'packed file is', 'packed files are')} beside the "
                "images and not read.",
                mend="If the folders lack images in it, unpack them into folders of classes.",
                count=len(packed),
                items=tuple(map(readable, packed)),
            )
        )
    if tree.others:
        others = sorted(map(readable, tree.others))
        endings = Counter(os.path.splitext(path)[1].lower() or "none" for path in others)
        shown = ", ".join(f"{name} {n}" for name, n in endings.most_common(ENDINGS_SHOWN))
        problems.append(
            Problem(
                severity="note",
                kind="other_files",
                text=f"{_many(len(tree.others), 'file is no image', 'files are no images')} by the "
                f"ending ({shown}).",
                count=len(tree.others),
                items=tuple(others),
            )
        )
    return problems


def grouping(found: Sequence[Found], group_by: str, tree: Tree) -> Problem:
    """What the pattern of groups gave."""
    names = group_names(group_by, [image.below for image in found], tree.where) or []
    groups = Counter(name for name in names if name)
    alone = len(names) - sum(groups.values())
    largest, count = groups.most_common(1)[0]
    text = (
        f"--group-by gives {_many(len(groups), 'group', 'groups')}; the largest, '{largest}', "
        f"has {_many(count, 'image', 'images')}."
    )
    if alone:
        text += f" {_many(alone, 'image is', 'images are')} in no group, each on its own."
    return Problem(severity="note", kind="groups", text=text, count=len(groups))


def class_problems(classes: Sequence[str], counts: Mapping[str, int]) -> list[Problem]:
    """Of classes with few images, and of uneven ones."""
    problems = []
    few = [name for name in classes if counts[name] < ADVISED_IMAGES]
    if few:
        problems.append(
            Problem(
                severity="warning",
                kind="few_images",
                text=f"Few images in {len(few)} of {_many(len(classes), 'class', 'classes')}; "
                f"about {ADVISED_IMAGES} a class are a sound start.",
                mend="Add images, or expect accuracies with a wide error.",
                count=len(few),
                items=tuple(f"{name}: {counts[name]}" for name in few),
            )
        )
    used = [name for name in classes if counts[name]]
    if len(used) > 1:
        most = max(used, key=lambda name: counts[name])
        least = min(used, key=lambda name: counts[name])
        if counts[most] > UNEVEN_RATIO * counts[least]:
            problems.append(
                Problem(
                    severity="warning",
                    kind="uneven_classes",
                    text=f"Class '{most}' has {counts[most]} images, class '{least}' has "
                    f"{counts[least]}: more than {UNEVEN_RATIO} times as many.",
                    mend="Add images of the small classes; a net may otherwise do well by "
                    f"answering '{most}' always.",
                )
            )
    return problems


def size_problems(rows: Sequence[Row]) -> list[Problem]:
    """Of images that hardly have pixels."""
    small = [row for row in rows if min(row.facts.width, row.facts.height) < SMALL_SIDE]
    if not small:
        return []
    return [
        Problem(
            severity="note",
            kind="small_images",
            text=f"{_many(len(small), 'image is', 'images are')} less than {SMALL_SIDE} pixels "
            "wide or high.",
            count=len(small),
            items=tuple(f"{row.name}: {row.facts.width}x{row.facts.height}" for row in small),
        )
    ]


def dark_problems(facts: Sequence[ImageFacts]) -> list[Problem]:
    """Of 16-bit images that use their low bits only."""
    deep = [fact.brightest for fact in facts if fact.brightest >= 0]
    if not deep or max(deep) >= DARK_BELOW:
        return []
    bits = (256 * max(deep) + 255).bit_length()
    return [
        Problem(
            severity="warning",
            kind="dark",
            text=f"{_many(len(deep), 'image of 16 bits has', 'images of 16 bits have')} values of "
            f"{bits} bits, of which the high byte is read: almost black.",
            mend=f"Save values x {2 ** (16 - bits)}, or as 8 bits.",
            count=len(deep),
        )
    ]


def same_problems(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> list[Problem]:
    """Of images that are there more than once; `groups` are their rows."""
    classes, splits = _across(rows, groups)
    more = sum(len(group) - 1 for group in groups)
    found = (
        Problem(
            severity="warning",
            kind="same_in_two_classes",
            text=f"{_many(len(classes), 'image is', 'images are')} in two classes or more, "
            "byte by byte the same.",
            mend="Keep each in the class that it belongs to.",
            count=len(classes),
            items=_pairs(rows, classes),
        ),
        Problem(
            severity="warning",
            kind="same_in_two_splits",
            text=f"{_many(len(splits), 'image is', 'images are')} in two splits or more, byte "
            "by byte the same, so accuracies are too high.",
            mend="Keep each in one split.",
            count=len(splits),
            items=_pairs(rows, splits),
        ),
        Problem(
            severity="note",
            kind="duplicates",
            text=f"{_many(len(groups), 'image is', 'images are')} there more than once, with "
            f"{_many(more, 'copy', 'copies')}. Within a class, copies stay in one split where "
            "the split is made here.",
            count=more,
            items=_pairs(rows, groups),
        ),
    )
    return [problem for problem in found if problem.items]


def near_problems(
    rows: Sequence[Row], groups: Sequence[Sequence[int]], group_by: str, source: str
) -> list[Problem]:
    """Of images that look much alike; `groups` are their rows."""
    classes, splits = _across(rows, groups)
    held = sum(rows[r].split != "training" for g in splits for r in g)
    mend = "Remove one of each pair, or keep in one split what belongs together: --group-by."
    if not group_by and any(re.search(FRAMES, rows[r].name) for g in splits for r in g):
        mend = (
            "If they are frames of videos or series, keep each in one split by its name, such "
            f"as: tune data check {shlex.quote(source)} --group-by {shlex.quote(FRAMES)}"
        )
    found = (
        Problem(
            severity="warning",
            kind="near_in_two_splits",
            text=f"{_many(held, 'image', 'images')} of validation and test: much like images "
            "of another split, so accuracies may be too high.",
            mend=mend,
            count=held,
            items=_pairs(rows, splits),
        ),
        Problem(
            severity="warning",
            kind="near_in_two_classes",
            text=f"{_many(len(classes), 'group', 'groups')} of images that look much alike: in "
            "two classes or more.",
            mend="Look whether their classes are right.",
            count=len(classes),
            items=_pairs(rows, classes),
        ),
        Problem(
            severity="note",
            kind="near_duplicates",
            text=f"{_many(len(groups), 'group', 'groups')} of images that look much alike, "
            f"{sum(map(len, groups))} images in all.",
            count=len(groups),
            items=_pairs(rows, groups),
        ),
    )
    return [problem for problem in found if problem.items]


def _across(
    rows: Sequence[Row], groups: Sequence[Sequence[int]]
) -> tuple[list[Sequence[int]], list[Sequence[int]]]:
    """The groups in two classes or more, and those in two splits or more."""
    classes = [group for group in groups if len({rows[row].class_name for row in group}) > 1]
    splits = [group for group in groups if len({rows[row].split for row in group}) > 1]
    return classes, splits


def _pairs(rows: Sequence[Row], groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
    """Of each group, two images that differ in class or split where there are such."""
    texts = []
    for group in groups:
        first = rows[group[0]]
        other = next(
            (
                rows[row]
                for row in group[1:]
                if (rows[row].class_name, rows[row].split) != (first.class_name, first.split)
            ),
            rows[group[1]],
        )
        texts.append(" = ".join(f"{row.name} ({row.split or 'unsplit'})" for row in (first, other)))
    return tuple(texts)


def _many(count: int, one: str, more: str) -> str:
    return f"{count} {one if count == 1 else more}"
