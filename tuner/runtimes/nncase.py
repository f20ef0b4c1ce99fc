"""nncase on the KPU of Canaan's K230: what a model costs there.

nncase-kpu contains a roofline: 0.6e12 MAC/s, 25.6 GB/s on the chip, 3.2 GB/s to external RAM. What
the KPU runs in one go takes

    input and output, from and to external RAM + max(MACs, weights from there, traffic on the chip)

`measure` lets the compiler count these for a built model (`tuner/runtimes/kmodel.py`). `cost`
counts them without it, by the rules that the compiler's tiles follow:

* the KPU multiplies 24 input by 32 output channels, on a tile of at most 1,024 positions read; a
  1x1 kernel takes several groups of 24 at once where they fit the same 1,024;
* a 3x3 depthwise convolution runs together with the convolution that feeds it, on at most 512
  positions between the two, and counts as if channels were a multiple of 32; others run alone;
* a tile has a fixed share of traffic, and each group of 32 outputs reads the input anew.

Errors beside the compiler: `docs/costs/k230.md`. No board was timed.

The best of a search are compiled and run in the KPU's simulator (`compile_model`, `simulate`);
`predict` is for before that.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from tuner.cost.lower import Graph, GraphOperator
from tuner.errors import TuneError
from tuner.runtimes import CompiledModel
from tuner.runtimes.kmodel import (
    CALIBRATE_METHOD,
    EXTERNAL_BYTES_PER_SECOND,
    MACS_PER_SECOND,
    ON_CHIP_BYTES_PER_SECOND,
    Activations,
    Compiled,
    compile_kmodel,
    nncase_version,
    ptq_option,
    simulate_kmodel,
)
from tuner.runtimes.kmodel import tools as tools
from tuner.runtimes.operator_sets import NNCASE_OPERATORS
from tuner.spec import Cost, Precision, Quantity, Shape, Target

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

KERNELS: frozenset[str] = frozenset({"kpu"})
OPERATORS: frozenset[str] = NNCASE_OPERATORS

RUN_WITH: tuple[str, str] = ("litert", "xnnpack")

MEASURES_BY: tuple[str, ...] = ()

CALIBRATION_IMAGES = 2
"""Random images that `measure` quantizes by: of one range, they all give the same costs."""

TILE_POSITIONS = 1024
PAIR_POSITIONS = 512
INPUT_GROUP = 24
OUTPUT_GROUP = 32
"""Sizes of the KPU's tiles, as the compiled instructions of nncase 2.11 have them."""

TILE_BYTES = 3840
"""Traffic on the chip that the compiler counts for a tile, and once for each group of outputs."""

PAIR_TILES = 1.7
PAIR_GROUPS = 2.3
SUM_TILES = 4
SUM_BYTES = 2
"""Shares of `TILE_BYTES` of a convolution with its depthwise one, for a tile and for a group of
outputs, and of a sum; bytes for each element of a sum. Fitted to compiled nets, the rest is exact
for convolutions."""

CHANNEL_BYTES = 15
"""Bias, scale and zero point of a channel in the kmodel; a pool has `POOL_CHANNEL_BYTES`."""

POOL_CHANNEL_BYTES = 14

ON_CHIP_BYTES = 2 * 1024 * 1024
"""The KPU's L2 buffer (docs.rs k230-kpu): tensors above it pass through external RAM."""

KMODEL_BYTES = 1000
KMODEL_OPERATOR_BYTES = 180
KMODEL_TILE_BYTES = 120
KMODEL_PAIR_TILE_BYTES = 170
KMODEL_PAIR_GROUP_BYTES = 310
"""Header and instructions of a kmodel beside its weights: fixed, an operator, a tile of one that
runs alone, a tile and a group of outputs of a convolution with its depthwise one. Fitted."""

RUN_OVERHEAD_MS = 1.0
"""Share of the band's high end that does not depend on the net: starting a run, cache upkeep.
Assumed: no board has been timed."""


