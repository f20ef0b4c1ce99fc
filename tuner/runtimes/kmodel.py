"""Compiles float32 TFLite models to kmodels for the KPU of the K230, and runs the KPU's simulator.

Owns the package nncase.

The compiler is a .NET program inside a Python package, and ends its whole process on a model that
it does not expect: each compilation has a process of its own, with a folder, a time limit and a
memory limit. With `dump_ir` it writes what its own roofline says of the compiled parts; that is
read here (nncase-kpu 2.11: `mac.csv`, `estimate_fps.py`).
"""

from __future__ import annotations

import csv
import errno
import importlib.util
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from tuner.errors import MachineError, TuneError
from tuner.runtimes.tool import figure, package_tool, require, run_tool
from tuner.spec import Tool
from tuner.store.settings import read_settings, settings_file

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

Activations = Literal["uint8", "int16"]
"""Types of activations that the KPU computes with; weights are uint8 with either."""

CALIBRATE_METHOD = "NoClip"

MACS_PER_SECOND = 0.6e12
ON_CHIP_BYTES_PER_SECOND = 25.6e9
EXTERNAL_BYTES_PER_SECOND = 3.2e9
CPU_HERTZ = 1.6e9
"""Constants of the roofline that nncase-kpu 2.11 writes (`draw_roofline.py`, `estimate_fps.py`)."""

COMPILE_SECONDS = 540.0
"""Time limit of one compilation. Small nets take 2 to 14 s, ResNet50 at 224x224 took 289 s. Below
the 600 s after which a search gives up a job that computes nothing."""

PROCESS_BYTES = 4 * 2**30
"""Memory limit of one compilation or simulation. Small nets take 0.2 GB, ResNet50 at 224x224 took
1.5 GB."""

UNCLEAR_ENDS = (signal.SIGSEGV, signal.SIGBUS)
"""With too little memory nncase was seen to end by a segmentation fault too."""
OUT_OF_MEMORY = re.compile(r"out of ?memory|MemoryError|bad_alloc", re.IGNORECASE)
"""How Python, .NET and C++ say that they hit that limit."""

FULL_DISK = re.compile(
    r"No space left|disk was full|space on the disk|quota exceeded|File too large"
)
"""How Python and .NET say it, where what they say does not go to that disk too."""
FULL_BYTES = 2**20
"""With less than that left on it a disk is full."""

SIMULATE_SECONDS = 60.0
SIMULATE_IMAGE_SECONDS = 20.0
"""Time limit of one simulation, and of each image in it. Small nets take .04 to .2 s an image, a
detector of 320x320 took 4.5 s."""

SIMULATED_AT_LEAST = 8
"""Images that are worth a process of their own."""

DOTNET_MAJOR = 7
"""The oldest .NET that nncase 2.11 runs on."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Fusion:
    """A part of the net that the KPU runs in one go, as the compiler counts it.

    Args:
        computed: MACs that the KPU's time is counted by, with those computed twice at the edges of
            tiles; depthwise ones stand for 32 channels at a time.
        on_chip_bytes: moved inside the KPU.
        external_bytes: activations read from and written to external RAM.
        weight_bytes: weights and tables read from external RAM, once per use.
        transfers: loads and stores of activations; with 2, one in and one out, loading the
            weights overlaps with computing.
    """

    computed: int
    on_chip_bytes: int
    external_bytes: int
    weight_bytes: int
    transfers: int

    @property
    def seconds(self) -> float:
        """Time by the compiler's roofline."""
        computing = self.computed / MACS_PER_SECOND
        on_chip = self.on_chip_bytes / ON_CHIP_BYTES_PER_SECOND
        external = self.external_bytes / EXTERNAL_BYTES_PER_SECOND
        weights = self.weight_bytes / EXTERNAL_BYTES_PER_SECOND
        if self.transfers == 2:
            return external + max(weights, on_chip, computing)
        return max(computing, external + weights, on_chip)


