"""The compiler for the KPU: what it writes, what is missing, and how it fails."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from dotnet_support import dotnet, dotnet_command
from tuner.errors import TuneError
from tuner.runtimes import kmodel
from tuner.runtimes.kmodel import CpuOperator, Fusion, compile_kmodel
from tuner.spec import Architecture, Conv2D, Dense, GlobalAveragePool2D, Input, Node

MAC_CSV = """\
Name, Mac, FLOPs, OnChipMemTraffic, OffChipMemTraffic, OffChipMemLWTraffic, OffChipLoadStoreCnt, Time
TileLayerGroup_0, 3417344, 4256064, 878880, 27664, 30116, 2, 0.0
TileLayerGroup_1, 600000, 600000, 25600, 6400, 3200, 3, 0.0
"""  # noqa: E501
ESTIMATE_PY = """\
cpu_ops = [
    ['Softmax_0', dict(FLOPs=3200, Parallel=2, OffChipMemoryTraffic=64)],
]
"""
IMAGES = (np.arange(12 * 10 * 3) % 256).astype(np.uint8).reshape(1, 12, 10, 3)


def tiny() -> bytes:
    from tuner.testing.weights import randomize_weights
    from tuner.train.build import build_keras
    from tuner.train.convert import convert_tflite

    nodes = (
        Node(name="image", op=Input(height=12, width=10, channels=3)),
        Node(name="conv", op=Conv2D(filters=8), inputs=("image",)),
        Node(name="mean", op=GlobalAveragePool2D(), inputs=("conv",)),
        Node(name="logits", op=Dense(units=4), inputs=("mean",)),
    )
    model = build_keras(Architecture(nodes=nodes, outputs=("logits",)))
    randomize_weights(model, 0)
    return convert_tflite(model, "float32")


def test_the_roofline_of_fusions() -> None:
    first, second = kmodel._fusions(MAC_CSV, "2.11.0")
    assert (first.computed, first.transfers) == (4256064, 2)
    # Bound by traffic on the chip, after input and output.
    assert first.seconds == pytest.approx(27664 / 3.2e9 + 878880 / 25.6e9)
    # With other transfers than one in and one out, only the weights wait for the activations.
    assert second.seconds == pytest.approx((6400 + 3200) / 3.2e9)


def test_a_table_of_another_version() -> None:
    other = MAC_CSV.replace("OffChipMemLWTraffic", "OffChipWeights")
    with pytest.raises(TuneError, match=r"'OffChipMemLWTraffic' of what nncase-kpu 3\.0 writes"):
        kmodel._fusions(other, "3.0")


def test_the_roofline_of_cpu_operators() -> None:
    (softmax,) = kmodel._cpu_operators(ESTIMATE_PY)
    assert softmax == CpuOperator(
        name="Softmax_0", operations=3200.0, parallel=2.0, external_bytes=64.0
    )
    assert softmax.seconds == pytest.approx(3200 / (2 * 1.6e9))
    assert kmodel._cpu_operators("cpu_ops = [\n]\n") == ()


def test_milliseconds_add_up() -> None:
    (softmax,) = kmodel._cpu_operators(ESTIMATE_PY)
    fusion = Fusion(
        computed=600_000_000, on_chip_bytes=0, external_bytes=0, weight_bytes=0, transfers=2
    )
    both = kmodel.Compiled(kmodel=b"", fusions=(fusion,), cpu_operators=(softmax,), version="2")
    assert both.latency_ms == pytest.approx(1.0 + 0.001)


def test_nncase_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'edge-tuner\[k230\]'.*\.NET"):
        compile_kmodel(b"", IMAGES, (0.0, 1.0))


def test_dotnet_root_wins_over_the_settings_and_they_over_the_path(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.delenv("DOTNET_ROOT", raising=False)
    roots = [dotnet(tmp_path / name, "8.0.1") for name in ("variable", "settings", "path")]
    monkeypatch.setenv("PATH", str(dotnet_command(tmp_path / "bin", roots[2])))
    assert kmodel._dotnet().place == str(roots[2])
    (tmp_path / "edge-tuner").mkdir()
    (tmp_path / "edge-tuner" / "settings.toml").write_text(f"dotnet_root = '{roots[1]}'\n")
    assert kmodel._dotnet().place == str(roots[1])
    monkeypatch.setenv("DOTNET_ROOT", str(roots[0]))
    assert kmodel._dotnet().place == str(roots[0])


def test_dotnet_old(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("DOTNET_ROOT", str(dotnet(tmp_path, "6.0.36")))
    tool = kmodel._dotnet()
    assert not tool.ready
    assert tool.missing.endswith(f"Received: DOTNET_ROOT={tmp_path}, with 6.0.36.")


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        (
            "note\nUnhandled exception. System.NotSupportedException: Not Supported *.\n   at X\n",
            -6,
            "System.NotSupportedException: Not Supported *",
        ),
        ("Out of memory.\n", -6, "Out of memory"),
        ("", -9, "its process ended by signal 9"),
        ("warn: a thing\n", 3, "its process ended with 3 (warn: a thing)"),
    ],
)
def test_the_reason_of_a_crash(said: str, code: int, reason: str) -> None:
    assert kmodel._reason(said, code) == reason


def test_a_dump_of_another_version(tmp_path: Path) -> None:
    with pytest.raises(TuneError, match=r"expected one .*mac\.csv.*Received: 0"):
        kmodel._written(tmp_path, "*FusionToTirPass/mac.csv")


@pytest.mark.usefixtures("compiler")
def test_a_net_is_compiled() -> None:
    compiled = compile_kmodel(tiny(), IMAGES, (0.0, 1.0))
    assert compiled.kmodel[:4] == b"LDMK"
    assert compiled.cpu_operators == ()
    assert [fusion.computed for fusion in compiled.fusions] == [12 * 10 * 27 * 8 + 8 * 4]
    assert 0 < compiled.latency_ms < 0.01
    assert compiled.version.startswith("2.")


@pytest.mark.usefixtures("compiler")
@pytest.mark.parametrize("where", ["DOTNET_ROOT", "settings", "PATH"])
def test_a_net_is_compiled_by_the_dotnet_of_each_place(
    where: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "runtime"
    root.mkdir()
    for name in ("host", "shared"):
        (root / name).symlink_to(Path(kmodel._dotnet().place) / name)
    monkeypatch.delenv("DOTNET_ROOT", raising=False)
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    if where == "DOTNET_ROOT":
        monkeypatch.setenv("DOTNET_ROOT", str(root))
    elif where == "settings":
        (tmp_path / "edge-tuner").mkdir()
        (tmp_path / "edge-tuner" / "settings.toml").write_text(f"dotnet_root = '{root}'\n")
    else:
        path = dotnet_command(tmp_path / "bin", root)
        monkeypatch.setenv("PATH", f"{path}:{os.environ['PATH']}")
    assert kmodel._dotnet().place == str(root)
    assert compile_kmodel(tiny(), IMAGES, (0.0, 1.0)).kmodel[:4] == b"LDMK"


@pytest.mark.usefixtures("compiler")
def test_the_simulator_stops_when_its_time_is_out() -> None:
    content = compile_kmodel(tiny(), IMAGES, (0.0, 1.0)).kmodel
    images = np.random.default_rng(0).integers(0, 256, (40, 12, 10, 3), dtype=np.uint8)
    whole = kmodel.simulate_kmodel(content, images)
    assert len(whole) == 40
    for processes, count in ((1, 5), (2, 6), (3, 6)):
        part = kmodel.simulate_kmodel(content, images, processes, seconds=0.0, at_least=5)
        assert np.array_equal(part, whole[:count])
    assert len(kmodel.simulate_kmodel(content, images, seconds=0.2, at_least=1)) < 40


@pytest.mark.usefixtures("compiler")
def test_images_of_a_narrow_range_cost_a_pass_over_the_input() -> None:
    model = tiny()
    (whole,) = compile_kmodel(model, IMAGES, (-1.0, 127 / 128)).fusions
    (narrow,) = compile_kmodel(model, IMAGES // 2, (-1.0, 127 / 128)).fusions
    assert narrow.on_chip_bytes > whole.on_chip_bytes + 2 * IMAGES.size
