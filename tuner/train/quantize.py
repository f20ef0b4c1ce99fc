"""Float32 TFLite -> int8 TFLite by the recipe that keeps the net's answers best.

Each recipe gives the float32 file ranges, and perhaps other weights that compute the same;
TFLite's own quantizer makes the int8 file of it, as it does after its own calibration. So every
int8 file has the operators that the converter's own would have, and runs where that one runs.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

from tuner.errors import TuneError
from tuner.runtimes.interpreter import run_tensors, run_tflite
from tuner.train.activations import (
    Activations,
    absolute,
    averaged,
    gather,
    least_error,
    percentile,
)
from tuner.train.float_net import FloatNet
from tuner.train.quiet import quiet
from tuner.train.recipes import LEFT_OUT, RECIPES, Ranges, Recipe

if TYPE_CHECKING:
    from numpy.typing import NDArray

NEGLIGIBLE = math.log(10_000.0)
"""A logit that lies so much below an image's largest stands for less than a ten thousandth of its
probability; how far below is not told apart."""

COMPARED_IMAGES = 32
"""Signal and noise of each operator are measured on so many images."""

NOISELESS_DB = 100.0
"""Signal-to-noise of an operator whose output is exact."""

_RULES: Mapping[Ranges, Callable[[Activations], tuple[float, float]]] = {
    "min-max": absolute,
    "averaged": averaged,
    "percentile": percentile(LEFT_OUT),
    "least-error": least_error,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Agreement:
    """How near an int8 file is to float32, on the same images.

    Args:
        images: compared.
        changed: of them taken for another class.
        divergence: Kullback and Leibler's, of int8's class probabilities from those of float32,
            nats, mean over the images. Of six measures on 400 training images it told best how
            many test images would change their class (mean rank correlation .53 over 14 nets).
    """

    images: int
    changed: int
    divergence: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantized:
    """An int8 file and how it was made.

    Args:
        content: of the file.
        recipe: that made it.
        agreement: with float32, by which it was chosen.
        snr_db: signal-to-noise of each operator; see `signal_to_noise`.
    """

    content: bytes
    recipe: Recipe
    agreement: Agreement
    snr_db: tuple[float, ...]


def quantize_best(
    content: bytes,
    calibration: NDArray[np.float32],
    held_back: NDArray[np.float32],
    input_range: tuple[float, float],
    recipes: Sequence[Recipe] = RECIPES,
) -> Quantized:
    """Quantize by each recipe and take the one whose probabilities diverge least from float32's.

    Those that change the class of more images than the best one does, beyond chance, are out.
    Equal files in give equal bytes out.

    Args:
        content: the float32 file; one image in, logits out.
        calibration: images x height x width x channels, scaled as the net reads them.
        held_back: other training images, likewise, to choose by.
        input_range: lowest and highest value that the input can have.
        recipes: to choose from.

    Raises:
        TuneError: TFLite's quantizer refused the net.
    """
    quantizer = Quantizer(content, calibration, input_range)
    wanted = run_tflite(content, "float32", held_back, "xnnpack")
    tried: list[tuple[Agreement, Recipe, bytes]] = []
    for recipe in recipes:
        int8 = quantizer.quantize(recipe)
        found = agreement(wanted, run_tflite(int8, "int8", held_back, "xnnpack"))
        tried.append((found, recipe, int8))
    fewest = min(found.changed for found, _, _ in tried)
    allowed = fewest + 2.0 * math.sqrt(fewest + 1.0)
    found, recipe, int8 = min(
        (item for item in tried if item[0].changed <= allowed), key=lambda item: item[0].divergence
    )
    return Quantized(
        content=int8,
        recipe=recipe,
        agreement=found,
        snr_db=quantizer.signal_to_noise(recipe, int8),
    )


def quantize_min_max(
    content: bytes, calibration: NDArray[np.float32], input_range: tuple[float, float]
) -> bytes:
    """The int8 file by the first of `RECIPES`, which is what TFLite's converter does by itself.

    Faster than the converter, which would build its graph from the Keras model again.

    Args:
        content: the float32 file; one image in, logits out.
        calibration: images x height x width x channels, scaled as the net reads them.
        input_range: lowest and highest value that the input can have.

    Raises:
        TuneError: TFLite's quantizer refused the net.
    """
    net = FloatNet(content)
    outputs = [operator.output for operator in net.operators]
    runs = [
        [(float(run[tensor].min()), float(run[tensor].max())) for tensor in outputs]
        for run in run_tensors(net.content(), calibration, outputs)
    ]
    ends = np.asarray(runs)  # images x tensors x 2
    lows, highs = ends[:, :, 0].min(axis=0).tolist(), ends[:, :, 1].max(axis=0).tolist()
    ranges = dict(zip(outputs, zip(lows, highs, strict=True), strict=True))
    net.set_ranges(_complete(net, ranges, input_range))
    return to_int8(net.content())


class Quantizer:
    """Makes int8 files of one float32 file; arguments as of `quantize_best`."""

    def __init__(
        self, content: bytes, calibration: NDArray[np.float32], input_range: tuple[float, float]
    ) -> None:
        self._content = content
        self._calibration = calibration
        self._input_range = input_range
        self._prepared: dict[bool, tuple[bytes, dict[int, Activations]]] = {}
        self._logits = logits_range(run_tflite(content, "float32", calibration, "xnnpack"))

    def quantize(self, recipe: Recipe) -> bytes:
        """The int8 file of a recipe.

        Raises:
            TuneError: TFLite's quantizer refused it.
        """
        content, seen = self.prepared(recipe.equalized)
        net = FloatNet(content)
        ranges = {tensor: _RULES[recipe.ranges](found) for tensor, found in seen.items()}
        if recipe.fine_logits:
            ranges[net.output] = self._logits
        net.set_ranges(_complete(net, ranges, self._input_range))
        int8 = to_int8(net.content())
        if recipe.corrected:
            means = {tensor: found.mean for tensor, found in seen.items()}
            net.correct_biases(FloatNet(int8), means)
            int8 = to_int8(net.content())
        return int8

    def signal_to_noise(self, recipe: Recipe, int8: bytes) -> tuple[float, ...]:
        """Of each operator of the int8 file that a recipe made; see `signal_to_noise`."""
        limits = self._logits if recipe.fine_logits else (-math.inf, math.inf)
        images = self._calibration[:COMPARED_IMAGES]
        return signal_to_noise(self.prepared(recipe.equalized)[0], int8, images, limits)

    def prepared(self, equalized: bool) -> tuple[bytes, dict[int, Activations]]:
        """The float32 file that recipes begin with, equalized or not, and what its tensors hold."""
        if equalized not in self._prepared:
            net = FloatNet(self._content)
            if equalized:
                _equalize(net, self.prepared(False)[1])
            self._prepared[equalized] = (net.content(), _activations(net, self._calibration))
        return self._prepared[equalized]


def equalized(content: bytes, images: Iterable[NDArray[np.float32]]) -> bytes:
    """A float32 file with its channels equalized, which changes no logit.

    Args:
        content: of the file; one image in, logits out.
        images: to see the channels' sizes on, each height x width x channels, scaled as the net
            reads them.
    """
    net = FloatNet(content)
    _equalize(net, _activations(net, images))
    return net.content()


def _complete(
    net: FloatNet, ranges: Mapping[int, tuple[float, float]], input_range: tuple[float, float]
) -> dict[int, tuple[float, float]]:
    """Ranges with that of the input, and those of tensors that must have their input's."""
    held = {**ranges, net.input: input_range}
    for tensor, source in net.same_scale().items():
        held[tensor] = held[source]
    return held