def cost(graph: Graph, target: Target) -> Cost:
    """Estimate RAM, flash, MACs and latency of the kmodel, without the compiler; no limits read.

    Args:
        graph: the net.
        target: named for the record; the KPU's constants are those of the K230.

    Returns:
        Costs with bands. RAM is the kmodel, input and outputs, and tensors above the KPU's own
        buffer, all in external RAM. Flash is the kmodel.
    """
    kmodel = _kmodel_bytes(graph)
    sizes = _elements(graph)
    ends = sum(sizes[name] for name in graph.inputs) + sum(
        4 * sizes[name] for name in graph.outputs
    )
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
        ram_peak_at=max(sizes, key=lambda name: sizes[name]) if spilled else "",
        flash_bytes=Quantity(
            value=kmodel,
            low=0.85 * kmodel,
            high=1.15 * kmodel + 1024,
            kind="estimated",
            basis="int8 weights and the instructions of each tile, by nets compiled with nncase "
            "2.11",
        ),
        flash_parts={"kmodel": kmodel},
        macs=graph.macs,
        latency_ms=estimate_kpu_latency(graph),
    )


def notice() -> str:
    """What a user is told once when a target of this runtime is searched for."""
    lacking = [tool.name for tool in tools() if not tool.ready]
    if lacking:
        return (
            f"Without {' and '.join(lacking)} nothing is run in the KPU's simulator ('tune doctor' "
            "says what to install): candidates are ranked by LiteRT int8 with XNNPACK."
        )
    return (
        "nncase quantizes for the K230's KPU in its own way: while candidates are trained, "
        "accuracies are those of LiteRT int8 with XNNPACK; the best are compiled, run in the KPU's "
        "simulator and ranked by that."
    )


def estimate_kpu_latency(graph: Graph) -> Quantity:
    """Estimate one inference on the KPU, by roofline; camera and drawing are not part of it.

    Args:
        graph: the net; uint8 input, compiled as one fusion, or two around a flatten.

    Returns:
        Milliseconds. The value is a lower bound for small nets, whose run has overheads that no
        public figure tells; the high end is 3 times the value and `RUN_OVERHEAD_MS`.
    """
    steps = _steps(graph)
    bounds = {
        "MACs": sum(step.computed for step in steps) / MACS_PER_SECOND,
        "weights from external RAM": sum(step.weight_bytes for step in steps)
        / EXTERNAL_BYTES_PER_SECOND,
        "traffic on the chip": (_ends(graph) + sum(step.on_chip_bytes for step in steps))
        / ON_CHIP_BYTES_PER_SECOND,
    }
    bound_by = max(bounds, key=lambda name: bounds[name])
    external = _external_bytes(graph) / EXTERNAL_BYTES_PER_SECOND
    return _latency(
        1e3 * (external + bounds[bound_by]),
        "estimated",
        f"roofline with nncase-kpu 2.11's constants, bound by {bound_by}",
    )


def _latency(milliseconds: float, kind: Literal["estimated", "measured"], basis: str) -> Quantity:
    """A roofline's figure, with the band of what it leaves out."""
    return Quantity(
        value=milliseconds,
        low=(0.75 if kind == "estimated" else 0.85) * milliseconds,
        high=3.0 * milliseconds + RUN_OVERHEAD_MS,
        kind=kind,
        basis=f"{basis}; a lower bound for small nets: no board timed, without the camera loop",
    )


def operator_latency_ms(graph: Graph, target: Target) -> list[float]:
    """Each operator's share of the estimate, by its own roofline."""
    total = estimate_kpu_latency(graph).value
    shares = [
        max(
            step.computed / MACS_PER_SECOND,
            step.weight_bytes / EXTERNAL_BYTES_PER_SECOND,
            step.on_chip_bytes / ON_CHIP_BYTES_PER_SECOND,
        )
        for step in _steps(graph)
    ]
    return [total * share / sum(shares) for share in shares]


def measure(models: Mapping[Precision, bytes], target: Target) -> dict[str, Quantity]:
    """Compile the float32 build for the KPU and read what the compiler counts.

    It is quantized by random images of the full range, which change the numbers in the kmodel, not
    its costs. See `compile_kmodel` for what narrower images would add.

    Args:
        models: TFLite files by precision; the KPU's compiler takes float32.
        target: named for the record; the KPU's constants are those of the K230.

    Returns:
        `latency_ms`, the compiler's roofline, and `flash_bytes`, the kmodel.

    Raises:
        ImportError: nncase or .NET is not installed.
        TuneError: there is no float32 build, the net does not read an image, or the compiler
            refuses it.
    """
    import numpy as np

    if "float32" not in models:
        raise TuneError(
            "nncase compiles the float32 build of a net and quantizes it itself. "
            f"Received: {', '.join(models) or 'no build'}."
        )
    shape = _image_shape(models["float32"])
    images = np.random.default_rng(0).integers(0, 256, (CALIBRATION_IMAGES, *shape), dtype=np.uint8)
    images.flat[0], images.flat[-1] = 0, 255
    return _measured(compile_kmodel(models["float32"], images, (0.0, 1.0)))


