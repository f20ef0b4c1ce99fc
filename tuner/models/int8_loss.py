"""What int8 costs a trained net in accuracy, which layers cause it, and what would help."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from pathlib import Path

from tuner import catalog
from tuner.cost.lower import lower
from tuner.exporters import Check
from tuner.models.retrain import QUANTIZATION_PERCENT
from tuner.spec import Architecture, Build, ModelVersion, Paired, from_plain
from tuner.store.files import read_json

LARGE_SHARE = 0.02
"""Of the images: a user is told of a net that loses more."""

NAMED_LAYERS = 3


def int8_warning(version: ModelVersion) -> str:
    """A line on a version whose int8 build does much worse than its float32, or nothing.

    Much worse is more than `LARGE_SHARE` of the images of the test split, or of validation where
    there is no other, and more than two standard errors of the pairs that differ.
    What it advises is what this version has not had yet.
    """
    build = version.builds.get("int8")
    if build is None or not build.beside_float32:
        return ""
    split = "test" if "test" in build.beside_float32 else "validation"
    lost = _large_loss(build.beside_float32[split], split)
    if not lost:
        return ""
    runtime = catalog.load_module("runtimes", version.template.target.runtime)
    wide = getattr(runtime, "INT16_ACTIVATIONS", False)
    layers = ", ".join(
        f"'{name}' ({ratio:.0f} dB)"
        for name, ratio in noisiest_layers(version.template.architecture, build)
    )
    return (
        f"int8 loses {lost}"
        + (f", most of it in {layers}" if layers else "")
        + _what_helps(version, "tflite_int16x8" if wide else "")
        + "; 'tune report --format html' shows each one's layers."
    )


def export_warnings(version: ModelVersion, folder: Path) -> Iterator[str]:
    """A line on each exported file, quantized anew, that does much worse than float32.

    Args:
        version: that was exported.
        folder: that it was exported to, with its report.
    """
    for row in read_json(folder / "export_report.json")["artifacts"]:
        check = from_plain(Check, row, "export_report.json")
        beside = check.beside_float32
        if beside is not None and (lost := _large_loss(beside, check.split)):
            wider = "k230_int16" if check.format == "k230" else ""
            yield f"{check.file} loses {lost}{_what_helps(version, wider)}."


def _large_loss(beside: Paired, split: str) -> str:
    """In words, if it is large."""
    fewer = beside.lost - beside.gained
    chance = 2.0 * math.sqrt(beside.lost + beside.gained)
    if fewer <= max(LARGE_SHARE * beside.images, chance):
        return ""
    points = 100 * fewer / beside.images
    return f"{points:.1f} points of accuracy to float32 on the {beside.images} {split} images"


def _what_helps(version: ModelVersion, wider: str) -> str:
    """What this version has not had yet; `wider` is a format of 16-bit activations, if any."""
    ways = []
    if version.template.training.frozen_share == 1.0:
        ways.append("lower frozen_share in the template, which lets a retraining round")
    elif version.retraining is None or not version.retraining.quantization_share:
        ways.append(f"retrain with --quantization-percent {QUANTIZATION_PERCENT:g}")
    if wider:
        ways.append(f"export with --to {wider} (more RAM and time)")
    return (
        ". What may help: " + "".join(f"{way}, or " for way in ways) + "a candidate that loses less"
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
