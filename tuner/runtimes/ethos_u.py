"""Arm Ethos-U55 and U65: what a model costs there once Vela has compiled it.

Vela (PyPI ethos-u-vela) turns an int8 TFLite file into one with a command stream and compressed
weights, and says what its own performance model expects. `measure` asks it
(`tuner/runtimes/vela.py`). `cost` follows the same rules without it, operator by operator, so that
thousands of candidates can be sized:

* the accelerator works on one block of the output at a time. Vela takes the block that makes it
  read the fewest bytes again, among those that fit the accelerator's own RAM (SHRAM) together
  with the block of the input that they need;
* a micro-block of outputs takes 4 cycles for 32 input channels and 1 kernel weight, or for 8 input
  channels and 4 kernel weights, whichever wastes less; depthwise, 4 cycles for 4 kernel weights.
  Writing outputs takes cycles of its own, and the larger of the two sums counts;
* reading the first block and writing the last hide behind nothing, nor do weights that the operator
  before is too short to hide; traffic to SRAM or to the weights' memory may be the bound.

Rules and constants: Vela 5.2.0's debug database and performance report, and its sources
(`ethos_u55.cpp`, `ethos_u55_performance.cpp`, `ethos_u65.cpp`; an older version is mirrored by
nxp-imx/ethos-u-vela). Errors beside Vela: `docs/costs/ethos-u.md`. No board was timed.

Accuracies are those of LiteRT's built-in kernels; `RUN_WITH` says so. Vela's authors treat a
difference from TFLite's reference kernels as a defect (their change MLBEDSW-5209 is one); nothing
was run on an accelerator or a simulator of one.
"""

from __future__ import annotations

import functools
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

import numpy as np

from tuner.cost.lower import Graph, GraphOperator
from tuner.errors import SpecError, TuneError
from tuner.runtimes.interpreter import run_tflite
from tuner.runtimes.vela import compile_ethos_u
from tuner.runtimes.vela import tools as tools
from tuner.spec import Cost, Precision, Quantity, Target

if TYPE_CHECKING:
    from numpy.typing import NDArray

KERNELS: frozenset[str] = frozenset({"ethos-u55", "ethos-u65"})
RUN_WITH: tuple[str, str] = ("litert", "builtin")

OPERATORS: frozenset[str] = frozenset(
    {
        "ABS", "ADD", "ARG_MAX", "AVERAGE_POOL_2D", "BATCH_MATMUL", "CONCATENATION",
        "CONV_2D", "DEPTHWISE_CONV_2D", "ELU", "EXP", "EXPAND_DIMS", "FULLY_CONNECTED",
        "GELU", "HARD_SWISH", "LEAKY_RELU", "LOG", "LOGISTIC", "MAXIMUM", "MAX_POOL_2D",
        "MEAN", "MINIMUM", "MIRROR_PAD", "MUL", "NEG", "PACK", "PAD", "PADV2", "PRELU",
        "QUANTIZE", "REDUCE_MAX", "REDUCE_MIN", "RELU", "RELU6", "RELU_0_TO_1",
        "RELU_N1_TO_1", "RESHAPE", "RESIZE_BILINEAR", "RESIZE_NEAREST_NEIGHBOR", "REVERSE_V2",
        "RSQRT", "SLICE", "SOFTMAX", "SPLIT", "SPLIT_V", "SQUARED_DIFFERENCE", "SQUEEZE",
        "STRIDED_SLICE", "SUB", "SUM", "TANH", "TILE", "TRANSPOSE", "TRANSPOSE_CONV",
        "UNIDIRECTIONAL_SEQUENCE_LSTM", "UNPACK",
    }
)  # fmt: skip
"""What Vela 5.2.0 can place on an Ethos-U55 or U65 (its `--supported-ops-report`)."""

RUNTIME_BYTES = 32 * 1024
"""Flash of TFLM's core, its operator that starts the accelerator, and Arm's driver. Assumed: TFLM's
core is 16 KB (tensorflow.org/lite/microcontrollers), the rest was not measured."""

INTERPRETER_BYTES = 2 * 1024
"""TFLM's persistent structs for one operator and a few tensors. Assumed."""

_Kind = Literal["conv", "depthwise", "dense", "pool", "elementwise"]
_Output = Literal["mul_int32", "add", "max_pool", "other"]
_Hwc = tuple[int, int, int]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Npu:
    """One configuration of the accelerator.

    Args:
        micro_block: rows, columns and channels of the outputs that are computed together.
        banks: of 1 KB, in SHRAM.
        input_granule: banks of an input buffer are a multiple of it.
        sum_granule: banks of the accumulators are a multiple of it.
        output_cycles: to write one element, by what writes it.
        relu_cycles: of one element where an activation is fused.
    """

    micro_block: _Hwc
    banks: int
    input_granule: int
    sum_granule: int
    output_cycles: tuple[float, float, float, float]
    relu_cycles: float

    def cycles_per_output(self, output: _Output, *, relu: bool) -> float:
        written = self.output_cycles[("mul_int32", "add", "max_pool", "other").index(output)]
        return max(written, self.relu_cycles if relu else 0.0)


