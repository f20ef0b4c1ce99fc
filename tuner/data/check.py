"""What a person should know of a data set before training on it: counts, sizes, problems."""

from __future__ import annotations

import os
import re
import shlex
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import numpy as np

from tuner.data.archive import open_archive
from tuner.data.dataset import Dataset
from tuner.data.folder import Found, dataset_of_files, find_images, split_folders
from tuner.data.groups import group_names, no_groups
from tuner.data.look import near_groups
from tuner.data.packing import Packing, doubtful_packing, unusable_packing
from tuner.data.sample import open_sample
from tuner.data.scan import ImageFacts, check_images, facts_of_pixels
from tuner.data.source import SAMPLE_PREFIX, absolute, tree_at
from tuner.data.tree import Tree, readable, utf8
from tuner.errors import DataError
from tuner.spec import SPLITS, Split
from tuner.store.files import cache_folder

ADVISED_IMAGES = 300
"""Images a class; the rule of thumb of alwaysAI's training FAQ, "about 300 images per label"."""
UNEVEN_RATIO = 10
SMALL_SIDE = 8
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


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassCount:
    """Images of a class that can be used, by split; the splits are 0 where there is none yet."""

    name: str
    images: int
    training: int = 0
    validation: int = 0
    test: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """Least, middle and greatest of a quantity."""

    min: float
    median: float
    max: float


@dataclass(frozen=True, slots=True, kw_only=True)
class DataReport:
    """What `check_data` found.

    Args:
        source: what was looked at.
        fingerprint: of the data set; None where it cannot be used.
        images: that can be used.
        unreadable: image files of classes that cannot.
        classes: in label order.
        width: pixels, upright.
        height: pixels, upright.
        aspect: width by height.
        size_bytes: of the files that can be used, together; 0 where there are no files.
        modes: images by Pillow's name of their colours (L is grey, P palette, I;16 16 bits).
        kinds: images by file format.
        animated: images with more than one frame, of which the first is used.
        turned: images that EXIF says how to turn upright.
        problems: errors first, then warnings and notes.
        left_out: all files that are left out, with the reason.
        duplicates: groups of files with the same content.
        near_duplicates: groups of images that look alike, which `near_groups` links.
    """

    source: str
    fingerprint: str | None = None
    images: int = 0
    unreadable: int = 0
    classes: tuple[ClassCount, ...] = ()
    width: Spread | None = None
    height: Spread | None = None
    aspect: Spread | None = None
    size_bytes: int = 0
    modes: Mapping[str, int]
    kinds: Mapping[str, int]
    animated: int = 0
    turned: int = 0
    problems: tuple[Problem, ...] = ()
    left_out: tuple[str, ...] = ()
    duplicates: tuple[tuple[str, ...], ...] = ()
    near_duplicates: tuple[tuple[str, ...], ...] = ()

    @property
    def usable(self) -> bool:
        """Whether a search can be started on it."""
        return not any(problem.severity == "error" for problem in self.problems)


@dataclass(frozen=True, slots=True)
class _Row:
    name: str
    class_name: str
    split: Split | None
    facts: ImageFacts


def check_data(
    source: str | Path,
    *,
    split_seed: int = 0,
    group_by: str = "",
    cache: Path | None = None,
    on_progress: Callable[[int, int], None] = lambda done, count: None,
) -> DataReport:
    """Look at every image of a data set, one after the other, and report; nothing is changed.

    Args:
        source: see `open_dataset`.
        split_seed: of the split that a search would make.
        group_by: see `open_dataset`.
        cache: see `open_dataset`.
        on_progress: called now and then with the files looked at and their count.

    Raises:
        DataError: there is no such folder or file, or it is of another kind or damaged as a
            whole. Data that can be looked at but not used gives a report with errors.
        UnknownNameError: no such sample.
    """
    cache = cache or cache_folder()
    text = str(source)
    if text.startswith(SAMPLE_PREFIX):
        no_groups(group_by, text)
        name = text.removeprefix(SAMPLE_PREFIX)
        return _of_dataset(open_sample(name, split_seed=split_seed, cache=cache))
    path = absolute(source)
    tree = tree_at(path)
    if tree is None:
        no_groups(group_by, text)
        return _of_dataset(open_archive(path, split_seed=split_seed, cache=cache))
    return _of_tree(tree, utf8(str(path)), split_seed, group_by, cache, on_progress)