def _image_shape(model: bytes) -> Shape:
    """Rows, columns and channels of the image that a net reads.

    Raises:
        TuneError: nncase would not compile the net, or compile it wrongly; says why.
    """
    from tuner.runtimes.tflite_file import parse_graph

    graph = parse_graph(model)
    lacking = sorted({operator.kind for operator in graph.operators} - OPERATORS)
    refused = [f"it has no {', '.join(lacking)}"] if lacking else []
    refused += refusals(graph)
    if refused:
        raise TuneError(f"nncase cannot compile the model: {'; '.join(refused)}.")
    shapes = {name: item.input_shape for item in graph.operators for name in item.inputs[:1]}
    shape = shapes.get(graph.inputs[0], ()) if len(graph.inputs) == 1 else ()
    if len(shape) != 3:
        raise TuneError(
            "expected a net that reads one image, rows x columns x channels. "
            f"Received: inputs {', '.join(graph.inputs)} of shape {shape}."
        )
    return shape


def refusals(graph: Graph) -> tuple[str, ...]:
    """What nncase 2.11 compiles without an error to a kmodel that computes something else.

    Or to one that its simulator does not run. Each kind was compiled and run beside the float32
    net, and so were its nearest neighbours, which are right: `docs/costs/k230.md` has the list.
    """
    return tuple(
        dict.fromkeys(reason for item in graph.operators if (reason := _refusal(item)) is not None)
    )


def _refusal(operator: GraphOperator) -> str | None:
    if operator.kind == "TILE" and len(operator.input_shape) > 3:
        return (
            "nncase computes a TILE of five axes or more wrongly, as UpSampling2D makes it; "
            "RESIZE_NEAREST_NEIGHBOR is right"
        )
    if operator.kind == "RESIZE_BILINEAR" and operator.half_pixel_centers:
        return (
            "nncase computes a RESIZE_BILINEAR with half-pixel centers wrongly; one without, or "
            "with aligned corners, is right"
        )
    if operator.kind == "RESIZE_NEAREST_NEIGHBOR" and operator.half_pixel_centers:
        sides = zip(operator.output_shape[:2], operator.input_shape[:2], strict=True)
        if any(after % before for after, before in sides):
            return (
                "nncase computes a RESIZE_NEAREST_NEIGHBOR with half-pixel centers wrongly but for "
                "whole factors; one without is right"
            )
    if operator.kind == "DEPTHWISE_CONV_2D" and max(operator.dilation) > 1:
        return "nncase computes a DEPTHWISE_CONV_2D with dilation wrongly; a CONV_2D is right"
    if operator.kind == "ADD" and operator.activation == "relu6":
        return "nncase makes a kmodel that does not run of a sum with relu6; one with relu runs"
    if operator.kind == "L2_NORMALIZATION":
        return "nncase makes a kmodel that does not run of L2_NORMALIZATION"
    return None


def _measured(compiled: Compiled) -> dict[str, Quantity]:
    """What the compiler says of a kmodel."""
    basis = f"nncase-kpu {compiled.version}'s own estimate for the compiled kmodel"
    if compiled.cpu_operators:
        names = ", ".join(operator.name for operator in compiled.cpu_operators)
        basis += f", with {names} on the CPU"
    size = len(compiled.kmodel)
    return {
        "latency_ms": _latency(compiled.latency_ms, "measured", basis),
        "flash_bytes": Quantity(
            value=size,
            low=size,
            high=size,
            kind="measured",
            basis=f"kmodel of nncase-kpu {compiled.version}",
        ),
    }


def recipe(images: int, activations: Activations = "uint8") -> str:
    """How `compile_model` compiles; see `Simulates`."""
    return (
        f"nncase-kpu {nncase_version()}, {ptq_option(activations)}, {CALIBRATE_METHOD} over "
        f"{images} training images"
    )


