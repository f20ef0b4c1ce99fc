"""The space that past runs were made with draws what it always drew."""

from __future__ import annotations

import hashlib

from tuner import catalog
from tuner.propose.choices import RandomChoices, TableChoices
from tuner.spec import Context, Limits

FIRST = ["cb61b93c2659", "cdc9161c2a40", "cd5c46065ec8", "c5640fe5cf32", "cdea8f825410"]
ALL = "63dfbc23f7850a2dae3643e3eb5c5e4ea48d3d1c653ad484799b24ebe46354e0"
"""Written down when the space began to draw how labels count (`draw_loss`)."""


def context(number: int) -> Context:
    return Context(
        limits=Limits(
            ram_bytes=[8 << 10, 64 << 10, 256 << 10, 512 << 20, None][number % 5],
            flash_bytes=1 << 20,
        ),
        kernels="cmsis-nn",
        accelerated=number % 2 == 1,
        image_height=(4, 32, 48, 96, 240, 400)[number % 6],
        image_width=(32, 48, 640)[number % 3],
        colour="grey" if number % 4 == 3 else "rgb",
        outputs=2 + number,
    )


def test_the_same_choices_give_the_same_candidates() -> None:
    space = catalog.load_space("mixed_stages")
    ids = [space.draw(RandomChoices(number), context(number)).id for number in range(60)]
    assert ids[:5] == FIRST
    for number in range(12):
        for point in space.starting_points(context(number)):
            for table in (point.sizes[0], point.sizes[-1]):
                ids.append(space.draw(TableChoices(table), context(number)).id)
    assert len(ids) == 156
    assert hashlib.sha256("".join(ids).encode()).hexdigest() == ALL