def _of_dataset(dataset: Dataset) -> DataReport:
    """The report of arrays, which have been checked by opening them."""
    rows = [
        _Row(
            name,
            dataset.spec.classes[label],
            split,
            facts_of_pixels(dataset.image(split, index)),
        )
        for split in SPLITS
        for index, (name, label) in enumerate(
            zip(dataset.names(split), dataset.labels(split), strict=True)
        )
    ]
    report = _report(dataset.spec.source, dataset.spec.classes, rows, [], "")
    return replace(report, fingerprint=dataset.spec.fingerprint)


def _of_tree(
    tree: Tree,
    source: str,
    split_seed: int,
    group_by: str,
    cache: Path,
    on_progress: Callable[[int, int], None],
) -> DataReport:
    dataset: Dataset | None = None
    found: list[Found] = []
    facts: list[ImageFacts] = []
    left_out: list[str] = []
    problems: list[Problem] = []
    try:
        found, left_out = find_images(tree)
        facts = check_images(tree, [image.path for image in found], cache, on_progress)
        dataset = dataset_of_files(
            tree, found, facts, left_out, source=source, split_seed=split_seed, group_by=group_by
        )
    except DataError as error:
        one_class = len({image.class_name for image in found}) < 2
        packing = unusable_packing(tree) if one_class else None
        if packing is None:
            problems.append(Problem(severity="error", kind="data", text=str(error)))
        else:
            text = f"{tree.where} has no folder per class. {packing.found}"
            problems.append(Problem(severity="error", kind="packing", text=text, mend=packing.mend))
            found, facts = [], []
    good = [row for row, fact in enumerate(facts) if not fact.problem]
    split_of: dict[int, Split] = {}
    if dataset is not None:
        split_of = {int(place): s for s in SPLITS for place in dataset.rows(s)}
        problems += _layout_problems(tree, found)
    rows = [
        _Row(found[row].name, found[row].class_name, split_of.get(place), facts[row])
        for place, row in enumerate(good)
    ]
    unreadable = [
        f"{image.name}: {fact.problem}"
        for image, fact in zip(found, facts, strict=True)
        if fact.problem
    ]
    problems += _left_out_problems(tree, unreadable, left_out)
    if group_by and dataset is not None:
        problems.append(_grouping(found, group_by, tree))
    classes = sorted({image.class_name for image in found})
    report = _report(source, classes, rows, problems, group_by)
    return replace(
        report,
        fingerprint=dataset.spec.fingerprint if dataset else None,
        unreadable=len(unreadable),
        left_out=(*left_out, *unreadable),
    )


def _report(
    source: str,
    classes: Sequence[str],
    rows: Sequence[_Row],
    problems: Iterable[Problem],
    group_by: str,
) -> DataReport:
    counts = Counter(row.class_name for row in rows)
    by_split = Counter((row.class_name, row.split) for row in rows)
    same = _same_content(rows)
    near = _near(rows)
    found = [
        *problems,
        *_class_problems(classes, counts),
        *_size_problems(rows),
        *_same_problems(rows, same),
        *_near_problems(rows, near, group_by, source),
    ]
    order = ("error", "warning", "note")
    return DataReport(
        source=source,
        images=len(rows),
        classes=tuple(
            ClassCount(
                name=name,
                images=counts[name],
                **{split: by_split[name, split] for split in SPLITS},
            )
            for name in classes
        ),
        width=_spread([row.facts.width for row in rows]),
        height=_spread([row.facts.height for row in rows]),
        aspect=_spread([row.facts.width / row.facts.height for row in rows]),
        size_bytes=sum(row.facts.size_bytes for row in rows),
        modes=_counted(row.facts.mode for row in rows),
        kinds=_counted(row.facts.kind for row in rows),
        animated=sum(row.facts.animated for row in rows),
        turned=sum(row.facts.turned for row in rows),
        problems=tuple(sorted(found, key=lambda problem: order.index(problem.severity))),
        duplicates=_named(rows, same),
        near_duplicates=_named(rows, near),
    )


def _spread(values: Sequence[float]) -> Spread | None:
    if not values:
        return None
    return Spread(min=float(min(values)), median=float(np.median(values)), max=float(max(values)))


def _counted(values: Iterable[str]) -> dict[str, int]:
    return dict(Counter(values).most_common())


def _named(rows: Sequence[_Row], groups: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(rows[row].name for row in group) for group in groups)


