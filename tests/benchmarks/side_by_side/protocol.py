"""What every tool of the side-by-side gets: data, limits, places for its picks, and the clock.

A tool runs in a process of its own. It writes `picks.jsonl` in its folder, a line each time it has
a new best by its own measure, and `trials.jsonl`, a line for each training that it began or
refused. Times are those of the machine's clock; the parent knows when the process was started.
"""

from __future__ import annotations

import json
import time
import zipfile
from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from tuner.spec import Context, Limits

if TYPE_CHECKING:
    from numpy.typing import NDArray

HERE = Path(__file__).resolve().parent
ZIPS = HERE.parents[3] / "shared" / "data"
TARGET = HERE / "targets" / "bench-64k.toml"
SPACE = "bench_stages"
RUN = "bench"
"""Name of a run of our own."""

ARENA_LIMIT_BYTES = 64 * 1024
FILE_LIMIT_BYTES = 128 * 1024
CLASSES = 10
SIDE = 32
TRAINING_IMAGES_PER_CLASS = 1000
CORES = 2

CONTEXT = Context(
    limits=Limits(ram_bytes=ARENA_LIMIT_BYTES, flash_bytes=FILE_LIMIT_BYTES),
    kernels="reference",
    accelerated=False,
    image_height=SIDE,
    image_width=SIDE,
    colour="rgb",
    outputs=CLASSES,
)
"""What the shared space is told."""

TRIALS = "trials.jsonl"
PICKS = "picks.jsonl"


@dataclass(frozen=True, slots=True)
class Data:
    """Where the prepared arrays of the benchmark lie."""

    folder: Path

    @property
    def whole(self) -> Path:
        """10,000 training and 10,000 test images, as `tune` reads them."""
        return self.folder / "cifar10.npz"

    def split(self, seed: int) -> Path:
        """The same training images, split as `tune` splits them with that seed; no test images."""
        return self.folder / f"split-{seed}.npz"

    def prepare(self, seed: int) -> None:
        """Make what is not there yet; this is outside every tool's clock."""
        from tuner.data import open_dataset
        from tuner.spec import Preprocessing

        self.folder.mkdir(parents=True, exist_ok=True)
        if not self.whole.exists():
            x, y, classes = _read_zip(ZIPS / "cifar10-train.zip", TRAINING_IMAGES_PER_CLASS)
            x_test, y_test, _ = _read_zip(ZIPS / "cifar10-test.zip", None)
            _save(self.whole, x=x, y=y, x_test=x_test, y_test=y_test, classes=classes)
        if not self.split(seed).exists():
            cache = self.folder / "cache"
            dataset = open_dataset(self.whole, split_seed=seed, cache=cache)
            pixels = Preprocessing(height=SIDE, width=SIDE, colour="rgb")
            x, y = dataset.arrays(pixels, "training", cache)
            x_validation, y_validation = dataset.arrays(pixels, "validation", cache)
            _save(self.split(seed), x=x, y=y, x_validation=x_validation, y_validation=y_validation)

    def test(self) -> tuple[NDArray[np.uint8], NDArray[np.int64]]:
        """The test images, for the referee alone."""
        with np.load(self.whole) as arrays:
            return arrays["x_test"], arrays["y_test"]


def _save(path: Path, **arrays: Any) -> None:
    partial = path.with_suffix(".partial.npz")
    np.savez(partial, **arrays)
    partial.replace(path)


def _read_zip(
    archive: Path, per_class: int | None
) -> tuple[NDArray[np.uint8], NDArray[np.int64], NDArray[np.str_]]:
    if not archive.exists():
        raise SystemExit(f"Expected CIFAR-10 as JPEG files in {archive}; there is no such file.")
    with zipfile.ZipFile(archive) as source:
        names = defaultdict(list)
        for name in sorted(source.namelist()):
            if name.endswith(".jpg"):
                names[name.split("/")[-2]].append(name)
        images, labels = [], []
        for label, members in enumerate(names.values()):
            for member in members[:per_class]:
                images.append(np.asarray(Image.open(BytesIO(source.read(member))).convert("RGB")))
                labels.append(label)
    return np.stack(images), np.array(labels, np.int64), np.array(list(names))


class Recorder:
    """Writes what a tool does, cheaply: a small file a pick, a line a trial.

    Args:
        folder: of the tool's run.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._best = -float("inf")
        self._count = 0
        (folder / "picks").mkdir(parents=True, exist_ok=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Recorder:
        """Itself: KerasTuner copies callbacks for each trial, and the best is of all trials."""
        return self

    def trial(self, **fields: Any) -> None:
        """Note a training that begins, or a net refused before training."""
        append(self._folder / TRIALS, {"at": time.time(), **fields})

    def pick(self, score: float, suffix: str, save: Callable[[Path], None], **fields: Any) -> None:
        """Keep a model if it is the best so far.

        Args:
            score: by the tool's own measure, higher is better.
            suffix: of the file.
            save: writes the model to a path.
            fields: what the referee needs to rebuild it.
        """
        if score <= self._best:
            return
        self._best = score
        name = f"picks/{self._count:04}{suffix}"
        self._count += 1
        save(self._folder / name)
        append(self._folder / PICKS, {"at": time.time(), "score": score, "file": name, **fields})


def append(path: Path, record: dict[str, Any]) -> None:
    """Add a line of JSON."""
    with path.open("a", encoding="utf-8") as file:
        file.write(json.dumps(record) + "\n")


def read_lines(path: Path) -> list[dict[str, Any]]:
    """Whole lines of JSON; a last one that a kill tore is left out."""
    if not path.exists():
        return []
    text = path.read_text(encoding="utf-8")
    return [json.loads(line) for line in text[: text.rfind("\n") + 1].splitlines()]
