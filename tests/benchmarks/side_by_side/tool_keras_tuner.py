"""KerasTuner's Hyperband over the shared space, 30 epochs at most, factor 3.

A net that is refused gets the lowest score instead of failing through `max_model_size`: three
failures in a row would end KerasTuner's search, and failures leave its brackets unfilled.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import keras
import keras_tuner

from benchmarks.side_by_side.nets import EPOCHS, Arrays, KeepBest, Net, Noted, stop_early
from benchmarks.side_by_side.protocol import Data, Recorder
from benchmarks.side_by_side.tools import arguments
from tuner.spec.space import Option

REFUSED_SCORE = -1.0


class HyperParameterChoices:
    """Asks KerasTuner's hyperparameters."""

    def __init__(self, hp: keras_tuner.HyperParameters) -> None:
        self._hp = hp

    def ordered(self, name: str, options: tuple[Option, ...]) -> Option:
        """One of `options`, whose order is told."""
        chosen: Option = self._hp.Choice(name, list(options), ordered=True)
        return chosen

    def categorical(self, name: str, options: tuple[Option, ...]) -> Option:
        """One of `options`."""
        chosen: Option = self._hp.Choice(name, list(options), ordered=False)
        return chosen

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""
        return float(self._hp.Float(name, low, high, sampling="log" if log else "linear"))


class SharedSpace(keras_tuner.HyperModel):
    """The shared space as KerasTuner wants it: build, then fit."""

    def __init__(self, arrays: Arrays, recorder: Recorder) -> None:
        super().__init__()
        self._arrays, self._recorder = arrays, recorder
        self._images = len(arrays.pixels[0])

    def build(self, hp: keras_tuner.HyperParameters) -> keras.Model:
        """Make the model of one trial; a rung that resumes falls along its own cosine."""
        self._choices = Noted(HyperParameterChoices(hp))
        self._net = Net(self._choices)
        epochs = hp.values.get("tuner/epochs", EPOCHS) - hp.values.get("tuner/initial_epoch", 0)
        return self._net.compiled(self._images, epochs)

    def fit(self, hp: keras_tuner.HyperParameters, model: keras.Model, **settings: Any) -> Any:
        """Train it, or refuse it."""
        net, choices = self._net, self._choices.taken
        self._recorder.trial(choices=choices, refused=net.refused)
        if net.refused:
            return {"val_score": REFUSED_SCORE}
        x, y, x_validation, y_validation = self._arrays.at(net.side)
        callbacks = [KeepBest(net, choices, self._recorder), *settings.pop("callbacks")]
        return model.fit(
            x, y,
            validation_data=(x_validation, y_validation),
            batch_size=net.candidate.training.batch_size,
            callbacks=callbacks,
            **settings,
        )  # fmt: skip


def search(folder: Path, data: Data, seed: int) -> None:
    """Search until the process is ended."""
    keras.utils.set_random_seed(seed)
    tuner = keras_tuner.Hyperband(
        SharedSpace(Arrays(data.split(seed)), Recorder(folder)),
        objective=keras_tuner.Objective("val_score", "max"),
        max_epochs=EPOCHS,
        factor=3,
        hyperband_iterations=100,
        seed=seed,
        directory=folder / "keras-tuner",
        overwrite=True,
    )
    tuner.search(callbacks=[stop_early()], verbose=0)


if __name__ == "__main__":
    given = arguments()
    search(given.folder, Data(given.data), given.seed)
