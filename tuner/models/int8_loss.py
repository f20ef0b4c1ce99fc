"""What int8 costs a trained net in accuracy, which layers cause it, and what would help."""

from __future__ import annotations

import math
from collections.abc import Sequence

from tuner import catalog
from tuner.cost.lower import lower
from tuner.spec import Architecture, Build, ModelVersion

LARGE_SHARE = 0.02
"""Of the images: a user is told of a net that loses more."""

NAMED_LAYERS = 3


def int8_warning(version: ModelVersion) -> str:
    """A line on a version whose int8 build does much worse than its float32, or nothing.

    Much worse is more than `LARGE_SHARE` of the images of the test split, or of validation where
    there is no other, and more than two standard errors of the pairs that differ.
    """
    build = version.builds.get("int8")
    if build is None or not build.beside_float32:
        return ""
    split = "test" if "test" in build.beside_float32 else "validation"
    beside = build.beside_float32[split]
    fewer = beside.lost - beside.gained
    chance = 2.0 * math.sqrt(beside.lost + beside.gained)
    if fewer <= max(LARGE_SHARE * beside.images, chance):
        return ""
    runtime = catalog.load_module("runtimes", version.template.target.runtime)
    wide = getattr(runtime, "INT16_ACTIVATIONS", False)
    layers = ", ".join(
        f"'{name}' ({ratio:.0f} dB)"
        for name, ratio in noisiest_layers(version.template.architecture, build)
    )
    return (
        f"int8 loses {100 * fewer / beside.images:.1f} points of accuracy to float32 on the "
        f"{beside.images} {split} images"
        + (f", most of it in {layers}" if layers else "")
        + ". What may help: retrain with --quantization-percent 30 (quantization-aware)"
        + (", export with --to tflite_int16x8 (more RAM and time)" if wide else "")
        + ", or take a candidate that loses less; 'tune report --format html' shows each one's "
        "layers."
    )


def noisiest_layers(architecture: Architecture, build: Build) -> Sequence[tuple[str, float]]:
    """The layers that add most noise, the worst first: names, and signal-to-noise in decibels.

    What a layer adds is its output's share of noise less the largest of its inputs'.

    Args:
        architecture: that was built.
        build: its int8 build; one without `snr_db`, or of another net, gives nothing.
    """
    operators = lower(architecture).operators
    if len(operators) != len(build.snr_db):
        return ()
    share = {
        operator.name: 10.0 ** (-ratio / 10.0)
        for operator, ratio in zip(operators, build.snr_db, strict=True)
    }
    added = [
        share[operator.name] - max((share.get(name, 0.0) for name in operator.inputs), default=0.0)
        for operator in operators
    ]
    worst = sorted(range(len(operators)), key=lambda index: -added[index])[:NAMED_LAYERS]
    return [(operators[index].name, build.snr_db[index]) for index in worst if added[index] > 0]
