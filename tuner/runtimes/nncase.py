"""nncase on the KPU of Canaan's K230: what a model costs there.

Latency is a roofline with the constants that nncase-kpu's own estimator writes
(nncase-kpu 2.11, `estimate_fps.py` of a compilation with `dump_ir`): 0.6e12 MAC/s, 25.6 GB/s on
the chip, 3.2 GB/s to the external RAM. A net whose weights and tensors keep the chip busy as one
fusion takes

    load of the input + max(MACs, weights from external RAM, traffic on the chip)

The compiler knows the traffic on the chip, this module does not: it takes
`ON_CHIP_BYTES_PER_ELEMENT` for each element that an operator reads or writes, a middle value of
the very nets it is compared with: beside the compiler's own estimates it is 22 % high to 4 % low
for three cuts of MobileNetV1 (`tests/runtimes/test_nncase.py`), 18 % low for MobileNetV2 at
224x224, and exact for a net bound by MACs, where it plays no part.

Accuracies: see `NOTICE`.
"""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from tuner.cost.latency import work_of
from tuner.spec import Architecture, Cost, Precision, Quantity, Target
from tuner.spec.operators import Conv2D, Dense, DepthwiseConv2D, Dropout, Input

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KERNELS: frozenset[str] = frozenset({"kpu"})

RUN_WITH: tuple[str, str] = ("litert", "xnnpack")

NOTICE = (
    "Accuracies for the K230 are those of LiteRT int8 with XNNPACK here, not yet those of the "
    "KPU's simulator: nncase quantizes in its own way."
)
"""What a user is told once when a target of this runtime is searched for."""

MACS_PER_SECOND = 0.6e12
ON_CHIP_BYTES_PER_SECOND = 25.6e9
EXTERNAL_BYTES_PER_SECOND = 3.2e9

ON_CHIP_BYTES_PER_ELEMENT = 2.5
"""Compiled nets give 2.0 to 3.1: the narrower the net, the more."""

ON_CHIP_BYTES = 2 * 1024 * 1024
"""The KPU's L2 buffer (docs.rs k230-kpu): tensors above it pass through external RAM."""

KMODEL_FIXED_BYTES = 4 * 1024
KMODEL_OPERATOR_BYTES = 1300
"""Header; instructions and tables of one operator. From a kmodel of 40.8 KB with 18.2 KB of
weights and 14 operators (nncase 2.11); tiled nets take more an operator: MobileNetV2 at 224x224
compiles to 3.9 MB, 0.4 MB above its weights."""

RUN_OVERHEAD_MS = 1.0
"""Share of the band's high end that does not depend on the net: starting a run, cache upkeep.
Assumed: no board has been timed."""


def cost(architecture: Architecture, target: Target) -> Cost:
    """Estimate RAM, flash, MACs and latency of the kmodel, without the compiler; no limits read.

    Args:
        architecture: the net.
        target: named for the record; the KPU's constants are those of the K230.

    Returns:
        Costs with bands. RAM is the kmodel, input and outputs, and tensors above the KPU's own
        buffer, all in external RAM. Flash is the kmodel.
    """
    kmodel = _kmodel_bytes(architecture)
    shapes = architecture.shapes()
    ends = math.prod(shapes[architecture.nodes[0].name]) + sum(
        4 * math.prod(shapes[name]) for name in architecture.outputs
    )
    sizes = {node.name: math.prod(shapes[node.name]) for node in architecture.nodes}
    spilled = sum(size for size in sizes.values() if size > ON_CHIP_BYTES)
    ram = kmodel + ends + spilled
    return Cost(
        ram_bytes=Quantity(
            value=ram,
            low=0.8 * ram,
            high=1.5 * kmodel + ends + sum(sizes.values()),
            kind="estimated",
            basis="kmodel, input and outputs in external RAM; high end: every tensor there too",
        ),
        ram_parts={"kmodel": kmodel, "input_output": ends, "tensors": spilled},
        ram_peak_at=max(sizes, key=lambda name: sizes[name]),
        flash_bytes=Quantity(
            value=kmodel,
            low=0.7 * kmodel,
            high=1.5 * kmodel,
            kind="estimated",
            basis="int8 weights, 4 KB, and 1.3 KB an operator, from nets compiled with nncase 2.11",
        ),
        flash_parts={"kmodel": kmodel},
        macs=sum(row.macs for row in work_of(architecture)),
        latency_ms=estimate_kpu_latency(architecture),
    )


def estimate_kpu_latency(architecture: Architecture) -> Quantity:
    """Estimate one inference on the KPU, by roofline; camera and drawing are not part of it.

    Args:
        architecture: the net; uint8 input, compiled as one fusion.

    Returns:
        Milliseconds. The value is a lower bound for small nets, whose run has overheads that no
        public figure tells; the high end is 3 times the value and `RUN_OVERHEAD_MS`.
    """
    shapes = architecture.shapes()
    loaded = math.prod(shapes[architecture.nodes[0].name])
    moved = sum(
        math.prod(shapes[node.name]) + sum(math.prod(shapes[name]) for name in node.inputs)
        for node in architecture.nodes
        if not isinstance(node.op, Input | Dropout)
    )
    macs = sum(row.macs for row in work_of(architecture))
    bounds = {
        "MACs": macs / MACS_PER_SECOND,
        "weights from external RAM": _weights(architecture) / EXTERNAL_BYTES_PER_SECOND,
        "traffic on the chip": moved * ON_CHIP_BYTES_PER_ELEMENT / ON_CHIP_BYTES_PER_SECOND,
    }
    bound_by = max(bounds, key=lambda name: bounds[name])
    milliseconds = 1e3 * (loaded / EXTERNAL_BYTES_PER_SECOND + bounds[bound_by])
    return Quantity(
        value=milliseconds,
        low=0.7 * milliseconds,
        high=3.0 * milliseconds + RUN_OVERHEAD_MS,
        kind="estimated",
        basis=f"roofline with nncase-kpu 2.11's constants, bound by {bound_by}; a lower bound for "
        "small nets: no board timed, camera loop (near 57 frames a second) not included",
    )


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT and XNNPACK, image by image; see `NOTICE`.

    Args:
        model: the TFLite file's bytes.
        precision: `int8` models get images quantized by the input's own scale.
        images: images x height x width x channels, scaled as the net reads them.

    Returns:
        Logits, images x outputs.
    """
    from tuner.runtimes import litert

    return litert.predict(model, precision, images)


def _weights(architecture: Architecture) -> int:
    """Weights of all operators, bytes in int8 (one each); batch norm is folded."""
    shapes = architecture.shapes()
    count = 0
    for node in architecture.nodes:
        operator = node.op
        if isinstance(operator, Conv2D):
            count += operator.kernel**2 * shapes[node.inputs[0]][-1] * operator.filters
        elif isinstance(operator, DepthwiseConv2D):
            count += operator.kernel**2 * shapes[node.name][-1]
        elif isinstance(operator, Dense):
            count += math.prod(shapes[node.inputs[0]]) * operator.units
    return count


def _kmodel_bytes(architecture: Architecture) -> int:
    operators = len(work_of(architecture))
    return _weights(architecture) + KMODEL_FIXED_BYTES + KMODEL_OPERATOR_BYTES * operators
