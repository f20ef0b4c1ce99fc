"""What a person should know of a data set before training on it: counts, sizes, problems."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from tuner.data.archive import open_archive
from tuner.data.dataset import Dataset
from tuner.data.folder import Found, dataset_of_files, find_images
from tuner.data.groups import no_groups
from tuner.data.look import near_groups
from tuner.data.packing import split_packing, unusable_packing
from tuner.data.problems import (
    Problem,
    Row,
    class_problems,
    dark_problems,
    grouping,
    layout_problems,
    left_out_problems,
    near_problems,
    same_problems,
    size_problems,
    split_problems,
)  # fmt: skip
from tuner.data.sample import open_sample
from tuner.data.scan import ImageFacts, check_images, facts_of_pixels
from tuner.data.source import SAMPLE_PREFIX, absolute, tree_at
from tuner.data.tree import Tree
from tuner.errors import DataError
from tuner.spec import SPLITS, Split
from tuner.store.files import cache_folder


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
    return _of_tree(tree, str(path), split_seed, group_by, cache, on_progress)


def _of_dataset(dataset: Dataset) -> DataReport:
    """The report of arrays, which have been checked by opening them."""
    rows = [
        Row(
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
    problems = split_problems(dataset.spec)
    report = _report(dataset.spec.source, dataset.spec.classes, rows, problems, "")
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
        splits = split_packing(tree)
        packing = splits or (unusable_packing(tree) if one_class else None)
        if packing is None:
            problems.append(Problem(severity="error", kind="data", text=str(error)))
        else:
            what = f"{tree.where}:" if splits else f"{tree.where} has no folder per class."
            text = f"{what} {packing.found}"
            problems.append(Problem(severity="error", kind="packing", text=text, mend=packing.mend))
            found, facts = [], []
    good = [row for row, fact in enumerate(facts) if not fact.problem]
    split_of: dict[int, Split] = {}
    if dataset is not None:
        split_of = {int(place): s for s in SPLITS for place in dataset.rows(s)}
        problems += [*layout_problems(tree, found), *split_problems(dataset.spec)]
    rows = [
        Row(found[row].name, found[row].class_name, split_of.get(place), facts[row])
        for place, row in enumerate(good)
    ]
    unreadable = [
        f"{image.name}: {fact.problem}"
        for image, fact in zip(found, facts, strict=True)
        if fact.problem
    ]
    problems += left_out_problems(tree, unreadable, left_out)
    if group_by and dataset is not None:
        problems.append(grouping(found, group_by, tree))
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
    rows: Sequence[Row],
    problems: Iterable[Problem],
    group_by: str,
) -> DataReport:
    counts = Counter(row.class_name for row in rows)
    by_split = Counter((row.class_name, row.split) for row in rows)
    same = _same_content(rows)
    near = _near(rows)
    found = [
        *problems,
        *class_problems(classes, counts),
        *size_problems(rows),
        *dark_problems([row.facts for row in rows]),
        *same_problems(rows, same),
        *near_problems(rows, near, group_by, source),
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


def _named(rows: Sequence[Row], groups: Iterable[Sequence[int]]) -> tuple[tuple[str, ...], ...]:
    return tuple(tuple(rows[row].name for row in group) for group in groups)


def _same_content(rows: Sequence[Row]) -> list[list[int]]:
    groups: dict[str, list[int]] = {}
    for place, row in enumerate(rows):
        groups.setdefault(row.facts.digest, []).append(place)
    return [group for group in groups.values() if len(group) > 1]


def _near(rows: Sequence[Row]) -> list[list[int]]:
    """Groups that look alike and do not only hold copies of one file."""
    groups = near_groups([row.facts.look for row in rows])
    return [group for group in groups if len({rows[row].facts.digest for row in group}) > 1]
