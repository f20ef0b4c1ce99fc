"""Broken inputs and broken compilers: each ends in a reason, and nothing of it is left."""

from __future__ import annotations

import operator
import os
import re
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil
import pytest

from dotnet_support import dotnet, false_nncase
from tuner.errors import MachineError, TuneError
from tuner.runtimes import kmodel, nncase
from tuner.spec import (
    Architecture,
    Conv2D,
    Dense,
    DepthwiseConv2D,
    GlobalAveragePool2D,
    Input,
    Node,
)

IMAGES = (np.arange(4 * 12 * 10 * 3) % 251).astype(np.uint8).reshape(4, 12, 10, 3)
RANGE = (0.0, 1.0)


@pytest.fixture(scope="module")
def model() -> bytes:
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras
    from tuner.train.convert import convert_tflite

    nodes = (
        Node(name="image", op=Input(height=12, width=10, channels=3)),
        Node(name="conv", op=Conv2D(filters=8), inputs=("image",)),
        Node(name="depthwise", op=DepthwiseConv2D(), inputs=("conv",)),
        Node(name="mean", op=GlobalAveragePool2D(), inputs=("depthwise",)),
        Node(name="logits", op=Dense(units=4), inputs=("mean",)),
    )
    net = build_keras(Architecture(nodes=nodes, outputs=("logits",)))
    randomize_weights(net, 0)
    return convert_tflite(net, "float32")


def converted(layers: Callable, *shapes: tuple[int | None, ...]) -> bytes:
    """A TFLite file of a function of TensorFlow with inputs of these shapes."""
    import tensorflow as tf

    from tuner.train.quiet import quiet

    specs = [tf.TensorSpec(shape, tf.float32) for shape in shapes]
    function = tf.function(layers, autograph=False).get_concrete_function(*specs)
    converter = tf.lite.TFLiteConverter.from_concrete_functions([function], tf.Module())
    with quiet():
        return bytes(converter.convert())


def with_elu() -> bytes:
    import tensorflow as tf

    return converted(lambda image: tf.raw_ops.Elu(features=image), (1, 12, 10, 3))


def of_any_size() -> bytes:
    import tensorflow as tf

    return converted(tf.nn.relu, (1, None, None, 3))


def of_two_images() -> bytes:
    return converted(operator.add, (1, 12, 10, 3), (1, 12, 10, 3))


@pytest.fixture
def scratch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder for temporary files. Afterwards nothing is in it, and no process is left."""
    folder = tmp_path / "scratch"
    folder.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(folder))
    yield folder
    left = [path.name for path in folder.iterdir()]
    # What TensorFlow leaves there makes a test's model.
    assert [name for name in left if not name.startswith("__autograph_generated_file")] == []
    for _ in range(100):
        if not (running := processes_of(folder)):
            break
        time.sleep(0.1)  # the system takes a moment to end what was killed
    assert running == []


def processes_of(folder: Path) -> list[list[str]]:
    """Command lines of the processes that run with their temporary files in a folder."""
    return [
        process.info["cmdline"]
        for process in psutil.process_iter(["cmdline", "status", "environ"])
        if (process.info["environ"] or {}).get("TMPDIR", "").startswith(str(folder))
        and process.info["status"] != psutil.STATUS_ZOMBIE
    ]


@contextmanager
def files_of_at_most(size_bytes: int) -> Iterator[None]:
    """A disk that is full as soon as a file of this process or its children is so long."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size_bytes, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


