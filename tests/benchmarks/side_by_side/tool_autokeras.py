"""AutoKeras with its own space, size limit set.

Its image classifier is started as documented. With a limit of this size it ends before its first
trial, because the net that it measures its space with, a ResNet-50, is above the limit. So what
follows is what a user would do next: an `AutoModel` of its plain convolutional block, by its
default greedy tuner. Three refused trials in a row end that one; it is then started again with
another seed.
"""

from __future__ import annotations

import itertools
import time
from pathlib import Path
from typing import Any

import autokeras
import keras
import keras_tuner
import numpy as np
import tree
from autokeras.utils import data_utils

from benchmarks.side_by_side.nets import EPOCHS, Arrays
from benchmarks.side_by_side.protocol import FILE_LIMIT_BYTES, Data, Recorder
from benchmarks.side_by_side.tools import arguments


def _shapes(dataset: Any) -> Any:
    return tree.map_structure(lambda array: np.array(array.shape, dtype=object), dataset)


# AutoKeras 3.0 gives shapes as NumPy integers, which Keras 3.15 refuses as units of a dense
# layer; as an array of objects they stay Python's. Without this no trial of it begins.
data_utils.dataset_shape = _shapes


class Keep(keras.callbacks.Callback):
    """Keeps the best model of all trials, and notes each training.

    Args:
        folder: of the tool's run.
        recorder: of the same.
    """

    def __init__(self, folder: Path, recorder: Recorder) -> None:
        super().__init__()
        self._folder, self._recorder = folder, recorder
        (folder / "trials").mkdir(exist_ok=True)

    def __deepcopy__(self, memo: dict[int, Any]) -> Keep:
        """One like it for each trial, as KerasTuner wants them."""
        return Keep(self._folder, self._recorder)

    def on_train_begin(self, logs: dict[str, float] | None = None) -> None:
        """Note it."""
        name = f"trials/{time.time_ns()}.keras"
        self.model.save(self._folder / name)
        self._recorder.trial(file=name, refused=False)

    def on_epoch_end(self, epoch: int, logs: dict[str, float] | None = None) -> None:
        """Score the epoch."""
        if logs is not None:
            self._recorder.pick(logs["val_accuracy"], ".keras", self.model.save, epoch=epoch)


def search(folder: Path, data: Data, seed: int) -> None:
    """Search until the process is ended."""
    recorder = Recorder(folder)
    # As float32: a net that takes uint8 casts inside, which TFLM's int8 files cannot hold.
    pixels, y, validation_pixels, y_validation = Arrays(data.split(seed)).pixels
    x, x_validation = pixels.astype(np.float32), validation_pixels.astype(np.float32)
    for attempt in itertools.count():
        keras.utils.set_random_seed(seed + attempt)
        settings = {
            "project_name": f"attempt{attempt}",
            "directory": folder / "autokeras",
            "objective": "val_accuracy",
            "max_trials": 1000,
            "max_model_size": FILE_LIMIT_BYTES,
            "seed": seed + attempt,
            "overwrite": True,
        }
        if attempt == 0:
            tuner = autokeras.ImageClassifier(**settings)
        else:
            image = autokeras.ImageInput()
            block = autokeras.ImageBlock(block_type="vanilla")(image)
            tuner = autokeras.AutoModel(image, autokeras.ClassificationHead()(block), **settings)
        try:
            tuner.fit(
                x, y,
                validation_data=(x_validation, y_validation),
                epochs=EPOCHS,
                callbacks=[Keep(folder, recorder)],
                verbose=0,
            )  # fmt: skip
        except (RuntimeError, keras_tuner.errors.FailedTrialError) as error:
            recorder.trial(refused=True, reason=str(error).strip().splitlines()[0][:200])


if __name__ == "__main__":
    given = arguments()
    search(given.folder, Data(given.data), given.seed)
