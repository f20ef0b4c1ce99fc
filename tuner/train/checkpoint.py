"""Where a training is, in a file, so that it goes on after its process was killed."""

from __future__ import annotations

import io
import json
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np

from tuner.errors import TuneError
from tuner.store.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Variables(Protocol):
    """What a training changes."""

    def everything(self) -> list[NDArray[np.float32]]:
        """Copies of all, the optimizer's included."""

    def set_everything(self, arrays: list[NDArray[np.float32]]) -> None:
        """Set what `everything` gave."""

    def snapshot(self) -> NDArray[np.float32]:
        """A copy of all but the optimizer's."""


@dataclass(frozen=True, slots=True)
class Contender:
    """The weights after one of the best epochs.

    Args:
        epoch: from 1.
        score: what it is among the best by; more is better.
        weights: see `FlatVariables.snapshot`.
    """

    epoch: int
    score: float
    weights: NDArray[np.float32]


class State(Protocol):
    """What is kept beside the variables."""

    planned: int
    contenders: list[Contender]
    curve: list[float]
    losses: list[float]
    validation_losses: list[float]
    best_accuracy: float
    gained_epoch: int
    seconds: float
    frozen_epochs: int | None


PLAIN = (
    "planned",
    "curve",
    "losses",
    "validation_losses",
    "best_accuracy",
    "gained_epoch",
    "seconds",
    "frozen_epochs",
)


def write_checkpoint(path: Path, variables: Variables, state: State) -> None:
    """Write the variables, the optimizer's included, and how far the training has come."""
    content = io.BytesIO()
    plain = {name: getattr(state, name) for name in PLAIN}
    plain["contenders"] = [(item.epoch, item.score) for item in state.contenders]
    named: dict[str, Any] = {
        f"best_{place}": item.weights for place, item in enumerate(state.contenders)
    }
    np.savez(content, *variables.everything(), state=np.array(json.dumps(plain)), **named)
    write_atomic(path, content.getvalue())


def read_checkpoint(path: Path, variables: Variables, state: State) -> None:
    """Set the variables and the state that `write_checkpoint` wrote.

    Raises:
        TuneError: the file is damaged, or of a net with other weights.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            plain = json.loads(str(arrays["state"]))
            contenders = [
                Contender(epoch, score, arrays[f"best_{place}"])
                for place, (epoch, score) in enumerate(plain["contenders"])
            ]
            kept = [arrays[f"arr_{index}"] for index in range(len(variables.everything()))]
        size = len(variables.snapshot())
        for item in contenders:
            if item.weights.shape != (size,):
                raise ValueError(f"{item.weights.size} weights for {size}")
        variables.set_everything(kept)
        for name in PLAIN:
            setattr(state, name, plain[name])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TuneError(
            f"Expected the checkpoint of this training in {path}. It cannot be read: {error}. "
            "Delete it to begin anew."
        ) from None
    state.contenders = contenders
