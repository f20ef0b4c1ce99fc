"""A Candidate: preprocessing, Architecture and training settings."""

from __future__ import annotations

import functools
import hashlib
import json
from dataclasses import dataclass
from typing import Literal

from tuner.errors import SpecError
from tuner.spec.architecture import Architecture
from tuner.spec.codec import to_plain

Colour = Literal["rgb", "grey"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Preprocessing:
    """How an image becomes the input of the net.

    Args:
        height: rows of the resized image, pixels.
        width: columns of the resized image, pixels.
        colour: `rgb` (3 channels) or `grey` (1 channel, ITU-R 601-2 luma).
        crop: `stretch` resizes the whole image; `center` first cuts the largest centred
            part that has the wanted proportions.
        scaling: `unit` maps a pixel p to p / 255; `signed` to (p - 128) / 128. Both make the
            int8 input exactly p - 128.
    """

    height: int
    width: int
    colour: Colour
    crop: Literal["stretch", "center"] = "stretch"
    scaling: Literal["unit", "signed"] = "signed"

    @property
    def channels(self) -> int:
        """Channels of the input: 3 for rgb, 1 for grey."""
        return 3 if self.colour == "rgb" else 1

    @property
    def key(self) -> str:
        """Names the pixels that result, whatever their scaling; used by the image cache."""
        return f"{self.height}x{self.width}-{self.colour}-{self.crop}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Augmentation:
    """Random changes to training images; shares are of the image's side, 0 is off."""

    flip_horizontal: bool = False
    shift_fraction: float = 0.0
    zoom_fraction: float = 0.0
    rotate_degrees: float = 0.0
    brightness_fraction: float = 0.0

    def __post_init__(self) -> None:
        for name in ("shift_fraction", "zoom_fraction", "brightness_fraction"):
            value = getattr(self, name)
            if not 0.0 <= value <= 0.5:
                raise SpecError(f"expected {name} from 0 to 0.5. Received: {name}={value}.")


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainingSettings:
    """How the net is trained, with the loss of its task.

    Args:
        epochs: passes over the training data of a full training; a search may train for fewer.
        batch_size: images a step.
        learning_rate: its peak.
        schedule: `linear` and `cosine` warm up over the first twentieth and fall to 0 at the end;
            `constant` stays.
        weight_decay: decoupled weight decay a step, relative to the learning rate.
        augmentation: random changes to the training images.
        optimizer: AdamW, or SGD with Nesterov's momentum of .9.
        label_smoothing: share of each label that is spread evenly over all classes.
        class_weights: `balanced` counts an image n / (classes x images of its class) times, so
            that all classes weigh the same.
        weights: fingerprint of the weights that all layers but the head begin with; empty for
            random ones.
        frozen_share: of the epochs, at their beginning, in which the head alone learns; 1 never
            changes the other layers. Where a search trains in several steps, of the first.
        unfrozen_rate: the learning rate of the other epochs, relative to `learning_rate`.
    """

    epochs: int = 60
    batch_size: int = 64
    learning_rate: float = 0.002
    schedule: Literal["linear", "cosine", "constant"] = "cosine"
    weight_decay: float = 0.0
    augmentation: Augmentation = Augmentation()
    optimizer: Literal["adamw", "sgd"] = "adamw"
    label_smoothing: float = 0.0
    class_weights: Literal["none", "balanced"] = "none"
    weights: str = ""
    frozen_share: float = 0.0
    unfrozen_rate: float = 1.0

    def __post_init__(self) -> None:
        if self.epochs < 1 or self.batch_size < 1:
            raise SpecError(
                "expected epochs and batch_size of 1 or more. "
                f"Received: epochs={self.epochs}, batch_size={self.batch_size}."
            )
        if not self.learning_rate > 0:
            raise SpecError(
                f"expected learning_rate above 0. Received: learning_rate={self.learning_rate}."
            )
        if not 0.0 <= self.label_smoothing < 1.0:
            raise SpecError(
                "expected label_smoothing from 0 to below 1. "
                f"Received: label_smoothing={self.label_smoothing}."
            )
        if not 0.0 <= self.frozen_share <= 1.0 or (self.frozen_share and not self.weights):
            raise SpecError(
                "expected frozen_share from 0 to 1, and 0 without weights. "
                f"Received: frozen_share={self.frozen_share}, weights='{self.weights}'."
            )
        if not 0.0 < self.unfrozen_rate <= 1.0:
            raise SpecError(
                "expected unfrozen_rate above 0, at most 1. "
                f"Received: unfrozen_rate={self.unfrozen_rate}."
            )


_LATER_SETTINGS = (
    "optimizer",
    "label_smoothing",
    "class_weights",
    "weights",
    "frozen_share",
    "unfrozen_rate",
)
"""Training settings that came after the first runs. At their defaults they are left out of the
id, so that candidates of those runs keep their names."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One point of a search: all that training needs to know."""

    preprocessing: Preprocessing
    architecture: Architecture
    training: TrainingSettings

    def __post_init__(self) -> None:
        image, pixels = self.architecture.input, self.preprocessing
        wanted = (pixels.height, pixels.width, pixels.channels)
        if (image.height, image.width, image.channels) != wanted:
            raise SpecError(
                "the input node must have the height, width and channels of the preprocessing, "
                f"{wanted}. Received: {(image.height, image.width, image.channels)}."
            )

    @property
    def id(self) -> str:
        """Hash of all fields; begins with a letter so that it is never taken for a rank."""
        return _identify(self)


@functools.lru_cache(maxsize=16384)
def _identify(candidate: Candidate) -> str:
    plain = to_plain(candidate)
    usual = TrainingSettings()
    for name in _LATER_SETTINGS:
        if getattr(candidate.training, name) == getattr(usual, name):
            del plain["training"][name]
    text = json.dumps(plain, sort_keys=True, separators=(",", ":"))
    return "c" + hashlib.sha256(text.encode()).hexdigest()[:11]


def seed_of(run_seed: int, candidate_id: str, repeat: int = 0) -> int:
    """The seed of one training: from the run's seed, the candidate and the repeat."""
    digest = hashlib.sha256(f"{run_seed}/{candidate_id}/{repeat}".encode()).digest()
    return int.from_bytes(digest[:4], "big") & 0x7FFFFFFF
