"""What a search says of its data before it starts."""

from __future__ import annotations

from pathlib import Path

import pytest

from pictures_support import fill
from untrained_support import untrained  # noqa: F401 - a fixture

pytestmark = pytest.mark.usefixtures("untrained")

SEARCH = ("--target", "raspberry-pi-4", "--max-candidates", 1, "--workers", 1, "--data")


def test_classes_and_what_hardly_is_meant(cli, home: Path):
    images = {f"{top}/{c}": 9 for top in ("train", "eval") for c in ("cup", "fork")}
    root = fill(home / "images", {**images, "test/cup": 3})
    code, _, err = cli(*SEARCH, root)
    assert code == 0
    assert err.startswith(
        f"Data: {root}, 2 classes, 12x10 rgb\n"
        "      cup, fork\n"
        "      14 training, 4 validation, 3 test images\n"
        "Check the data: eval/ has classes of train/ and is not read: 18 of 39 images are left "
        "out.\n"
        "  If it is a split, rename it to validation or test.\n"
        "Check the data: test has no image of fork, so accuracy on it is over 1 of 2 classes.\n"
        "  Add images of each class, or leave test out to have a part of training taken instead.\n"
        "Left out: 1 file or folder, the first eval/: not train, validation or test; images in it: "
        "18 ('tune data check' names all)\n"
    )


def test_classes_that_do_not_fit_in_a_line(cli, home: Path):
    err = cli(*SEARCH, fill(home / "images", {"c" * 75: 9, "d": 9}))[2]
    assert "images, 2 classes, 12x10 rgb\n      11 training" in err