_NPUS: dict[str, _Npu] = {
    "ethos-u55-32": _Npu(
        micro_block=(1, 1, 4), banks=16, input_granule=2, sum_granule=4,
        output_cycles=(3.0, 6.0, 1.0, 2.0), relu_cycles=1.0,
    ),
    "ethos-u55-64": _Npu(
        micro_block=(1, 1, 8), banks=16, input_granule=2, sum_granule=4,
        output_cycles=(1.5, 3.0, 0.5, 1.0), relu_cycles=1.0,
    ),
    "ethos-u55-128": _Npu(
        micro_block=(1, 2, 8), banks=24, input_granule=4, sum_granule=8,
        output_cycles=(1.25, 1.5, 0.25, 0.5), relu_cycles=0.5,
    ),
    "ethos-u55-256": _Npu(
        micro_block=(2, 2, 8), banks=48, input_granule=8, sum_granule=16,
        output_cycles=(1.125, 0.75, 0.125, 0.25), relu_cycles=0.25,
    ),
    "ethos-u65-256": _Npu(
        micro_block=(2, 2, 8), banks=48, input_granule=8, sum_granule=16,
        output_cycles=(1.125, 0.75, 0.125, 0.25), relu_cycles=0.25,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Memory:
    """A memory as the accelerator sees it: bytes a cycle, cycles of latency, bytes of a burst."""

    bytes_per_cycle: float
    read_latency: int
    write_latency: int
    burst: int


@dataclass(frozen=True, slots=True, kw_only=True)
class _System:
    """One system configuration and memory mode of Vela's `Arm/vela.ini`.

    Args:
        config: its `--system-config`.
        mode: its `--memory-mode`.
        sram: of tensors between operators.
        ends: of the input and the outputs of the net.
        weights: of weights and biases.
        arena_max_bytes: SRAM that the accelerator has for itself; None: what the target has.
    """

    config: str
    mode: str
    sram: _Memory
    ends: _Memory
    weights: _Memory
    arena_max_bytes: int | None


_U55_SRAM = _Memory(bytes_per_cycle=8.0, read_latency=32, write_latency=32, burst=32)
_U65_SRAM = _Memory(bytes_per_cycle=16.0, read_latency=32, write_latency=32, burst=32)
_FLASH = _Memory(bytes_per_cycle=1.0, read_latency=64, write_latency=0, burst=128)
_DRAM = _Memory(bytes_per_cycle=3.75, read_latency=500, write_latency=250, burst=128)

_SYSTEMS: dict[str, _System] = {
    "ethos-u55": _System(
        config="Ethos_U55_High_End_Embedded", mode="Shared_Sram",
        sram=_U55_SRAM, ends=_U55_SRAM, weights=_FLASH, arena_max_bytes=None,
    ),
    "ethos-u65": _System(
        config="Ethos_U65_High_End", mode="Dedicated_Sram_384KB",
        sram=_U65_SRAM, ends=_DRAM, weights=_DRAM, arena_max_bytes=384 * 1024,
    ),
}  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class _Step:
    """What the accelerator does in one go; a TFLite operator is one or more of them.

    Args:
        kind: of work.
        read: rows, columns and channels of the input.
        written: of the output.
        kernel: rows and columns of the window.
        stride: of the window.
        output: what decides the cycles of an output.
        relu: an activation is fused.
        inputs: tensors read.
        bricks_in: the input lies in bricks of 16 channels, not channel by channel.
        bricks_out: so does the output.
        from_end: the input is one of the net.
        to_end: the output is one of the net.
        tail_to_end: Vela counts its last block as one of the net's output.
        weight_bytes: of compressed weights; 0 without.
        channels: with a bias.
    """

    kind: _Kind
    read: _Hwc
    written: _Hwc
    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    output: _Output = "other"
    relu: bool = False
    inputs: int = 1
    bricks_in: bool = True
    bricks_out: bool = True
    from_end: bool = False
    to_end: bool = False
    tail_to_end: bool = False
    weight_bytes: float = 0.0
    channels: int = 0

    @property
    def keeps_channels(self) -> bool:
        return self.kind in ("depthwise", "pool", "elementwise")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Block:
    """Rows, columns and channels of an output block, of the input that it needs, and the order."""

    written: _Hwc
    read: _Hwc
    part_kernel: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class _Work:
    """What one step costs.

    Args:
        compute: cycles, if no memory is the bound.
        read_bytes: of the input, as the memory feels them.
        write_bytes: of the output.
        weight_reads: how often its weights are read.
        staged: its weights are copied to SRAM first.
        depth_blocks: into how many parts its weights fall.
    """

    compute: float
    read_bytes: float
    write_bytes: float
    weight_reads: int
    staged: bool
    depth_blocks: int


_BLOCK_MAX: _Hwc = (32, 64, 128)
_SUB_KERNEL = 8
"""Larger windows are worked on in parts of 8 x 8."""

_PACKED: dict[str, tuple[float, float, float, float, float]] = {
    "CONV_2D": (1.578, 0.099, 0.056, -4.1, 58.9),
    "FULLY_CONNECTED": (1.259, 0.025, 0.148, -2.6, 49.8),
    "DEPTHWISE_CONV_2D": (1.138, 0.0, 0.0, 0.27, 27.1),
}
"""Compressed bytes: of a weight; less of a weight for each natural logarithm of the weights of a
channel (the more there are, the narrower most of them lie within the channel's scale); of a zero
that fills up; of a channel; of the operator. Fitted on the 743 operators of the nets below."""

_MEAN_PACKED = (0.134, 25.0)
"""Compressed bytes of a weight of a MEAN, all equal, and of the operator."""

_FILE_PACKED, _FILE_STEP, _FILE_FIXED = 0.966, 113.0, 1850.0
"""Bytes of the compiled file for each byte of weights, each step and each file; the same nets."""

_NETS = "157 nets compiled with Vela 5.2.0"
_ARENA_LOW, _ARENA_HIGH = 0.2, 1.1
_FILE_LOW, _FILE_HIGH = 0.7, 1.4
_LATENCY_LOW, _LATENCY_HIGH, _SPILLED_HIGH = 0.7, 1.8, 3.0
"""Bands as shares of the estimates: what Vela said of each of the nets lies within them. How far a
board is from what Vela says is not part of them; no board was timed. The last is assumed."""


def cost(graph: Graph, target: Target) -> Cost:
    """Estimate what the compiled int8 model costs on `target`, without Vela; no limits are read.

    Args:
        graph: int8.
        target: `accelerator` names the configuration and, where its clock is not `clock_mhz`, the
            clock: `ethos-u55-128`, `ethos-u65-256 at 1000 MHz`.

    Returns:
        Costs with bands. RAM is the arena; for an Ethos-U65, whose weights lie in external RAM, the
        compiled file, its input and its outputs too. Flash is the compiled file and the runtime.

    Raises:
        SpecError: the target names no configuration known here, or the graph is not int8.
    """
    _check(graph)
    name, _ = _accelerator(target)
    system = _system(name)
    peak, peak_at = _arena(graph, name)
    file, runtime = _file_bytes(graph), RUNTIME_BYTES
    outside = _outside(graph, system)
    ends = sum(tensor.bytes for tensor in graph.tensors if tensor.name in outside)
    loaded = file if system.weights is _DRAM else 0
    ram = peak + INTERPRETER_BYTES + loaded + ends
    left = [operator.kind for operator in graph.operators if operator.kind not in OPERATORS]
    note = f"; not counted: {', '.join(sorted(set(left)))}, which stay on the CPU" if left else ""
    return Cost(
        ram_bytes=Quantity(
            value=ram,
            low=_ARENA_LOW * peak + _FILE_LOW * loaded + ends,
            high=_ARENA_HIGH * peak
            + 2 * INTERPRETER_BYTES
            + _FILE_HIGH * loaded
            + ends
            + _perhaps_copied(graph, name),
            kind="estimated",
            basis=f"Vela's rules without cascades, {_NETS}; low: cascaded for size{note}",
        ),
        ram_parts={
            "arena_head": peak,
            "arena_tail": INTERPRETER_BYTES,
            **({"model": loaded, "input_output": ends} if loaded else {}),
        },
        ram_peak_at=peak_at if peak > loaded else "",  # else no layer decides
        flash_bytes=Quantity(
            value=file + runtime,
            low=_FILE_LOW * file + 0.5 * runtime,
            high=_FILE_HIGH * file + 2 * runtime,
            kind="estimated",
            basis=f"compressed weights and commands, {_NETS}; runtime and driver assumed{note}",
        ),
        flash_parts={"model": file, "runtime": runtime},
        macs=graph.macs,
        latency_ms=_latency(graph, target, note),
    )


def operator_latency_ms(graph: Graph, target: Target) -> list[float]:
    """Milliseconds of each operator; they add up to the latency of `cost`.

    Raises:
        SpecError: as `cost`.
    """
    _check(graph)
    name, clock_mhz = _accelerator(target)
    return [cycles / (clock_mhz * 1e3) for cycles in _schedule(graph, name)[0]]


def _latency(graph: Graph, target: Target, note: str) -> Quantity:
    name, _ = _accelerator(target)
    system, milliseconds = _system(name), sum(operator_latency_ms(graph, target))
    high, limit = _LATENCY_HIGH, system.arena_max_bytes
    if limit is not None and _arena(graph, name)[0] > limit:
        high, note = _SPILLED_HIGH, note + "; tensors beyond its SRAM may pass through external RAM"
    return Quantity(
        value=milliseconds,
        low=_LATENCY_LOW * milliseconds,
        high=high * milliseconds,
        kind="estimated",
        basis=f"Vela's performance rules, {name}, {system.config}, {_NETS}; no board timed{note}",
    )


MEASURES_BY: tuple[str, ...] = ("accelerator", "kernels", "clock_mhz", "ram_regions",
                                "ram_reserved_bytes")  # fmt: skip


def measure(models: Mapping[Precision, bytes], target: Target) -> dict[str, Quantity]:
    """Compile an int8 TFLite model with Vela and read what it reports.

    Args:
        models: TFLite files by precision; the int8 one is compiled.
        target: as for `cost`; its largest arena is what Vela may fill.

    Returns:
        `arena_head_bytes` (SRAM), `ram_bytes`, `flash_bytes` and `latency_ms`, as Vela plans and
        expects them; what Vela does not know of RAM and flash is assumed and is their band.

    Raises:
        ImportError: Vela is not installed (PyPI ethos-u-vela).
        SpecError: the target names no configuration known here.
        TuneError: there is no int8 build, or Vela refuses it, leaves operators on the CPU, or
            takes too long.
    """
    if "int8" not in models:
        raise TuneError(
            f"Vela compiles the int8 build of a net. Received: {', '.join(models) or 'no build'}."
        )
    name, clock_mhz = _accelerator(target)
    system, arena_bytes = _system(name), target.internal_arena_bytes
    compiled = compile_ethos_u(
        models["int8"],
        accelerator=name,
        system_config=system.config,
        memory_mode=system.mode,
        arena_bytes=min(arena_bytes, system.arena_max_bytes or arena_bytes),
    )
    if compiled.left_on_cpu:
        raise TuneError(
            f"expected a model that runs on the {name} alone. Received: Vela {compiled.version} "
            f"leaves {', '.join(compiled.left_on_cpu)} on the CPU, whose time it does not count."
        )
    basis = f"ethos-u-vela {compiled.version}, its performance model; not a board"
    loaded = compiled.file_bytes + compiled.dram_bytes if system.weights is _DRAM else 0
    milliseconds = compiled.cycles / (clock_mhz * 1e3)

    def quantity(value: float, assumed: float = 0, what: str = "") -> Quantity:
        return Quantity(
            value=value + assumed,
            low=value,
            high=value + 2 * assumed,
            kind="measured",
            basis=basis + (f"; {what} of {assumed / 1024:.0f} KB assumed" if assumed else ""),
        )

    return {
        "arena_head_bytes": quantity(compiled.sram_bytes),
        "ram_bytes": quantity(compiled.sram_bytes + loaded, INTERPRETER_BYTES, "TFLM's structs"),
        "flash_bytes": quantity(compiled.file_bytes, RUNTIME_BYTES, "runtime and driver"),
        "latency_ms": quantity(milliseconds),
    }


def predict(model: bytes, precision: Precision, images: NDArray[np.float32]) -> NDArray[np.float32]:
    """Run a TFLite model here with LiteRT's built-in kernels; see `Runtime.predict`."""
    return run_tflite(model, precision, images, "builtin")


def _check(graph: Graph) -> None:
    if graph.precision != "int8":
        raise SpecError(
            "an Ethos-U computes int8 models; profile the int8 file of the net. "
            f"Received: precision='{graph.precision}'."
        )


def _accelerator(target: Target) -> tuple[str, float]:
    """The configuration and its clock in MHz."""
    match = re.fullmatch(r"(ethos-u\d+-\d+)(?: at (\d+(?:\.\d+)?) MHz)?", target.accelerator)
    if match is None or match[1] not in _NPUS or not match[1].startswith(target.kernels):
        raise SpecError(
            f"target '{target.name}': expected an accelerator of {', '.join(_NPUS)} that is of "
            f"kernels '{target.kernels}', with its clock where that is not clock_mhz "
            f"('ethos-u65-256 at 1000 MHz'). Received: accelerator='{target.accelerator}'."
        )
    return match[1], float(match[2]) if match[2] else target.clock_mhz


def _system(name: str) -> _System:
    return _SYSTEMS[name.rpartition("-")[0]]


@functools.lru_cache(maxsize=1024)
def _steps(graph: Graph) -> tuple[tuple[_Step, ...], ...]:
    """What the accelerator does for each operator of the graph."""
    ends = {*graph.inputs, *graph.outputs}
    plain = set(ends)
    for operator in graph.operators:
        if _relu_apart(operator):
            plain.update(operator.outputs)
        if operator.kind == "RESHAPE" and math.prod(operator.input_shape[:-1]) > 1:
            plain.update((*operator.inputs, *operator.outputs))
    return tuple(_steps_of(operator, plain, ends) for operator in graph.operators)


def _relu_apart(operator: GraphOperator) -> bool:
    """Vela computes the activation of fewer than 8 channels in a step of its own."""
    return (
        operator.kind in ("CONV_2D", "DEPTHWISE_CONV_2D")
        and operator.activation != "linear"
        and operator.output_shape[-1] < 8
    )


def _steps_of(operator: GraphOperator, plain: set[str], ends: set[str]) -> tuple[_Step, ...]:
    read, written = _hwc(operator.input_shape), _hwc(operator.output_shape)
    source, sink = (*operator.inputs, "")[0], (*operator.outputs, "")[0]
    relu, apart = operator.activation != "linear", _relu_apart(operator)
    kinds: dict[str, tuple[_Kind, _Output]] = {
        "CONV_2D": ("conv", "other"),
        "DEPTHWISE_CONV_2D": ("depthwise", "other"),
        "FULLY_CONNECTED": ("dense", "other"),
        "MAX_POOL_2D": ("pool", "max_pool"),
        "AVERAGE_POOL_2D": ("pool", "other"),
        "ADD": ("elementwise", "add"),
        "SUB": ("elementwise", "add"),
    }
    kind, output = kinds.get(operator.kind, ("elementwise", "other"))
    bricks_in, bricks_out = source not in plain, sink not in plain
    if operator.kind == "RESHAPE" or operator.kind not in OPERATORS:
        return ()
    if operator.kind == "MEAN":
        rows, columns, channels = read
        mean = _Step(
            kind="depthwise", read=read, written=(1, 1, channels), kernel=(rows, columns),
            bricks_in=bricks_in, from_end=source in ends,
            weight_bytes=_MEAN_PACKED[0] * math.prod(read) + _MEAN_PACKED[1], channels=channels,
        )  # fmt: skip
        scale = _Step(
            kind="elementwise", read=mean.written, written=mean.written, output="mul_int32",
            bricks_out=bricks_out, to_end=sink in ends,
        )  # fmt: skip
        return mean, scale
    step = _Step(
        kind=kind, read=read, written=written, output=output,
        kernel=operator.kernel if kind != "elementwise" else (1, 1),
        stride=operator.stride if kind != "elementwise" else (1, 1),
        relu=relu and not apart, inputs=len(operator.inputs),
        bricks_in=bricks_in, bricks_out=bricks_out,
        from_end=source in ends, to_end=sink in ends and not apart, tail_to_end=apart,
        weight_bytes=_packed_bytes(operator), channels=operator.channels,
    )  # fmt: skip
    if not apart:
        return (step,)
    folded = _folded(math.prod(written))
    return step, _Step(
        kind="pool", read=folded, written=folded, relu=True,
        bricks_in=False, bricks_out=False, to_end=sink in ends,
    )  # fmt: skip


def _hwc(shape: Sequence[int]) -> _Hwc:
    rows, columns, channels = (1, 1, 1, *shape)[-3:]
    return rows, columns, channels


def _folded(elements: int) -> _Hwc:
    """The shape that Vela gives a tensor to work on it element by element; as seen in its output.

    The largest prime factor is the rows, the next the columns where 16 channels remain.
    """
    factors, rest, divisor = [], elements, 2
    while divisor * divisor <= rest:
        while rest % divisor == 0:
            factors.append(divisor)
            rest //= divisor
        divisor += 1
    factors = sorted([*factors, rest, 1, 1], reverse=True)
    rows, columns = factors[0], factors[1]
    if elements // (rows * columns) < 16:
        columns = 1
    return rows, columns, elements // (rows * columns)


@functools.lru_cache(maxsize=65536)
def _block(step: _Step, name: str) -> _Block:
    """The block that Vela chooses: the fewest bytes read, weights and input, for each output."""
    npu = _NPUS[name]
    (height, width, channels), depth_in = step.written, step.read[2]
    rows, columns, unit = npu.micro_block
    window = math.prod(step.kernel)
    part_kernel = step.kind == "conv" and _part_kernel(depth_in, window)
    sides = _sides(min(height, _BLOCK_MAX[0]), rows), _sides(min(width, _BLOCK_MAX[1]), columns)
    depths = _depths(channels, unit)
    h, w, d = sides[0][:, None, None], sides[1][:, None], depths
    read_h = _up_each((h - 1) * step.stride[0] + min(step.kernel[0], _SUB_KERNEL), rows)
    read_w = _up_each((w - 1) * step.stride[1] + min(step.kernel[1], _SUB_KERNEL), columns)
    deep = np.array([_up(min(depth_in, 16 if part_kernel else 32), 8)])
    read_d = d if step.keeps_channels else deep
    flat = np.minimum(h, height) if height == step.kernel[0] == 1 and rows == 2 else h
    banks = npu.banks - (2 if npu.banks > 16 else 0)
    input_banks = _up_each(-(-read_h * read_w * _up_each(read_d, 8) // 1024) * 2, npu.input_granule)
    if step.kind == "elementwise":
        fits = 2 + 2 * input_banks <= banks
        bytes_read = 1 / (h * w * d)
    else:
        sums = flat * w * _up_each(d, 8) * 4
        fits = 2 + input_banks + _up_each(-(-sums // 1024) * 2, npu.sum_granule) <= banks
        areas = -(-height // flat) * -(-width // w)
        weights = window * depth_in * areas if step.kind in ("conv", "depthwise") else 0
        weights = weights if step.kind == "depthwise" else weights * channels
        repeats = math.prod(-(-side // _SUB_KERNEL) for side in step.kernel)
        inputs = read_h * read_w * depth_in * repeats * (height / flat) * (width / w)
        inputs = inputs if step.keeps_channels else inputs * -(-channels // d)
        bytes_read = inputs + weights
    # Where both input buffers hold the whole input, nothing is read twice.
    whole = math.prod(step.read) < 2 * read_h * read_w * read_d
    bytes_read = np.where(fits, np.where(whole, bytes_read / 2, bytes_read), np.inf)
    row, column, depth = np.unravel_index(int(np.argmin(bytes_read)), bytes_read.shape)
    return _Block(
        written=(int(sides[0][row]), int(sides[1][column]), int(depths[depth])),
        read=(
            int(read_h[row, 0, 0]),
            int(read_w[column, 0]),
            int(read_d[depth if step.keeps_channels else 0]),
        ),
        part_kernel=part_kernel,
    )


def _sides(extent: int, unit: int) -> NDArray[np.int64]:
    """Block sides worth trying: the small ones, and those that divide the extent evenly."""
    limit = _up(extent, unit)
    sides = {_up(-(-extent // parts), unit) for parts in range(1, 9)}
    return np.array(sorted(sides | set(range(unit, min(limit, 8 * unit) + 1, unit))))


def _depths(channels: int, unit: int) -> NDArray[np.int64]:
    limit = _up(min(channels, _BLOCK_MAX[2]), unit)
    depths, depth = [], max(unit, min(limit, 16))
    while depth <= limit:
        depth = _up(depth, 16) if depth < channels else depth
        depths.append(depth)
        depth += unit
    return np.array([depth for depth in depths if depth <= limit])


@functools.lru_cache(maxsize=65536)
def _work(step: _Step, name: str) -> _Work:
    """Cycles of one step, without the transfer of its weights to SRAM."""
    npu, system, block = _NPUS[name], _system(name), _block(step, name)
    source = system.ends if step.from_end else system.sram
    sink = system.ends if step.to_end else system.sram
    area = _least(step.read, block.read)
    written = _least(step.written, block.written)
    micro = npu.micro_block
    single_row = step.kind in ("conv", "dense") and step.kernel[0] == step.written[0] == 1
    if micro[0] == 2 and single_row and step.written[1] % 2 == 0:
        micro, written = (1, 4, micro[2]), (1, *written[1:])
    tail = system.ends if step.tail_to_end else sink
    moved_in = _burst_bytes(step, block, source, area)
    moved_out = _burst_bytes(step, block, tail, written, write=True)
    first = source.read_latency + moved_in / source.bytes_per_cycle
    last = tail.write_latency + moved_out / tail.bytes_per_cycle
    per_output = npu.cycles_per_output(step.output, relu=step.relu)
    areas = [-(-side // part) for side, part in zip(step.written, written, strict=True)]
    if step.kind == "elementwise":
        requests = (first + last) / math.prod(block.written)
        per_output = max(per_output, (requests + per_output) / 4)
        rows, columns, channels = step.written
        compute = per_output * rows * columns * (_up(channels, 16) if step.bricks_out else channels)
        reads = step.inputs * math.prod(step.written[:2]) * _depth(step.written, step.bricks_in)
    else:
        sums = _sum_cycles(step, block, npu, micro, area, written)
        outputs = per_output * math.prod(written)
        latency = (system.sram if _staged(step, areas) else system.weights).read_latency
        biases = 10 * written[2] * latency / 256 if step.weight_bytes else 0.0
        # How many whole blocks there are; those at the edges are cut to micro-blocks.
        blocks = math.prod(
            (side // part * part + _up(side % part, unit)) / part
            for side, part, unit in zip(step.written, written, micro, strict=True)
        )
        commands = (max(outputs, biases) + sums) / 4
        compute = max(sums * blocks + max(outputs, biases), outputs * blocks + sums)
        compute += max(0.0, commands - max(outputs, biases)) + first + last
        repeats = math.prod(-(-side // _SUB_KERNEL) for side in step.kernel)
        count = areas[0] * areas[1] * (1 if step.keeps_channels else areas[2])
        reads = area[0] * area[1] * _depth(step.read, step.bricks_in) * repeats * count
    writes = math.prod(step.written[:2]) * _depth(step.written, step.bricks_out)
    return _Work(
        compute=compute,
        read_bytes=_burst_bytes(step, block, source, (reads, 1, 1)),
        write_bytes=_burst_bytes(step, block, sink, (writes, 1, 1), write=True),
        weight_reads=areas[0] * areas[1],
        staged=_staged(step, areas),
        depth_blocks=1 if step.keeps_channels else areas[2],
    )


def _sum_cycles(
    step: _Step, block: _Block, npu: _Npu, micro: _Hwc, area: _Hwc, written: _Hwc
) -> float:
    """Cycles to multiply and add for one block of outputs."""
    plane = -(-written[0] // micro[0]) * -(-written[1] // micro[1])
    deep = -(-written[2] // micro[2])
    tile = max(4 * micro[2], 4 * plane)  # weights of a micro-block take 4 cycles a channel to load
    total = 0.0
    for rows in range(0, step.kernel[0], _SUB_KERNEL):
        for columns in range(0, step.kernel[1], _SUB_KERNEL):
            taps = min(step.kernel[0] - rows, _SUB_KERNEL) * min(
                step.kernel[1] - columns, _SUB_KERNEL
            )
            steps = -(-taps // 4) if block.part_kernel or step.kind == "depthwise" else taps
            if step.kind == "pool":
                steps = 1
                cycles = max(4, taps) * plane * deep * (1 if npu.micro_block[2] == 4 else 4)
            else:
                cycles = tile * steps * deep
            stall = 3 if npu.micro_block[2] == 4 else 2
            if plane == 1:
                cycles += stall * (steps if deep == 1 else (steps - 1) * deep)
            total += cycles * (-(-area[2] // 8) if block.part_kernel else 1)
    if step.kind in ("conv", "dense"):
        total *= -(-step.read[2] // area[2])
    return total


def _burst_bytes(
    step: _Step, block: _Block, memory: _Memory, moved: _Hwc, *, write: bool = False
) -> float:
    """Bytes as the memory feels them: short runs use a burst only in part."""
    shape = step.written if write else step.read
    _, columns, channels = block.written if write else block.read
    if step.bricks_out if write else step.bricks_in:
        run = columns * channels if 16 * shape[1] == channels else 16 * columns
    elif shape[2] == channels and (channels <= 16 or not write):
        run = columns * channels
    else:
        run = min(channels, 16) if write else channels
    return math.prod(moved) * memory.burst / min(memory.burst, run)


def _depth(shape: _Hwc, bricks: bool) -> int:
    return _up(shape[2], 16) if bricks else shape[2]


def _least(shape: _Hwc, block: _Hwc) -> _Hwc:
    rows, columns, channels = (min(pair) for pair in zip(shape, block, strict=True))
    return rows, columns, channels


def _staged(step: _Step, areas: Sequence[int]) -> bool:
    """Whether Vela copies the weights to SRAM first: those that more than one area reads."""
    return bool(step.weight_bytes) and (
        step.kind == "depthwise" or (step.kind == "conv" and areas[0] * areas[1] > 1)
    )


@functools.lru_cache(maxsize=1024)
def _schedule(graph: Graph, name: str) -> tuple[tuple[float, ...], tuple[int, ...]]:
    """Cycles of each operator, and bytes of weights that it finds copied to SRAM."""
    system = _system(name)
    cycles: list[float] = []
    copied: list[int] = []
    before = slack = 0.0  # cycles of the step before, and those in which it reads no weights
    for steps in _steps(graph):
        total, kept = 0.0, 0
        for step in steps:
            work, moved = _work(step, name), _moved_bytes(step)
            compute, wait = work.compute, 0.0
            source = system.ends if step.from_end else system.sram
            traffic: dict[_Memory, float] = dict.fromkeys((system.sram, source, system.weights), 0)
            traffic[source] += work.read_bytes
            traffic[system.ends if step.to_end else system.sram] += work.write_bytes
            transfer = moved / system.weights.bytes_per_cycle + system.weights.read_latency
            if work.staged or (step.kind == "conv" and transfer <= slack):
                part = transfer / work.depth_blocks
                wait, compute = max(0.0, part - before), max(compute, transfer - part)
                traffic[system.sram] += moved * (1 + work.weight_reads)
                kept += moved
            else:
                traffic[system.weights] += moved
            bounds = [size / memory.bytes_per_cycle for memory, size in traffic.items()]
            before = wait + max(compute, *bounds)
            slack = before - traffic[system.weights] / system.weights.bytes_per_cycle
            total += before
        cycles.append(total)
        copied.append(kept)
    return tuple(cycles), tuple(copied)


def _packed_bytes(operator: GraphOperator) -> float:
    """Compressed weights of one operator, without biases."""
    if operator.kind not in _PACKED or not operator.weights or not operator.channels:
        return 0.0
    weight, narrower, zero, channel, fixed = _PACKED[operator.kind]
    depth, window = operator.input_shape[-1], math.prod(operator.kernel)
    whole = window * _up(depth, 32)
    if operator.kind == "CONV_2D" and _part_kernel(depth, window):
        whole = _up(window, 4) * _up(depth, 8)
    zeros = whole * operator.channels - operator.weights
    per_weight = weight - narrower * math.log(operator.weights / operator.channels)
    return per_weight * operator.weights + zero * zeros + channel * operator.channels + fixed


def _part_kernel(depth: int, window: int) -> bool:
    """Whether 8 channels and 4 weights of the kernel at a time waste less than 32 channels."""
    by_kernel = depth / _up(depth, 8) * window / _up(window, 4)
    return depth <= 8 or by_kernel >= depth / _up(depth, 32)


def _moved_bytes(step: _Step) -> int:
    """Weights, and 10 bytes of bias and scale a channel."""
    if not step.weight_bytes:
        return 0
    return _up(round(step.weight_bytes), 16) + _up(10 * step.channels, 16)


def _arena(graph: Graph, name: str) -> tuple[int, str]:
    """SRAM in bytes at the fullest operator, without cascades, and its name.

    Vela's allocator packs the buffers that live together without gaps, nearly always.
    """
    system, plan = _system(name), _steps(graph)
    outside = _outside(graph, system)
    shapes = {
        tensor: _hwc(item.output_shape) for item in graph.operators for tensor in item.outputs
    }
    plain = {*graph.inputs, *graph.outputs}
    for operator, steps in zip(graph.operators, plan, strict=True):
        if steps and not steps[-1].bricks_out:
            plain.update(operator.outputs)
    sizes = {}
    for tensor in graph.tensors:
        rows, columns, channels = shapes.get(tensor.name, (1, 1, tensor.bytes))
        depth = _depth((rows, columns, channels), tensor.name not in plain)
        sizes[tensor.name] = 0 if tensor.name in outside else _up(rows * columns * depth, 16)
    _, copied = _schedule(graph, name)
    needs = []
    for index, operator in enumerate(graph.operators, start=1):
        alive = sum(sizes[item.name] for item in graph.tensors if item.first <= index <= item.last)
        needs.append((alive + sum(copied[index - 1 : index + 1]), operator.name))
    return max(needs, key=lambda need: need[0])


def _perhaps_copied(graph: Graph, name: str) -> int:
    """The largest weights that Vela may still copy to SRAM, because their own memory is slow."""
    limit = _system(name).arena_max_bytes
    if limit is None:
        return 0
    _, copied = _schedule(graph, name)
    moved = [sum(_moved_bytes(step) for step in steps) for steps in _steps(graph)]
    return min(limit, max(all_ - some for all_, some in zip(moved, copied, strict=True)))


def _outside(graph: Graph, system: _System) -> set[str]:
    """Tensors that do not lie in the accelerator's SRAM."""
    return {*graph.inputs, *graph.outputs} if system.ends is not system.sram else set()


def _file_bytes(graph: Graph) -> int:
    """The compiled file: compressed weights, commands of each step, and what frames them."""
    steps = [step for item in _steps(graph) for step in item]
    moved = sum(_moved_bytes(step) for step in steps)
    return round(_FILE_PACKED * moved + _FILE_STEP * len(steps) + _FILE_FIXED)


def _up(number: int, multiple: int) -> int:
    return -(-number // multiple) * multiple


def _up_each(numbers: NDArray[np.int64], multiple: int) -> NDArray[np.int64]:
    return -(-numbers // multiple) * multiple
