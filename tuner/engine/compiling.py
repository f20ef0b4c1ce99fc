"""A device's own compiler, on a trained net as it is or with its channels equalized.

Such a compiler quantizes the float32 file by itself, the K230's with one range for all channels of
a tensor: where they differ much, equalized ones keep the net's answers. Where they do not, the net
as it is comes nearer to float32 (docs/int8.md). Searches and exports choose here, by training
images.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from tuner.errors import MachineError, TuneError
from tuner.train.recipes import EQUALIZED

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    from tuner.runtimes import CompiledModel
    from tuner.train.quantize import Agreement

COMPILED_WITH_IMAGES = 100
"""Training images that a device's compiler quantizes by, evenly spaced."""

EQUALIZED_WITH_IMAGES = 1000
"""Training images that say how large channels are, evenly spaced among those not compared. Of a net
with one wide channel 100 of them left a divergence of .026 nats, 400 of .015, 2,000 of .009
(docs/int8.md)."""

COMPARED_IMAGES = 16
"""Training images that decide nothing else, evenly spaced, that say how near to float32 it came."""

FAR_NATS = 0.01
"""A divergence of the probabilities from float32's at which the equalized net is tried too. Of 18
usual nets 99 % of the draws of 16 images had at most .0042, of nets that lose 16 and 46 points .05
or more (docs/int8.md)."""

_SUFFIX = f", {EQUALIZED}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Compilation:
    """What a device's compiler made of a net.

    Args:
        compiled: its `recipe` ends with "equalized channels" where they are.
        reason: why it was made of the net as it is, or not, in a sentence.
    """

    compiled: CompiledModel
    reason: str


def made_by(runtime: Any, images: int) -> Mapping[str, Any]:
    """What `compile_nearest` goes by; a net that was compiled by something else is compiled again.

    Args:
        runtime: with a compiler; see `tuner.runtimes.Simulates`.
        images: that there are to train on.

    Raises:
        ImportError: the compiler is not installed.
    """
    return {
        "recipe": runtime.recipe(min(images, COMPILED_WITH_IMAGES)),
        "compared_images": COMPARED_IMAGES,
        "far_nats": FAR_NATS,
        "equalized_with_images": EQUALIZED_WITH_IMAGES,
    }


def compile_nearest(
    runtime: Any, model: bytes, training: NDArray[np.uint8], scaling: str, *settings: Any
) -> Compilation:
    """Compile a net, and with equalized channels too where that is far from float32.

    Args:
        runtime: with a compiler and a simulator; see `tuner.runtimes.Simulates`.
        model: bytes of the float32 TFLite file, as a camera feeds it.
        training: all images of the training split.
        scaling: of the net's preprocessing.
        settings: of `compile_model`, after the input's range.

    Returns:
        Of both, the one whose probabilities are nearer to float32's on some training images, which
        neither was made by unless there are no others.

    Raises:
        ImportError: the compiler is not installed.
        MachineError: the disk is full, or the like.
        TuneError: the compiler or the simulator refuses the model.
    """
    from tuner.data.preprocess import scale
    from tuner.train.camera import both_logits, in_colour
    from tuner.train.convert import INPUT_RANGES
    from tuner.train.quantize import agreement

    calibration, compared = (in_colour(training[rows]) for rows in _rows(len(training)))

    def compiled(net: bytes) -> tuple[CompiledModel, Agreement]:
        made = runtime.compile_model(net, calibration, INPUT_RANGES[scaling], *settings)
        given = runtime.simulate(made.content, compared, None, 1)
        float32 = runtime.predict(model, "float32", scale(compared, scaling))
        return made, agreement(both_logits(float32), both_logits(given))

    plain, found = compiled(model)
    if found.divergence < FAR_NATS:
        return Compilation(
            compiled=plain, reason=f"The net as it is, which is near to float32: {_words(found)}."
        )
    try:
        other, changed = compiled(equalized_by(model, training, scaling))
    except MachineError:
        raise
    except TuneError as error:
        refused = f"{_words(found)}. With its channels equalized it was refused: {error}"
        return Compilation(compiled=plain, reason=f"The net as it is: {refused}")
    if _distance(changed) < _distance(found):
        return Compilation(
            compiled=replace(other, recipe=f"{other.recipe}{_SUFFIX}"),
            reason="The net with its channels equalized, which changes no logit of float32: "
            f"{_words(changed)}; for the net as it is {_words(found)}.",
        )
    return Compilation(
        compiled=plain,
        reason=f"The net as it is: {_words(found)}; with its channels equalized {_words(changed)}.",
    )


def equalized_by(model: bytes, training: NDArray[np.uint8], scaling: str) -> bytes:
    """A float32 file with its channels equalized by some of the training images."""
    import numpy as np

    from tuner.data.preprocess import evenly_spaced, scale
    from tuner.train.camera import in_colour
    from tuner.train.quantize import equalized

    calibration, compared = _rows(len(training))
    others = np.setdiff1d(np.arange(len(training)), compared)
    others = others if len(others) else calibration
    rows = others[evenly_spaced(len(others), EQUALIZED_WITH_IMAGES)]
    return equalized(model, (scale(in_colour(training[row : row + 1]), scaling)[0] for row in rows))


def _rows(images: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Those that the compiler quantizes by, and of the others, if there are any, those compared."""
    import numpy as np

    from tuner.data.preprocess import evenly_spaced

    rows = evenly_spaced(images, COMPILED_WITH_IMAGES)
    others = np.setdiff1d(np.arange(images), rows)
    others = others if len(others) else rows
    return rows, others[evenly_spaced(len(others), COMPARED_IMAGES)]


def recipes_in_words(recipes: Sequence[str]) -> str:
    """The recipes of several candidates: what they have in common, and how many are equalized."""
    words = " or ".join(dict.fromkeys(recipe.removesuffix(_SUFFIX) for recipe in recipes))
    count = sum(recipe.endswith(_SUFFIX) for recipe in recipes)
    return f"{words}; {count} with {EQUALIZED}" if count else words


def _distance(found: Agreement) -> float:
    """Logits that are no numbers are farthest."""
    return found.divergence if math.isfinite(found.divergence) else math.inf


def _words(found: Agreement) -> str:
    return (
        f"probabilities diverge by {found.divergence:.2g} nats and {found.changed} of "
        f"{found.images} training images change class"
    )
