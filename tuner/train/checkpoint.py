"""Where a training is, in a file, so that it goes on after its process was killed."""

from __future__ import annotations

import io
import json
import zipfile
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np

from tuner.errors import TuneError
from tuner.store.files import write_atomic

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from tuner.train.flat import FlatVariables


class State(Protocol):
    """What is kept beside the variables."""

    planned: int
    best_weights: NDArray[np.float32]
    curve: list[float]
    best_accuracy: float
    best_epoch: int
    gained_epoch: int
    seconds: float
    frozen_epochs: int | None


PLAIN = (
    "planned",
    "curve",
    "best_accuracy",
    "best_epoch",
    "gained_epoch",
    "seconds",
    "frozen_epochs",
)


def write_checkpoint(path: Path, variables: FlatVariables, state: State) -> None:
    """Write the variables, the optimizer's included, and how far the training has come."""
    content = io.BytesIO()
    plain = json.dumps({name: getattr(state, name) for name in PLAIN})
    np.savez(content, *variables.everything(), best=state.best_weights, state=np.array(plain))
    write_atomic(path, content.getvalue())


def read_checkpoint(path: Path, variables: FlatVariables, state: State) -> None:
    """Set the variables and the state that `write_checkpoint` wrote.

    Raises:
        TuneError: the file is damaged, or of a net with other weights.
    """
    try:
        with path.open("rb") as file, np.load(file) as arrays:
            plain = json.loads(str(arrays["state"]))
            best = arrays["best"]
            kept = [arrays[f"arr_{index}"] for index in range(len(variables.everything()))]
        if best.shape != state.best_weights.shape:
            raise ValueError(f"{best.size} weights for {state.best_weights.size}")
        variables.set_everything(kept)
        for name in PLAIN:
            setattr(state, name, plain[name])
    except (OSError, EOFError, ValueError, KeyError, zipfile.BadZipFile) as error:
        raise TuneError(
            f"Expected the checkpoint of this training in {path}. It cannot be read: {error}. "
            "Delete it to begin anew."
        ) from None
    state.best_weights = best
