"""The K230's bundle with activations of 16 bits, for nets that uint8 costs too much accuracy.

The kmodel computes with int16 activations and uint8 weights (`ptq_option` w:uint8 d:int16 in
`deploy_config.json`); all else is as in `k230`. It is larger and slower on the KPU, by how much
stands in the guide of each bundle.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from tuner.exporters import Artifact
from tuner.exporters.k230 import document as document
from tuner.exporters.k230 import run as run
from tuner.exporters.k230 import tools as tools
from tuner.exporters.k230 import write_bundle
from tuner.spec import ModelVersion


def export(model: Path, version: ModelVersion, folder: Path) -> Sequence[Artifact]:
    """Compile the kmodel with int16 activations and write the bundle; see `Exporter`."""
    return [write_bundle(model, version, folder / "k230_int16", "int16")]