REFUSED = {
    "garbage bytes": (
        lambda model: b"\x89PNG\r\n" + bytes(200), IMAGES,
        "expected a TFLite file, with TFL3 at byte 4. Received: 206 bytes",
    ),
    "no bytes": (lambda model: b"", IMAGES, "expected a TFLite file, with TFL3 at byte 4."),
    "a file cut off": (
        lambda model: model[: len(model) // 2], IMAGES, "the TFLite file is damaged or cut off at",
    ),
    "a missing calibration": (
        lambda model: model, IMAGES[:0],
        "expected calibration images of 12 x 10 x 3, at least one. Received: 0 of 12 x 10 x 3.",
    ),
    "a calibration of another shape": (
        lambda model: model, IMAGES[:, :, :9],
        "expected calibration images of 12 x 10 x 3, at least one. Received: 4 of 12 x 9 x 3.",
    ),
    "an unsupported operator": (
        lambda model: with_elu(), IMAGES,
        "nncase cannot compile the model: it has no ELU.",
    ),
    "a dynamic shape": (
        lambda model: of_any_size(), IMAGES,
        "[1, -1, -1, 3]; convert the model with fixed shapes.",
    ),
    "two inputs": (
        lambda model: of_two_images(), IMAGES,
        "expected a net that reads one image, rows x columns x channels. Received: inputs ",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("case", REFUSED)
def test_what_no_compiler_could_use_is_refused_without_one(
    case: str, model: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    make, images, reason = REFUSED[case]

    def never(*_: object) -> None:
        pytest.fail("the compiler was asked")

    monkeypatch.setattr(nncase, "compile_kmodel", never)
    with pytest.raises(TuneError) as caught:
        nncase.compile_model(make(model), images, RANGE)
    assert reason in str(caught.value)


BODIES = {
    "crashes": ("import os; os.abort()", "its process ended by signal 6."),
    "is killed half-way": (
        "import os; os.kill(os.getpid(), 9)", "its process ended by signal 9.",
    ),
    "ends well without a file": (
        "import os; print('compiled', flush=True); os._exit(0)",
        "it ended as if it had, and wrote no model.kmodel (compiled).",
    ),
    "ends well without a word": (
        "import os; os._exit(0)",
        "it ended as if it had, and wrote no model.kmodel (it said nothing).",
    ),
    "writes an empty file": (
        "import os; open('model.kmodel', 'w').close(); os._exit(0)", "and wrote no model.kmodel",
    ),
    "cannot be loaded": (
        "raise ImportError('libNncase.so: cannot open shared object file')",
        "ImportError: libNncase.so: cannot open shared object file.",
    ),
    "takes all memory": (
        "kept = [bytearray(2 ** 28) for _ in range(64)]",
        "MemoryError (its process may take 4 GiB; a smaller net or input needs less).",
    ),
    "fills the disk": (
        "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))\n"
        "with open('big', 'wb') as file: file.write(bytes(9000))",
        "No space left on device. Its files lie on the disk that is mounted at /",
    ),
    "leaves a program behind": (
        "import os, subprocess; subprocess.Popen(['sleep', '600']); os.abort()",
        "its process ended by signal 6.",
    ),
    "leaves files behind": (
        "import os, tempfile; tempfile.mkdtemp(); tempfile.mkstemp(); os.abort()",
        "its process ended by signal 6.",
    ),
}  # fmt: skip


@pytest.mark.usefixtures("scratch")
@pytest.mark.parametrize("case", BODIES)
def test_a_compiler_that(
    case: str, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, reason = BODIES[case]
    false_nncase(tmp_path / "packages", body, monkeypatch)
    with pytest.raises(TuneError) as caught:
        nncase.compile_model(model, IMAGES, RANGE)
    assert str(caught.value).startswith("nncase cannot compile the model: ")
    assert reason in str(caught.value)


@pytest.mark.usefixtures("scratch")
def test_what_the_system_kills_is_the_machines_failure(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body, _ = BODIES["is killed half-way"]
    false_nncase(tmp_path / "packages", body, monkeypatch)
    with pytest.raises(MachineError, match=r"ended by signal 9\. The system .* memory runs out\.$"):
        nncase.compile_model(model, IMAGES, RANGE)


@pytest.mark.usefixtures("scratch")
def test_a_compiler_that_hangs(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = (
        "import signal, subprocess, time; signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "subprocess.Popen(['sleep', '600']); time.sleep(600)"
    )
    false_nncase(tmp_path / "packages", body, monkeypatch)
    monkeypatch.setattr(kmodel, "COMPILE_SECONDS", 2.0)
    with pytest.raises(TuneError, match=r"^nncase took more than 2 s to compile the model\.$"):
        nncase.compile_model(model, IMAGES, RANGE)


@pytest.mark.usefixtures("scratch")
def test_a_simulator_that_ends_well_without_logits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false_nncase(tmp_path / "packages", "import os; os._exit(0)", monkeypatch)
    with pytest.raises(TuneError, match=r"cannot simulate the model: .*wrote no logits\.npy"):
        nncase.simulate(b"kmodel", IMAGES, None, 1)


def test_a_disk_that_is_full_before_the_compiler_starts(
    scratch: Path, model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    false_nncase(tmp_path / "packages", "", monkeypatch)
    with files_of_at_most(1000), pytest.raises(MachineError) as caught:
        nncase.compile_model(model, IMAGES, RANGE)
    said = re.fullmatch(
        "nncase cannot compile the model: File too large. Its files lie on the disk that is "
        "mounted at (/.*); an export takes another folder from TMPDIR.",
        str(caught.value),
    )
    assert said
    assert os.path.ismount(said[1])
    assert scratch.is_relative_to(said[1])


@pytest.mark.usefixtures("scratch")
def test_no_dotnet(model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false_nncase(tmp_path / "packages", "", monkeypatch)
    for root in (tmp_path / "nowhere", Path(__file__), tmp_path):
        monkeypatch.setenv("DOTNET_ROOT", str(root))
        with pytest.raises(ImportError) as caught:
            nncase.compile_model(model, IMAGES, RANGE)
        assert "install Microsoft's package dotnet-runtime-8.0, or unpack" in str(caught.value)
        assert str(caught.value).endswith(f"Received: DOTNET_ROOT={root}.")


@pytest.mark.usefixtures("scratch", "compiler")
def test_a_folder_that_only_looks_like_dotnet(
    model: bytes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DOTNET_ROOT", str(dotnet(tmp_path / "dotnet", "8.0.1")))
    with pytest.raises(TuneError, match=r"compile the model: RuntimeError: Failed to get hostfxr"):
        nncase.compile_model(model, IMAGES, RANGE)


@pytest.mark.usefixtures("scratch", "compiler")
def test_the_compiler_is_killed_half_way(model: bytes) -> None:
    def kill() -> None:
        for _ in range(600):
            for child in psutil.Process().children(recursive=True):
                if "tuner.runtimes.kmodel" in child.cmdline() and child.num_threads() > 4:
                    child.send_signal(signal.SIGKILL)  # .NET has started its threads
                    return
            time.sleep(0.02)

    killer = threading.Thread(target=kill)
    killer.start()
    with pytest.raises(TuneError, match=r"compile the model: its process ended by signal 9"):
        nncase.compile_model(model, IMAGES, RANGE)
    killer.join()


@pytest.mark.usefixtures("scratch", "compiler")
def test_the_disk_is_full_half_way(model: bytes) -> None:
    largest = max(len(model), IMAGES.nbytes) + 1000  # what is written before the compiler starts
    with files_of_at_most(largest), pytest.raises(TuneError) as caught:
        nncase.compile_model(model, IMAGES, RANGE)
    assert str(caught.value).startswith("nncase cannot compile the model: ")


ON_A_SMALL_DISK = """
import sys
from pathlib import Path
import numpy as np
from tuner.errors import MachineError
from tuner.runtimes import nncase
try:
    nncase.compile_model(Path(sys.argv[1]).read_bytes(), np.load(sys.argv[2]), (0.0, 1.0))
except MachineError as error:
    print(error)
"""


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("size_kb", [16, 256])
def test_a_disk_that_is_really_full_is_the_machines(
    size_kb: int, model: bytes, tmp_path: Path
) -> None:
    (tmp_path / "model").write_bytes(model)
    np.save(tmp_path / "images.npy", IMAGES)
    disk = tmp_path / "disk"
    disk.mkdir()
    in_own_mounts = ["unshare", "--map-root-user", "--mount", "sh", "-c"]
    mount = f"mount -t tmpfs -o size={size_kb}k none '{disk}'"
    try:
        subprocess.run([*in_own_mounts, mount], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError) as error:
        pytest.skip(f"a small file system cannot be mounted here: {error}")
    run = [sys.executable, "-c", ON_A_SMALL_DISK, tmp_path / "model", tmp_path / "images.npy"]
    done = subprocess.run(
        [*in_own_mounts, f"{mount} && exec {shlex.join(map(str, run))}"],
        env={**os.environ, "TMPDIR": str(disk)},
        capture_output=True,
        text=True,
    )
    assert done.stdout == (
        "nncase cannot compile the model: No space left on device. Its files lie on the disk that "
        f"is mounted at {disk}; an export takes another folder from TMPDIR.\n"
    ), done.stderr


@pytest.mark.usefixtures("scratch", "compiler")
@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (lambda: b"\x1c\0\0\0TFL3" + bytes(64), "Exception"),
        (with_elu, "Exception"),
    ],
    ids=["damaged", "operator"],
)
def test_what_the_compiler_itself_refuses(make: Callable[[], bytes], reason: str) -> None:
    with pytest.raises(TuneError) as caught:
        kmodel.compile_kmodel(make(), IMAGES, RANGE)
    assert str(caught.value).startswith("nncase cannot compile the model: System.")
    assert reason in str(caught.value)


@pytest.mark.usefixtures("scratch", "compiler")
def test_what_the_simulator_refuses(model: bytes) -> None:
    content = nncase.compile_model(model, IMAGES, RANGE).content
    for broken in (b"garbage" * 100, content[: len(content) // 2]):
        with pytest.raises(TuneError) as caught:
            nncase.simulate(broken, IMAGES, None, 1)
        assert str(caught.value).startswith(
            "nncase cannot simulate the model: Error in the kmodel, damaged or of another version "
            "of nncase: "
        )
    with pytest.raises(TuneError) as caught:
        nncase.simulate(content, IMAGES[:, :6], None, 1)
    assert str(caught.value) == (
        "nncase cannot simulate the model: Error: expected 12 x 10 x 3 pixels. "
        "Received: 6 x 10 x 3."
    )


@pytest.mark.usefixtures("scratch")
def test_a_simulator_that_hangs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    false_nncase(tmp_path / "packages", "import time; time.sleep(600)", monkeypatch)
    monkeypatch.setattr(kmodel, "SIMULATE_SECONDS", 1.0)
    monkeypatch.setattr(kmodel, "SIMULATE_IMAGE_SECONDS", 0.0)
    with pytest.raises(TuneError, match=r"^nncase took more than 1 s to simulate the model\.$"):
        nncase.simulate(b"kmodel", IMAGES, None, 1)


@pytest.mark.usefixtures("scratch", "compiler")
def test_the_limits_hold(model: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    with monkeypatch.context() as small:
        small.setattr(kmodel, "PROCESS_BYTES", 200 * 2**20)
        with pytest.raises(TuneError, match=r"compile the model: .*may take 0\.195 GiB; a smaller"):
            nncase.compile_model(model, IMAGES, RANGE)
    monkeypatch.setattr(kmodel, "COMPILE_SECONDS", 1.5)
    with pytest.raises(TuneError, match=r"took more than 1\.5 s to compile"):
        nncase.compile_model(model, IMAGES, RANGE)