def compile_model(
    model: bytes,
    calibration: NDArray[np.uint8],
    input_range: tuple[float, float],
    activations: Activations = "uint8",
) -> CompiledModel:
    """Compile a kmodel, quantized by training images; see `Simulates`.

    One pixel of the images becomes 0 and one 255, so that the input is not quantized anew.
    """
    shape = _image_shape(model)
    if not len(calibration) or calibration.shape[1:] != shape:
        wanted, given = (" x ".join(map(str, sides)) for sides in (shape, calibration.shape[1:]))
        raise TuneError(
            f"expected calibration images of {wanted}, at least one. "
            f"Received: {len(calibration)} of {given}."
        )
    images = calibration.copy()
    images.flat[0], images.flat[-1] = 0, 255
    compiled = compile_kmodel(model, images, input_range, activations)
    return CompiledModel(
        content=compiled.kmodel,
        suffix=".kmodel",
        recipe=recipe(len(images), activations),
        measured=_measured(compiled),
    )


def simulate(
    content: bytes,
    images: NDArray[np.uint8],
    seconds: float | None,
    at_least: int,
    processes: int = 1,
) -> NDArray[np.float32]:
    """Run a kmodel in the KPU's simulator; see `Simulates`."""
    return simulate_kmodel(content, images, processes, seconds=seconds, at_least=at_least)


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT and XNNPACK, image by image.

    Args:
        model: the TFLite file's bytes.
        precision: `int8` models get images quantized by the input's own scale.
        images: images x height x width x channels, scaled as the net reads them.

    Returns:
        Logits, images x outputs.
    """
    from tuner.runtimes import litert

    return litert.predict(model, precision, images)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What the compiler counts for one operator.

    Args:
        computed: MACs, with channels padded to full groups where the compiler pads them.
        on_chip_bytes: traffic.
        weight_bytes: weights and tables, from external RAM; they are in the kmodel too.
        code_bytes: its instructions in the kmodel.
    """

    computed: int
    on_chip_bytes: float
    weight_bytes: int
    code_bytes: int


@functools.lru_cache(maxsize=1024)
def _steps(graph: Graph) -> tuple[_Step, ...]:
    """What the compiler counts for each operator of the graph."""
    sizes, pairs = _elements(graph), _pairs(graph)
    return tuple(_step(graph, operator, sizes, pairs) for operator in graph.operators)


