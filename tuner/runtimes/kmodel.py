"""Compiles float32 TFLite models to kmodels for the KPU of the K230. Owns the package nncase.

The compiler is a .NET program inside a Python package, and ends its whole process on a model that
it does not expect: each compilation has a process of its own, with a folder, a time limit and a
memory limit. With `dump_ir` it writes what its own roofline says of the compiled parts; that is
read here (nncase-kpu 2.11: `mac.csv`, `estimate_fps.py`).
"""

from __future__ import annotations

import csv
import importlib.metadata
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tuner.errors import TuneError
from tuner.runtimes.tool import figure, run_tool

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

MACS_PER_SECOND = 0.6e12
ON_CHIP_BYTES_PER_SECOND = 25.6e9
EXTERNAL_BYTES_PER_SECOND = 3.2e9
CPU_HERTZ = 1.6e9
"""Constants of the roofline that nncase-kpu 2.11 writes (`draw_roofline.py`, `estimate_fps.py`)."""

COMPILE_SECONDS = 540.0
"""Time limit of one compilation. Small nets take 2 to 14 s, ResNet50 at 224x224 took 289 s. Below
the 600 s after which a search gives up a job that computes nothing."""

COMPILE_BYTES = 4 * 2**30
"""Memory limit of one compilation. Small nets take 0.2 GB, ResNet50 at 224x224 took 1.5 GB."""

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


def compile_kmodel(
    model: bytes, images: NDArray[np.uint8], pixel_range: tuple[float, float]
) -> Compiled:
    """Compile a net with uint8 input, quantized to uint8 by the range of its activations.

    The input is planar (channels x rows x columns), as the board's camera scripts give it. Where
    the images hold no pixel 0 or no pixel 255, or `pixel_range` puts zero between two steps, the
    kmodel gets one more pass, which quantizes the input anew.

    Args:
        model: bytes of a float32 TFLite file with one image input.
        images: calibration, images x height x width x channels, as the camera gives them.
        pixel_range: what the net reads for pixels 0 and 255.

    Raises:
        ImportError: nncase or the .NET runtime is not installed; says how to.
        TuneError: the compiler refuses the model, crashes, takes too long, or writes other tables.
    """
    import numpy as np

    version, environment = _installed()
    with tempfile.TemporaryDirectory(prefix="kmodel-") as name:
        folder = Path(name)
        (folder / "model.tflite").write_bytes(model)
        np.save(folder / "images.npy", images)
        job = {"pixel_range": pixel_range, "memory_bytes": COMPILE_BYTES}
        (folder / "job.json").write_text(json.dumps(job))
        _run(folder, environment)
        base = folder / "dump"
        return Compiled(
            kmodel=(folder / "model.kmodel").read_bytes(),
            fusions=_fusions(_written(base, "*FusionToTirPass/mac.csv"), version),
            cpu_operators=_cpu_operators(_written(base, "*DumpTraceInfoPass/estimate_fps.py")),
            version=version,
        )


def _installed() -> tuple[str, dict[str, str]]:
    """The version of nncase-kpu, and the environment that it needs."""
    package = importlib.util.find_spec("nncase")
    if package is None or package.origin is None or importlib.util.find_spec("nncase_kpu") is None:
        raise ImportError(
            "nncase is not installed, so nothing is compiled for the K230: "
            "pip install 'edge-tuner[k230]' (Linux on x86-64), and the .NET runtime."
        )
    folder = Path(package.origin).parent
    environment = {
        **os.environ,
        "DOTNET_ROOT": str(_dotnet_root()),
        "DOTNET_ROLL_FORWARD": "Major",
        "DOTNET_SYSTEM_GLOBALIZATION_INVARIANT": "1",
        "NNCASE_PLUGIN_PATH": str(folder / "modules" / "kpu"),
        # The KPU's simulator is a program beside the packages.
        "PATH": os.pathsep.join((os.environ.get("PATH", os.defpath), str(folder.parent))),
    }
    return importlib.metadata.version("nncase-kpu"), environment


def _dotnet_root() -> Path:
    """The folder of the .NET runtime: `DOTNET_ROOT`, or where `dotnet` of the path leads."""
    named, command = os.environ.get("DOTNET_ROOT"), shutil.which("dotnet")
    if named:
        root, where = Path(named), f"DOTNET_ROOT={named}"
    elif command:
        root, where = Path(command).resolve().parent, f"{command} of the PATH"
    else:
        root, where = None, "neither DOTNET_ROOT nor 'dotnet' in the PATH"
    versions = list(root.glob("shared/Microsoft.NETCore.App/*")) if root else []
    majors = [path.name.partition(".")[0] for path in versions]
    if root is None or not any(int(major) >= DOTNET_MAJOR for major in majors if major.isdigit()):
        raise ImportError(
            f"nncase needs the .NET runtime {DOTNET_MAJOR}.0 or newer: install Microsoft's package "
            f"dotnet-runtime-8.0, or unpack its archive and set DOTNET_ROOT to that folder. "
            f"Received: {where}" + (f", with {', '.join(majors)}." if majors else ".")
        )
    return root


def _run(folder: Path, environment: Mapping[str, str]) -> None:
    """Run `_compile` on `folder` in a process of its own."""
    try:
        done = run_tool(__name__, str(folder), seconds=COMPILE_SECONDS, environment=environment)
    except subprocess.TimeoutExpired:
        raise TuneError(f"nncase took more than {COMPILE_SECONDS:g} s for the model.") from None
    if done.returncode:
        said = (done.stdout + done.stderr).decode(errors="replace")
        raise TuneError(f"nncase cannot compile the model: {_reason(said, done.returncode)}.")


def _reason(said: str, code: int) -> str:
    """The first line that names an error; a crash's stack follows it."""
    lines = [line.strip() for line in said.splitlines() if line.strip()]
    for line in lines:
        if "Exception" in line or "Error" in line or "Out of memory" in line:
            return line.removeprefix("Unhandled exception. ").rstrip(".")
    ended = f"its process ended by signal {-code}" if code < 0 else f"its process ended with {code}"
    return f"{ended} ({lines[-1].rstrip('.')})" if lines else ended


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


def _compile(folder: Path) -> None:
    """Compile what lies in `folder`; the work of the child process."""
    import resource

    import numpy as np

    job: dict[str, Any] = json.loads((folder / "job.json").read_text())
    # .NET reserves far more addresses than it uses, so the limit is on data, not on addresses.
    resource.setrlimit(resource.RLIMIT_DATA, (job["memory_bytes"], job["memory_bytes"]))
    os.chdir(folder)  # the simulator writes into the current folder

    import nncase

    planar = np.ascontiguousarray(np.load("images.npy").transpose(0, 3, 1, 2))
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
    quantization.calibrate_method = "NoClip"
    quantization.quant_type = "uint8"
    quantization.w_quant_type = "uint8"
    quantization.finetune_weights_method = "NoFineTuneWeights"
    quantization.set_tensor_data([[image[None] for image in planar]])
    compiler.use_ptq(quantization)
    compiler.compile()
    Path("model.kmodel").write_bytes(compiler.gencode_tobytes())


def _main(arguments: Sequence[str]) -> None:
    _compile(Path(arguments[0]))


if __name__ == "__main__":
    _main(sys.argv[1:])
