"""Write two model versions on the same images as one HTML file that opens without a network."""

from __future__ import annotations

import base64
import html
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tuner.dashboard.report_page import page_asset
from tuner.errors import TuneError
from tuner.models.compare import SHOWN, Taken
from tuner.spec import Split

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

SIDE = 96
"""Pixels of the longer side of a picture."""

PICTURES_LETTERS = 4_000_000
"""All pictures together take no more of the page, in base64."""

LISTED = 200
"""So many images of a group are shown at most."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Group:
    """Images on which the two versions did alike, as int8.

    Args:
        title: what they have in common.
        differs: the versions took these images for different classes.
        places: of the images, those first on which one is surest.
    """

    title: str
    differs: bool
    places: tuple[int, ...]


def groups_of(taken: Taken) -> list[Group]:
    """All images, those first on which the versions differ; groups without images are left out."""
    import numpy as np

    first, second = taken.predictions["int8"]
    one, other = first.classes == taken.labels, second.classes == taken.labels
    same, labelled = first.classes == second.classes, taken.labels >= 0
    wrong = labelled & ~one & ~other
    surest = np.maximum(first.confidences, second.confidences)
    names = taken.comparison.models

    def places(mask: NDArray[np.bool_]) -> tuple[int, ...]:
        found = np.flatnonzero(mask)
        return tuple(int(at) for at in found[np.argsort(-surest[found], kind="stable")])

    groups = [
        Group(title=f"Only {names[0]} is right", differs=True, places=places(one & ~other)),
        Group(title=f"Only {names[1]} is right", differs=True, places=places(other & ~one)),
        Group(title="Wrong in two ways", differs=True, places=places(wrong & ~same)),
        Group(title="No label, said two ways", differs=True, places=places(~labelled & ~same)),
        Group(title="Both wrong alike", differs=False, places=places(wrong & same)),
        Group(title="No label, said alike", differs=False, places=places(~labelled & same)),
        Group(title="Both right", differs=False, places=places(one & other)),
    ]
    return [group for group in groups if group.places]


def compare_page(taken: Taken) -> str:
    """The page: a table of both precisions, then the images, each with both predictions.

    Returns:
        A whole HTML document. Groups whose pictures would make it too large show fewer images.
    """
    names = taken.comparison.models
    # A path tells where the data lay, which is nobody's business but the owner's.
    source = Path(taken.comparison.source).name
    splits = ", ".join(taken.comparison.splits)
    parts = {
        "title": html.escape(f"{names[0]} and {names[1]}"),
        "subtitle": html.escape(
            f"{len(taken.labels):,} images of {source}{f' ({splits})' if splits else ''}. "
            + " ".join(["Sorted by what the int8 models say.", *taken.comparison.notes()])
        ),
        "style": page_asset("style.css"),
        "script": page_asset("compare.js"),
        "table": _table(taken),
        "groups": "\n".join(_groups(taken)),
    }
    # One pass, so that nothing in a part is taken for another's place.
    return re.sub(r"@@(\w+)@@", lambda found: parts[found[1]], page_asset("compare.html"))


def _table(taken: Taken) -> str:
    names = taken.comparison.models
    head = ["", "alike"]
    if taken.comparison.pairs:
        head += [*names, f"only {names[0]}", f"only {names[1]}", "neither", "difference"]
    rows = []
    for precision in SHOWN:
        row = [precision, f"{taken.comparison.alike[precision] / len(taken.labels):.1%}"]
        pairs = taken.comparison.pairs.get(precision)
        if pairs:
            sure = "" if abs(pairs.gain) > 2 * pairs.gain_error else ", within chance"
            row += [
                f"{(pairs.both + pairs.first) / pairs.images:.1%}",
                f"{(pairs.both + pairs.second) / pairs.images:.1%}",
                f"{pairs.first:,}",
                f"{pairs.second:,}",
                f"{pairs.neither:,}",
                f"{100 * pairs.gain:+.2f} ±{100 * pairs.gain_error:.2f} points{sure}",
            ]
        rows.append(row)

    def line(cells: list[str], tag: str) -> str:
        return "".join(f"<{tag}>{html.escape(cell)}</{tag}>" for cell in cells)

    body = "\n".join(f"<tr>{line(row, 'td')}</tr>" for row in rows)
    return (
        f'<div class="scroll"><table>\n<thead><tr>{line(head, "th")}</tr></thead>\n'
        f"<tbody>\n{body}\n</tbody></table></div>"
    )


def _groups(taken: Taken) -> Iterator[str]:
    pictures = _Pictures(taken)
    for group in groups_of(taken):
        cards = []
        for place in group.places[:LISTED]:
            card = _card(taken, place, pictures)
            if card is None:
                break
            cards.append(card)
        count = f"{len(group.places):,} of {len(taken.labels):,} images"
        shown = f"; {len(cards)} are shown" if len(cards) < len(group.places) else ""
        yield (
            f'<details class="card"{" open" if group.differs else ""}>'
            f"<summary><b>{html.escape(group.title)}</b> "
            f'<span class="quiet">{count}{shown}</span></summary>\n'
            f'<div class="mistakes pairs">\n{"".join(cards)}</div></details>'
        )


def _card(taken: Taken, place: int, pictures: _Pictures) -> str | None:
    """One image with what both versions say; None if the page has no room for its picture."""
    found = pictures.of(place)
    if found is None:
        return None
    name, picture = found
    label = int(taken.labels[place])
    shown = (
        f'<img src="data:image/jpeg;base64,{picture}" alt="{html.escape(name)}">'
        if picture
        else '<div class="no-picture">no picture</div>'
    )
    lines = []
    for precision in SHOWN:
        for model, prediction in zip(
            taken.comparison.models, taken.predictions[precision], strict=True
        ):
            predicted = int(prediction.classes[place])
            sure = f"{100 * float(prediction.confidences[place]):.0f} %"
            tag = "b" if 0 <= label != predicted else "span"
            mark = "" if label < 0 else "✓ " if predicted == label else "✕ "
            quiet = ' class="quiet"' if precision == "float32" else ""
            lines.append(
                f"<tr{quiet}><td>{html.escape(model)} {precision}</td>"
                f"<td><{tag}>{mark}{html.escape(taken.classes[predicted])}</{tag}></td>"
                f'<td class="number">{sure}</td></tr>'
            )
    return (
        f'<figure title="{html.escape(name)}">{shown}<figcaption><span>'
        f"{f'true: {html.escape(taken.classes[label])}' if label >= 0 else 'no label'}</span>"
        f'<span class="quiet">{html.escape(Path(name).name)}</span></figcaption>'
        f"<table>{''.join(lines)}</table></figure>\n"
    )


class _Pictures:
    """Small pictures of the images, as long as the page has room for them."""

    def __init__(self, taken: Taken) -> None:
        self._dataset = taken.dataset
        self._letters = 0
        self._places: list[tuple[Split, int]] = []
        self._names: list[str] = []
        for split in taken.splits:
            names = taken.dataset.names(split)
            self._places += [(split, index) for index in range(len(names))]
            self._names += names

    def of(self, place: int) -> tuple[str, str] | None:
        """Name and picture, a JPEG file as base64, of an image; None if there is no room.

        An image whose file is gone or has changed since has a name alone.
        """
        from tuner.data.draw import thumbnail

        name = self._names[place]
        try:
            content = thumbnail(self._dataset.image(*self._places[place]), SIDE)
        except TuneError:
            return name, ""
        picture = base64.b64encode(content).decode()
        if self._letters + len(picture) > PICTURES_LETTERS:
            return None
        self._letters += len(picture)
        return name, picture