@dataclass(frozen=True, slots=True, kw_only=True)
class CpuOperator:
    """An operator that the KPU does not have, as the compiler counts it.

    Args:
        name: the compiler's.
        operations: arithmetic ones.
        parallel: of them at once.
        external_bytes: read from and written to external RAM.
    """

    name: str
    operations: float
    parallel: float
    external_bytes: float

    @property
    def seconds(self) -> float:
        """Time by the compiler's roofline."""
        return max(
            self.operations / (CPU_HERTZ * self.parallel),
            self.external_bytes / EXTERNAL_BYTES_PER_SECOND,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Compiled:
    """A compiled model and what the compiler says of it.

    Args:
        kmodel: the file's bytes.
        fusions: what the KPU runs.
        cpu_operators: what the CPU runs.
        version: of nncase-kpu.
    """

    kmodel: bytes
    fusions: tuple[Fusion, ...]
    cpu_operators: tuple[CpuOperator, ...]
    version: str

    @property
    def latency_ms(self) -> float:
        """One inference by the compiler's roofline: no overheads, camera or drawing."""
        parts: tuple[Fusion | CpuOperator, ...] = (*self.fusions, *self.cpu_operators)
        return 1e3 * sum(part.seconds for part in parts)


def ptq_option(activations: Activations) -> str:
    """How a kmodel is quantized, in the words of AI Cube's `deploy_config.json`: weights, data."""
    return f"w:uint8 d:{activations}"


def compile_kmodel(
    model: bytes,
    images: NDArray[np.uint8],
    pixel_range: tuple[float, float],
    activations: Activations = "uint8",
) -> Compiled:
    """Compile a net with uint8 input, quantized by the range of its activations.

    The input is planar (channels x rows x columns), as the board's camera scripts give it. Where
    the images hold no pixel 0 or no pixel 255, or `pixel_range` puts zero between two steps, the
    kmodel gets one more pass, which quantizes the input anew.

    Args:
        model: bytes of a float32 TFLite file with one image input.
        images: calibration, images x height x width x channels, as the camera gives them.
        pixel_range: what the net reads for pixels 0 and 255.
        activations: their type; the output is a float in any case.

    Raises:
        ImportError: nncase or the .NET runtime is not installed; says how to.
        MachineError: the disk is full, or the like.
        TuneError: the compiler refuses the model, crashes, takes too long, or writes other tables.
    """
    import numpy as np

    version, environment = _installed()
    with _job_folder("compile") as folder:
        (folder / "model.tflite").write_bytes(model)
        np.save(folder / "images.npy", images)
        job = {"pixel_range": pixel_range, "activations": activations}
        kmodel = _run("compile", folder, environment, COMPILE_SECONDS, "model.kmodel", **job)
        base = folder / "dump"
        return Compiled(
            kmodel=kmodel.read_bytes(),
            fusions=_fusions(_written(base, "*FusionToTirPass/mac.csv"), version),
            cpu_operators=_cpu_operators(_written(base, "*DumpTraceInfoPass/estimate_fps.py")),
            version=version,
        )


def simulate_kmodel(
    kmodel: bytes,
    images: NDArray[np.uint8],
    processes: int | None = None,
    *,
    seconds: float | None = None,
    at_least: int = 0,
) -> NDArray[np.float32]:
    """Run a kmodel in the simulator of the KPU, which computes as the KPU does.

    Args:
        kmodel: the file's bytes, with one image input as `compile_kmodel` makes it.
        images: images x height x width x channels, as the camera gives them.
        processes: that run at once; None for as many as there are cores.
        seconds: after so many, the images that are left are left out; None runs them all.
        at_least: so many are run in any case.

    Returns:
        The first output of the images that were run, in order, images x its elements.

    Raises:
        ImportError: nncase or the .NET runtime is not installed; says how to.
        MachineError: the disk is full, or the like.
        TuneError: the simulator refuses the model, crashes or takes too long.
    """
    import numpy as np

    _, environment = _installed()
    if processes is None:
        processes = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else 1
    parts = max(1, min(processes, len(images) // SIMULATED_AT_LEAST))
    each = -(-at_least // parts)
    seconds = None if seconds is None else max(0.0, seconds)

    def run_part(part: NDArray[np.uint8]) -> NDArray[np.float32]:
        with _job_folder("simulate") as folder:
            (folder / "model.kmodel").write_bytes(kmodel)
            np.save(folder / "images.npy", part)
            surely = len(part) if seconds is None else min(len(part), each + 1)
            limit = SIMULATE_SECONDS + SIMULATE_IMAGE_SECONDS * surely + (seconds or 0.0)
            job = {"stop_after_seconds": seconds, "at_least": each}
            written = _run("simulate", folder, environment, limit, "logits.npy", **job)
            logits: NDArray[np.float32] = np.load(written)
            return logits

    # Every so many-th image, so that those that the time is enough for are the first ones.
    with ThreadPoolExecutor(parts) as threads:
        found = list(threads.map(run_part, [images[part::parts] for part in range(parts)]))
    count = min(len(images), *(len(own) * parts + part for part, own in enumerate(found)))
    logits = np.empty((count, *found[0].shape[1:]), np.float32)
    for part, own in enumerate(found):
        logits[part::parts] = own[: len(logits[part::parts])]
    return logits


def nncase_version() -> str:
    """The version of the installed compiler.

    Raises:
        ImportError: nncase or the .NET runtime is not installed; says how to.
    """
    return _installed()[0]


def tools() -> tuple[Tool, ...]:
    """The compiler and the .NET runtime that it runs on, whether they are installed or not."""
    compiler = package_tool(
        "nncase-kpu",
        ["nncase", "nncase_kpu"],
        "nncase is not installed, so nothing is compiled for the K230: "
        "pip install 'edge-tuner[k230]' (Linux on x86-64), and the .NET runtime.",
    )
    return compiler, _dotnet()


def _installed() -> tuple[str, dict[str, str]]:
    """The version of nncase-kpu, and the environment that it needs."""
    compiler, dotnet = tools()
    require((compiler, dotnet))
    package = importlib.util.find_spec("nncase")
    folder = Path(package.origin if package and package.origin else "").parent
    environment = {
        **os.environ,
        "DOTNET_ROOT": dotnet.place,
        "DOTNET_ROLL_FORWARD": "Major",
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
        "NNCASE_PLUGIN_PATH": str(folder / "modules" / "kpu"),
        # The KPU's simulator is a program beside the packages.
        "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), str(folder.parent))),
    }
    return compiler.version, environment


def _dotnet() -> Tool:
    """The .NET runtime: what `DOTNET_ROOT` names, else the settings, else `dotnet` in the PATH."""
    named, settings = os.environ.get("DOTNET_ROOT"), read_settings().dotnet_root
    command = shutil.which("dotnet")
    root: Path | None = None
    if named:
        root, where = Path(named), f"DOTNET_ROOT={named}"
    elif settings:
        root = Path(os.path.expanduser(settings))
        where = f"dotnet_root = '{settings}' in {settings_file()}"
    elif command:
        root, where = Path(command).resolve().parent, f"{command} of the PATH"
    else:
        where = "neither DOTNET_ROOT nor dotnet_root in the settings nor 'dotnet' in the PATH"
    found = sorted(
        (tuple(map(int, re.findall(r"\d+", path.name))), path.name)
        for path in (root.glob("shared/Microsoft.NETCore.App/[0-9]*") if root else ())
    )
    versions = [name for _, name in found]
    if root is None or not found or found[-1][0][0] < DOTNET_MAJOR:
        return Tool(
            name=".NET",
            missing=f"nncase needs the .NET runtime {DOTNET_MAJOR}.0 or newer: install Microsoft's "
            "package dotnet-runtime-8.0, or unpack its archive and name that folder by DOTNET_ROOT "
            f"or as dotnet_root in {settings_file()}. Received: {where}"
            + (f", with {', '.join(versions)}." if versions else "."),
        )
    return Tool(name=".NET", version=versions[-1], place=str(root))


@contextmanager
def _job_folder(what: str) -> Iterator[Path]:
    """A folder for one child process, gone afterwards.

    Raises:
        MachineError: in place of an OSError, such as that no process can be started; and of what
            went wrong while the disk was full, as programs crash then, often without a word.
    """
    try:
        with tempfile.TemporaryDirectory(prefix=f"{what}-") as name:
            try:
                yield Path(name)
            except TuneError as error:
                if FULL_DISK.search(str(error)) or shutil.disk_usage(name).free < FULL_BYTES:
                    raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)) from None
                raise
    except OSError as error:
        folder = Path(tempfile.gettempdir()).resolve()
        disk = next(path for path in (folder, *folder.parents) if path.is_mount())
        raise MachineError(
            f"nncase cannot {what} the model: {error.strerror or error}. Its files lie on the disk "
            f"that is mounted at {disk}; an export takes another folder from TMPDIR."
        ) from None


def _run(
    what: str,
    folder: Path,
    environment: Mapping[str, str],
    seconds: float,
    gives: str,
    **job: Any,
) -> Path:
    """Compile or simulate what lies in `folder`, in a process of its own.

    Returns:
        The file `gives` that it wrote there.

    Raises:
        MachineError: something else killed it.
        TuneError: it failed, took too long, or wrote no such file.
    """
    (folder / "job.json").write_text(json.dumps({**job, "memory_bytes": PROCESS_BYTES}))
    own = {**environment, "TMPDIR": str(folder)}  # a killed .NET leaves files there
    try:
        done = run_tool(__name__, what, str(folder), seconds=seconds, environment=own)
    except subprocess.TimeoutExpired:
        raise TuneError(f"nncase took more than {seconds:g} s to {what} the model.") from None
    said = (done.stdout + done.stderr).decode(errors="replace")
    if done.returncode:
        reason = _reason(said, done.returncode)
        short_of_memory = OUT_OF_MEMORY.search(said)
        if short_of_memory or -done.returncode in UNCLEAR_ENDS:
            reason += (
                f" ({'' if short_of_memory else 'perhaps for want of memory: '}its process may "
                f"take {PROCESS_BYTES / 2**30:.3g} GiB; a smaller net or input needs less)"
            )
        if done.returncode == -signal.SIGKILL:
            raise MachineError(
                f"nncase cannot {what} the model: {reason}. The system ends processes so when its "
                "memory runs out."
            )
        raise TuneError(f"nncase cannot {what} the model: {reason}.")
    written = folder / gives
    if not written.is_file() or not written.stat().st_size:
        raise TuneError(
            f"nncase cannot {what} the model: it ended as if it had, and wrote no {gives}"
            f" ({_last_line(said) or 'it said nothing'})."
        )
    return written


def _reason(said: str, code: int) -> str:
    """The first line that names an error; indented ones are of a stack."""
    for line in said.splitlines():
        named = "Exception" in line or "Error" in line or "Out of memory" in line
        if named and not line[:1].isspace():
            return line.strip().removeprefix("Unhandled exception. ").rstrip(".")
    ended = f"its process ended by signal {-code}" if code < 0 else f"its process ended with {code}"
    last = _last_line(said)
    return f"{ended} ({last})" if last else ended


def _last_line(said: str) -> str:
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    return lines[-1].rstrip(".") if lines else ""


def _written(folder: Path, pattern: str) -> str:
    """Text of the one file that the compiler's last pass wrote; passes are numbered."""
    found = list(folder.glob(f"*TargetDependentAfterQuantPass/{pattern}"))
    if len(found) != 1:
        raise TuneError(
            f"expected one {pattern} among what nncase writes with dump_ir, as version 2.11 does. "
            f"Received: {len(found)}."
        )
    return found[0].read_text()


def _fusions(text: str, version: str) -> tuple[Fusion, ...]:
    def read(row: Mapping[str, str], column: str) -> int:
        return round(figure(row, column, f"nncase-kpu {version}"))

    return tuple(
        Fusion(
            computed=read(row, "FLOPs"),
            on_chip_bytes=read(row, "OnChipMemTraffic"),
            external_bytes=read(row, "OffChipMemTraffic"),
            weight_bytes=read(row, "OffChipMemLWTraffic"),
            transfers=read(row, "OffChipLoadStoreCnt"),
        )
        for row in csv.DictReader(text.splitlines(), skipinitialspace=True)
    )


def _cpu_operators(text: str) -> tuple[CpuOperator, ...]:
    operators = []
    for name, arguments in re.findall(r"\['([^']+)', dict\(([^)]*)\)\]", text):
        figures = {key: float(value) for key, value in re.findall(r"(\w+)=([-+.\deE]+)", arguments)}
        operators.append(
            CpuOperator(
                name=name,
                operations=figures.get("FLOPs", 0.0),
                parallel=figures.get("Parallel", 1.0),
                external_bytes=figures.get("OffChipMemoryTraffic", 0.0),
            )
        )
    return tuple(operators)


def _start(folder: Path) -> dict[str, Any]:
    """What the child process does first; the job that it was given."""
    import resource

    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    # .NET reserves far more addresses than it uses, so the limit is on data, not on addresses.
    resource.setrlimit(resource.RLIMIT_DATA, (job["memory_bytes"], job["memory_bytes"]))
    os.chdir(folder)  # the simulator writes into the current folder
    return job


def _planar(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Images x channels x height x width."""
    import numpy as np

    return np.ascontiguousarray(images.transpose(0, 3, 1, 2))


def _compile(folder: Path) -> None:
    """Compile what lies in `folder`; the work of the child process."""
    import numpy as np

    job = _start(folder)

    import nncase

    planar = _planar(np.load("images.npy"))
    low, high = job["pixel_range"]
    deviation = 255.0 / (high - low)
    channels = planar.shape[1]
    options = nncase.CompileOptions()
    options.target = "k230"
    options.dump_ir = True
    options.dump_asm = False
    options.dump_dir = "dump"
    options.preprocess = True
    options.input_type = "uint8"
    options.input_layout = "NCHW"
    options.input_shape = [1, *planar.shape[1:]]
    options.input_range = [0, 255]
    options.mean = [-low * deviation] * channels
    options.std = [deviation] * channels
    options.swapRB = False
    options.letterbox_value = 0.0
    options.output_layout = ""
    compiler = nncase.Compiler(options)
    compiler.import_tflite(Path("model.tflite").read_bytes(), nncase.ImportOptions())
    quantization = nncase.PTQTensorOptions()
    quantization.samples_count = len(planar)
    quantization.calibrate_method = CALIBRATE_METHOD
    quantization.quant_type = job["activations"]
    quantization.w_quant_type = "uint8"
    quantization.finetune_weights_method = "NoFineTuneWeights"
    quantization.set_tensor_data([[image[None] for image in planar]])
    compiler.use_ptq(quantization)
    compiler.compile()
    Path("model.kmodel").write_bytes(compiler.gencode_tobytes())


def _simulate(folder: Path) -> None:
    """Run what lies in `folder`; the work of the child process."""
    import numpy as np

    job = _start(folder)

    import nncase

    simulator = nncase.Simulator()
    try:
        simulator.load_model(Path("model.kmodel").read_bytes())
    except RuntimeError as error:
        sys.exit(f"Error in the kmodel, damaged or of another version of nncase: {error}")
    images = np.load("images.npy", mmap_mode="r")
    _, channels, height, width = simulator.get_input_shape(0)
    if images.shape[1:] != (height, width, channels):
        given = " x ".join(map(str, images.shape[1:]))
        sys.exit(f"Error: expected {height} x {width} x {channels} pixels. Received: {given}")
    seconds = job["stop_after_seconds"]
    logits: list[NDArray[np.float32]] = []
    started = time.monotonic()
    for image in images:
        enough = seconds is not None and len(logits) >= job["at_least"]
        if enough and time.monotonic() - started >= seconds:
            break
        simulator.set_input_tensor(0, nncase.RuntimeTensor.from_numpy(_planar(image[None])))
        simulator.run()
        logits.append(simulator.get_output_tensor(0).to_numpy().reshape(-1).astype(np.float32))
    np.save("logits.npy", np.stack(logits))


def _main(arguments: Sequence[str]) -> None:
    what, folder = arguments
    {"compile": _compile, "simulate": _simulate}[what](Path(folder))


if __name__ == "__main__":
    _main(sys.argv[1:])
