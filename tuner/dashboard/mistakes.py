"""Gather the images that the best candidates took for something else, with small pictures."""

from __future__ import annotations

import base64
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from tuner import catalog
from tuner.engine.board import Board
from tuner.engine.builds import PRECISIONS
from tuner.engine.images import open_data
from tuner.engine.predictions import SplitPredictions, read_predictions
from tuner.errors import TuneError
from tuner.spec import Split, builds_key
from tuner.store.runs import RunFolder

if TYPE_CHECKING:
    from tuner.data import Dataset

SPLITS_SCORED: tuple[Split, ...] = ("validation", "test")

LISTED_CANDIDATES = 100
"""So many of the best that were trained to their end have their mistakes listed."""

PICTURED_CANDIDATES = 10
"""So many of them bring pictures; others show those of them that are there anyway."""

MISTAKES = 24
"""So many are listed of each split and precision."""

SIDE = 80
"""Pixels of the longer side of a picture."""

PICTURES_LETTERS = 2_000_000
"""All pictures together take no more of a page, in base64."""

NOT_KEPT = "Predictions were not kept: the run was made by an earlier version."
NOT_LISTED = f"Listed for the {LISTED_CANDIDATES} best that were trained to their end."
STOPPED = "Kept only for candidates that were trained to their end."
NO_IMAGES = (
    "Without names and pictures: the data has changed since the run, or is not where it was."
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Mistakes:
    """Wrongly classified images of a board's candidates, as plain data.

    Args:
        candidates: by id, of those that are `ok`: a `note` on what is not there, and `splits`.
            By split and precision these hold how many images are `wrong`, of how many `images`,
            and the first of them as `places`, each with its predicted class and its confidence in
            percent.
        images: by split and place in it, of each image that is listed: its true class, its name
            or None, and a small JPEG file as base64, or None.
        note: what kept names and pictures from being there; or nothing.
    """

    candidates: Mapping[str, Mapping[str, Any]]
    images: Mapping[Split, Mapping[int, list[Any]]]
    note: str

    @property
    def pictures(self) -> int:
        """How many images are there to be seen."""
        return sum(
            image[2] is not None for found in self.images.values() for image in found.values()
        )


def gather_mistakes(folder: RunFolder, board: Board) -> Mistakes:
    """What the candidates of a board took validation and test images for.

    Args:
        folder: of the run.
        board: its ranked candidates; those that were trained to their end count.
    """
    run_with = catalog.load_module("runtimes", board.target.runtime).RUN_WITH
    candidates: dict[str, dict[str, Any]] = {}
    images: dict[Split, dict[int, list[Any]]] = {split: {} for split in SPLITS_SCORED}
    listed = 0
    for row in board.rows:
        if row.result.status != "ok":
            continue
        name = row.result.candidate.id
        if listed == LISTED_CANDIDATES:
            candidates[name] = {"note": NOT_LISTED, "splits": {}}
            continue
        splits: dict[str, dict[str, Any]] = {}
        for split in SPLITS_SCORED:
            found = read_predictions(folder.candidate(name), split)
            if found is not None:
                splits[split] = _listed(found, run_with)
                for place in _places(splits[split]):
                    images[split].setdefault(place, [int(found.labels[place]), None, None])
        candidates[name] = {"note": "" if splits else NOT_KEPT, "splits": splits}
        listed += bool(splits)
    note = ""
    if any(images.values()):
        try:
            dataset = open_data(board.spec.dataset)
        except TuneError:
            note = NO_IMAGES
        else:
            note = _draw(images, candidates, dataset)
    return Mistakes(candidates=candidates, images=images, note=note)


def _listed(found: SplitPredictions, run_with: tuple[str, str]) -> dict[str, Any]:
    """By precision, the most confident mistakes of the builds that count for the target."""
    listed: dict[str, Any] = {}
    for precision in PRECISIONS:
        own = builds_key(precision, *run_with)
        key = own if own in found.builds else precision
        if key not in found.builds:
            continue
        build, wrong = found.builds[key], found.mistakes(key)
        listed[precision] = {
            "images": len(found.labels),
            "wrong": len(wrong),
            "places": [
                [int(at), int(build.classes[at]), round(100 * float(build.confidences[at]))]
                for at in wrong[:MISTAKES]
            ],
        }
    return listed


def _places(listed: Mapping[str, Any]) -> Iterator[int]:
    """Of the images in what `_listed` gave, precision by precision."""
    for found in listed.values():
        yield from (place for place, *_ in found["places"])


def _draw(
    images: Mapping[Split, dict[int, list[Any]]],
    candidates: Mapping[str, Mapping[str, Any]],
    dataset: Dataset,
) -> str:
    """Fill in the names of the images, and the pictures of the best candidates' mistakes.

    Returns:
        What kept some pictures from being made, in words; or nothing.
    """
    from tuner.data.draw import thumbnail

    for split in SPLITS_SCORED:
        names = dataset.names(split)
        for place, image in images[split].items():
            image[1] = names[place]
    letters, gone = 0, set()
    pictured = [found for found in candidates.values() if found["splits"]][:PICTURED_CANDIDATES]
    for found in pictured:
        for split in SPLITS_SCORED:
            for place in _places(found["splits"].get(split, {})):
                if images[split][place][2] is not None or (split, place) in gone:
                    continue
                try:
                    content = thumbnail(dataset.image(split, place), SIDE)
                except TuneError:
                    gone.add((split, place))
                    continue
                picture = base64.b64encode(content).decode()
                letters += len(picture)
                if letters > PICTURES_LETTERS:
                    return "Some pictures are left out, to keep the page small."
                images[split][place][2] = picture
    return f"Without {len(gone)} pictures: their files are gone or have changed." if gone else ""