def _step(
    graph: Graph,
    operator: GraphOperator,
    sizes: Mapping[str, int],
    pairs: Mapping[str, GraphOperator],
) -> _Step:
    read = sum(sizes[name] for name in operator.inputs)
    written = sum(sizes[name] for name in operator.outputs)
    rows, columns, depth = _image(operator.input_shape)
    high, wide, outputs = _image(operator.output_shape)
    on_chip = float(read + written)
    if not set(operator.outputs).isdisjoint(graph.outputs):
        # The output becomes float32; a map is also turned to rows x columns x channels.
        on_chip += written * (7 if high * wide > 1 else 3)
    weights, code, computed = 0, KMODEL_OPERATOR_BYTES, operator.macs
    groups = -(-outputs // OUTPUT_GROUP)
    if operator.weights and operator.kind == "DEPTHWISE_CONV_2D":
        padded = operator.weights
        if operator.name in pairs:
            padded = operator.weights // depth * groups * OUTPUT_GROUP
            computed = operator.macs // depth * groups * OUTPUT_GROUP
        else:
            tiles = _tiles(rows, columns, PAIR_POSITIONS) * groups
            on_chip += TILE_BYTES * (groups + tiles)
            code += KMODEL_TILE_BYTES * tiles
        weights = padded + CHANNEL_BYTES * operator.channels
        on_chip += operator.weights + 2 * padded + 44 * operator.channels
    elif operator.weights:
        parts = -(-depth // INPUT_GROUP)
        padded = operator.weights
        deeper = operator.kernel == (1, 1) and parts > 1
        if deeper and parts * rows * columns <= TILE_POSITIONS:
            padded = operator.weights // depth * parts * INPUT_GROUP
            computed = operator.macs // depth * parts * INPUT_GROUP
            parts = 1
        if operator.name in pairs:
            grid = _pair_tiles(operator, pairs[operator.name])
            on_chip += TILE_BYTES * groups * (PAIR_GROUPS + PAIR_TILES * grid)
            code += groups * (KMODEL_PAIR_GROUP_BYTES + KMODEL_PAIR_TILE_BYTES * grid)
        else:
            tiles = _tiles(rows, columns, TILE_POSITIONS) * groups * parts
            on_chip += TILE_BYTES * (groups + tiles)
            code += KMODEL_TILE_BYTES * tiles
        weights = padded + CHANNEL_BYTES * operator.channels
        on_chip += (groups - 1) * read
        on_chip += operator.weights + 2 * padded + 44 * operator.channels
    elif operator.kind in ("MAX_POOL_2D", "AVERAGE_POOL_2D"):
        weights = POOL_CHANNEL_BYTES * depth
        on_chip += weights
    elif operator.kind == "ADD":
        on_chip += SUM_TILES * TILE_BYTES + SUM_BYTES * written
    return _Step(computed=computed, on_chip_bytes=on_chip, weight_bytes=weights, code_bytes=code)


def _pairs(graph: Graph) -> dict[str, GraphOperator]:
    """Convolutions and the 3x3 depthwise ones that they alone feed: each one's partner, by name."""
    writers = {name: item for item in graph.operators for name in item.outputs}
    readers: dict[str, int] = {}
    for operator in graph.operators:
        for name in operator.inputs:
            readers[name] = readers.get(name, 0) + 1
    pairs = {}
    for operator in graph.operators:
        source = writers.get(operator.inputs[0]) if operator.inputs else None
        if (
            operator.kind == "DEPTHWISE_CONV_2D"
            and operator.kernel == (3, 3)
            and source is not None
            and source.kind == "CONV_2D"
            and readers[operator.inputs[0]] == 1
        ):
            pairs[operator.name], pairs[source.name] = source, operator
    return pairs


def _tiles(rows: int, columns: int, positions: int) -> int:
    """Tiles of whole rows."""
    if rows * columns <= positions:
        return 1
    return -(-rows // max(1, positions // columns))


def _pair_tiles(first: GraphOperator, second: GraphOperator) -> int:
    """Tiles of a convolution with its depthwise one: near squares that grow while both fit."""
    image, between = _image(first.input_shape), _image(second.input_shape)
    rows, columns, _ = _image(second.output_shape)

    def fits(high: int, wide: int) -> bool:
        middle, at_edge, read = [], [], []
        for axis, size in enumerate((high, wide)):
            stride, kernel = second.stride[axis], second.kernel[axis]
            needed = (size - 1) * stride + kernel
            padding = (kernel - 1) // 2 if stride == 1 else 0
            at_edge.append(min(needed - padding, between[axis]))
            middle.append(min(needed, between[axis]))
            reach = (middle[axis] - 1) * first.stride[axis] + first.kernel[axis]
            read.append(min(reach, image[axis]))
        return math.prod(at_edge) <= PAIR_POSITIONS and (
            first.kernel == (1, 1) or math.prod(read) <= TILE_POSITIONS
        )

    high = wide = 1
    grown = True
    while grown:
        grown = False
        if wide < columns and fits(high, wide + 1):
            wide, grown = wide + 1, True
        if high < rows and fits(high + 1, wide):
            high, grown = high + 1, True
    return -(-rows // high) * -(-columns // wide)


def _image(shape: Shape) -> tuple[int, int, int]:
    """Rows, columns and channels; a row of features is one position."""
    if len(shape) == 3:
        return shape[0], shape[1], shape[2]
    return 1, 1, shape[-1] if shape else 1


def _elements(graph: Graph) -> dict[str, int]:
    """Elements of each activation tensor; one byte each in the kmodel."""
    width = 4 if graph.precision == "float32" else 1
    return {tensor.name: tensor.bytes // width for tensor in graph.tensors}


def _ends(graph: Graph) -> int:
    """Elements of the inputs: written to the KPU's buffer once."""
    sizes = _elements(graph)
    return sum(sizes[name] for name in graph.inputs)


def _external_bytes(graph: Graph) -> int:
    """Activations from and to external RAM: inputs, float32 outputs, and maps that are flattened.

    A flatten parts the net in two: its features leave the KPU and come back.
    """
    sizes = _elements(graph)
    flattened = sum(
        2 * operator.output_elements
        for operator in graph.operators
        if operator.kind == "RESHAPE" and math.prod(_image(operator.input_shape)[:2]) > 1
    )
    return _ends(graph) + sum(4 * sizes[name] for name in graph.outputs) + flattened


def _kmodel_bytes(graph: Graph) -> int:
    return KMODEL_BYTES + sum(step.weight_bytes + step.code_bytes for step in _steps(graph))
