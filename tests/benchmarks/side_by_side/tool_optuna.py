"""A plain Optuna loop over `fit`, as a user writes it: TPE, 30 epochs, early stopping."""

from __future__ import annotations

from pathlib import Path

import keras
import optuna

from benchmarks.side_by_side.nets import EPOCHS, Arrays, KeepBest, Net, Noted, stop_early
from benchmarks.side_by_side.protocol import Data, Recorder
from benchmarks.side_by_side.tools import arguments
from tuner.spec.space import Option


class TrialChoices:
    """Asks a trial."""

    def __init__(self, trial: optuna.Trial) -> None:
        self._trial = trial

    def ordered(self, name: str, options: tuple[Option, ...]) -> Option:
        """One of `options`, by its index, so that their order counts."""
        return options[self._trial.suggest_int(name, 0, len(options) - 1)]

    def categorical(self, name: str, options: tuple[Option, ...]) -> Option:
        """One of `options`."""
        chosen: Option = self._trial.suggest_categorical(name, list(options))
        return chosen

    def floating(self, name: str, low: float, high: float, *, log: bool = False) -> float:
        """A number."""
        return self._trial.suggest_float(name, low, high, log=log)


def search(folder: Path, data: Data, seed: int) -> None:
    """Search until the process is ended."""
    recorder = Recorder(folder)
    arrays = Arrays(data.split(seed))
    keras.utils.set_random_seed(seed)

    def objective(trial: optuna.Trial) -> float:
        keras.backend.clear_session()
        choices = Noted(TrialChoices(trial))
        net = Net(choices)
        recorder.trial(choices=choices.taken, refused=net.refused)
        if net.refused:
            raise optuna.TrialPruned
        x, y, x_validation, y_validation = arrays.at(net.side)
        model = net.compiled(len(x), EPOCHS)
        history = model.fit(
            x, y,
            validation_data=(x_validation, y_validation),
            batch_size=net.candidate.training.batch_size,
            epochs=EPOCHS,
            verbose=0,
            callbacks=[KeepBest(net, choices.taken, recorder), stop_early()],
        )  # fmt: skip
        return max(history.history["val_score"])

    study = optuna.create_study(direction="maximize", sampler=optuna.samplers.TPESampler(seed=seed))
    study.optimize(objective)


if __name__ == "__main__":
    given = arguments()
    search(given.folder, Data(given.data), given.seed)