def _same_content(rows: Sequence[_Row]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.facts.digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _near(rows: Sequence[_Row]) -> list[list[int]]:
    """Groups that look alike and do not only hold copies of one file."""
    groups = near_groups([row.facts.look for row in rows])
    return [group for group in groups if len({rows[row].facts.digest for row in group}) > 1]


def _layout_problems(tree: Tree, found: Sequence[Found]) -> list[Problem]:
    problems = []
    packing = doubtful_packing(tree)
    if packing is not None:
        problems.append(_packing_problem(packing))
    tops = split_folders(tree)
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


def _packing_problem(packing: Packing) -> Problem:
    return Problem(severity="warning", kind="packing", text=packing.found, mend=packing.mend)


def _left_out_problems(
    tree: Tree, unreadable: Sequence[str], left_out: Sequence[str]
) -> list[Problem]:
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


def _grouping(found: Sequence[Found], group_by: str, tree: Tree) -> Problem:
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


def _class_problems(classes: Sequence[str], counts: Mapping[str, int]) -> list[Problem]:
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


def _size_problems(rows: Sequence[_Row]) -> list[Problem]:
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


def _same_problems(rows: Sequence[_Row], groups: Sequence[Sequence[int]]) -> list[Problem]:
    problems = []
    classes = [g for g in groups if len({rows[row].class_name for row in g}) > 1]
    splits = [g for g in groups if len({rows[row].split for row in g}) > 1]
    if classes:
        problems.append(
            Problem(
                severity="warning",
                kind="same_in_two_classes",
                text=f"{_many(len(classes), 'image is', 'images are')} in two classes or more, "
                "byte by byte the same.",
                mend="Keep each in the class that it belongs to.",
                count=len(classes),
                items=_pairs(rows, classes),
            )
        )
    if splits:
        problems.append(
            Problem(
                severity="warning",
                kind="same_in_two_splits",
                text=f"{_many(len(splits), 'image is', 'images are')} in two splits or more, byte "
                "by byte the same, so accuracies are too high.",
                mend="Keep each in one split.",
                count=len(splits),
                items=_pairs(rows, splits),
            )
        )
    if groups:
        more = sum(len(group) - 1 for group in groups)
        problems.append(
            Problem(
                severity="note",
                kind="duplicates",
                text=f"{_many(len(groups), 'image is', 'images are')} there more than once, with "
                f"{_many(more, 'copy', 'copies')}. Within a class, copies stay in one split where "
                "the split is made here.",
                count=more,
                items=_pairs(rows, groups),
            )
        )
    return problems


def _near_problems(
    rows: Sequence[_Row], groups: Sequence[Sequence[int]], group_by: str, source: str
) -> list[Problem]:
    problems = []
    across = [g for g in groups if len({rows[row].split for row in g}) > 1]
    if across:
        held = sum(rows[r].split != "training" for g in across for r in g)
        mend = "Remove one of each pair, or keep in one split what belongs together: --group-by."
        if not group_by and any(re.search(FRAMES, rows[r].name) for g in across for r in g):
            mend = (
                "If they are frames of videos or series, keep each in one split by its name, such "
                f"as: tune data check {shlex.quote(source)} --group-by {shlex.quote(FRAMES)}"
            )
        problems.append(
            Problem(
                severity="warning",
                kind="near_in_two_splits",
                text=f"{_many(held, 'image', 'images')} of validation and test: much like images "
                "of another split, so accuracies may be too high.",
                mend=mend,
                count=held,
                items=_pairs(rows, across),
            )
        )
    classes = [g for g in groups if len({rows[row].class_name for row in g}) > 1]
    if classes:
        problems.append(
            Problem(
                severity="warning",
                kind="near_in_two_classes",
                text=f"{_many(len(classes), 'group', 'groups')} of images that look much alike: in "
                "two classes or more.",
                mend="Look whether their classes are right.",
                count=len(classes),
                items=_pairs(rows, classes),
            )
        )
    if groups:
        problems.append(
            Problem(
                severity="note",
                kind="near_duplicates",
                text=f"{_many(len(groups), 'group', 'groups')} of images that look much alike, "
                f"{sum(map(len, groups))} images in all.",
                count=len(groups),
                items=_pairs(rows, groups),
            )
        )
    return problems


def _pairs(rows: Sequence[_Row], groups: Sequence[Sequence[int]]) -> tuple[str, ...]:
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