def _equalize(net: FloatNet, seen: Mapping[int, Activations]) -> None:
    net.equalize({tensor: found.largest for tensor, found in seen.items()})


def _activations(net: FloatNet, images: Iterable[NDArray[np.float32]]) -> dict[int, Activations]:
    """What the tensors of a net hold over some images, scaled as it reads them."""
    tensors = [net.input, *(operator.output for operator in net.operators)]
    return gather(run_tensors(net.content(), images, tensors))


def logits_range(logits: NDArray[np.float32]) -> tuple[float, float]:
    """The range that tells apart all probabilities above 1e-4 of an image's largest.

    Logits far below an image's largest, and what lies farther above all others than that, take
    steps away from where classes are decided.

    Args:
        logits: images x outputs.
    """
    ordered = np.sort(logits, axis=1)
    first, second = float(ordered[:, -1].min()), float(ordered[:, -2].max())
    low = max(float(logits.min()), min(first - NEGLIGIBLE, second))
    high = min(float(logits.max()), second + NEGLIGIBLE)
    return low, high


def agreement(float32: NDArray[np.float32], int8: NDArray[np.float32]) -> Agreement:
    """Compare logits, images x outputs."""
    wanted, found = _log_softmax(float32), _log_softmax(int8)
    divergences = (np.exp(wanted) * (wanted - found)).sum(axis=1)
    return Agreement(
        images=len(float32),
        changed=int((int8.argmax(axis=1) != float32.argmax(axis=1)).sum()),
        divergence=float(divergences.mean()),
    )


def _log_softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max(axis=1, keepdims=True)
    logarithms: NDArray[np.float64] = shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True))
    return logarithms


def signal_to_noise(
    float32: bytes,
    int8: bytes,
    images: NDArray[np.float32],
    logits: tuple[float, float] = (-math.inf, math.inf),
) -> tuple[float, ...]:
    """Of each operator's output in the file's order, in decibels.

    Ten times the logarithm of the squares of what float32 gives by those of the difference to
    int8, summed over images and elements.

    Args:
        float32: a file.
        int8: what a quantizer made of it.
        images: images x height x width x channels, scaled as the net reads them.
        logits: lowest and highest that int8 shall hold; what lies beyond is no signal.
    """
    outputs = [
        [operator.output for operator in FloatNet(content).operators] for content in (float32, int8)
    ]
    signal, noise = (np.zeros(len(outputs[0])) for _ in range(2))
    for exact, rounded in zip(
        run_tensors(float32, images, outputs[0]), run_tensors(int8, images, outputs[1]), strict=True
    ):
        for index, (own, other) in enumerate(zip(*outputs, strict=True)):
            right = exact[own]
            if index == len(signal) - 1:
                right = np.clip(right, *logits)
            signal[index] += np.square(right, dtype=np.float64).sum()
            noise[index] += np.square(right - rounded[other], dtype=np.float64).sum()
    ratios = np.full(len(signal), NOISELESS_DB)
    counted = (signal > 0) & (noise > 0)
    ratios[counted] = 10.0 * np.log10(signal[counted] / noise[counted])
    return tuple(round(float(min(ratio, NOISELESS_DB)), 1) for ratio in ratios)


def to_int8(content: bytes) -> bytes:
    """TFLite's quantizer, on a float32 file whose tensors have ranges."""
    import tensorflow as tf
    from tensorflow.lite.python import convert

    try:
        with quiet():
            int8 = convert.mlir_quantize(content, input_data_type=tf.int8, output_data_type=tf.int8)
    except Exception as error:  # many types, all of them final
        raise TuneError(f"TFLite's quantizer refused the model: {error}") from error
    return bytes(convert.deduplicate_readonly_buffers(int8))  # as the converter ends
