"""Vela: what is read of what it writes, what is missing, and how it fails."""

from __future__ import annotations

import subprocess
from typing import Any

import pytest

from tuner.errors import TuneError
from tuner.runtimes import vela
from tuner.spec import Tool

SUMMARY = """\
network,sram_memory_used,dram_memory_used,total_npu_encoded_weights,cycles_total
model,21.5,3.0,1024,88897.0
"""
OPTIONS = {
    "accelerator": "ethos-u55-128",
    "system_config": "Ethos_U55_High_End_Embedded",
    "memory_mode": "Shared_Sram",
    "arena_bytes": 2**20,
}


@pytest.fixture
def installed(monkeypatch: pytest.MonkeyPatch) -> None:
    installed = Tool(name="ethos-u-vela", version="5.2.0")
    monkeypatch.setattr(vela, "tools", lambda: (installed,))


def test_the_summary_is_read() -> None:
    assert vela._read(SUMMARY, 32752, "CPU operators = 0 (0.0%)", "5.2.0") == vela.Compiled(
        sram_bytes=22016,
        dram_bytes=2048,
        file_bytes=32752,
        cycles=88897.0,
        left_on_cpu=(),
        version="5.2.0",
    )


def test_a_summary_of_another_version() -> None:
    other = SUMMARY.replace("cycles_total", "cycles")
    with pytest.raises(TuneError, match=r"column 'cycles_total' of what Vela 9\.0 writes.*sram_"):
        vela._read(other, 1, "", "9.0")
    with pytest.raises(TuneError, match=r"'sram_memory_used' of what Vela 9\.0.*an empty table"):
        vela._read("", 1, "", "9.0")


@pytest.mark.parametrize(
    ("said", "left"),
    [
        ("CPU operators = 0 (0.0%)", ()),
        (
            "(supported operators) operator: GATHER, tensor\nCPU operators = 1 (9.1%)",
            ("GATHER",),
        ),
        ("CPU operators = 2 (9.1%)", ("2 operators",)),
        ("another text", ("some operators",)),
    ],
)
def test_operators_left_on_the_cpu(said: str, left: tuple[str, ...]) -> None:
    assert vela._left_on_cpu(said) == left


@pytest.mark.parametrize(
    ("said", "code", "reason"),
    [
        ("Traceback (most recent call last):\n  File x\nRuntimeError: No\n", 1, "RuntimeError: No"),
        ("", 3, "it ended with status 3 and gave no reason."),
        ("Failed to load model\n", -11, "Failed to load model"),
        ("", -11, "its process ended by signal 11."),
    ],
)
def test_the_reason_of_a_refusal(said: str, code: int, reason: str) -> None:
    assert vela._reason(said, code) == reason


def test_vela_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ImportError, match=r"pip install 'edge-tuner\[ethos-u\]'"):
        vela.compile_ethos_u(b"", **OPTIONS)


@pytest.mark.usefixtures("installed")
def test_vela_takes_too_long(monkeypatch: pytest.MonkeyPatch) -> None:
    def slow(*arguments: str, seconds: float) -> None:
        raise subprocess.TimeoutExpired(cmd="vela", timeout=seconds)

    monkeypatch.setattr(vela, "run_tool", slow)
    with pytest.raises(TuneError, match="within 300 seconds"):
        vela.compile_ethos_u(b"", **OPTIONS)


@pytest.mark.usefixtures("installed")
def test_vela_writes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def silent(*arguments: str, **options: Any) -> subprocess.CompletedProcess[bytes]:
        return subprocess.CompletedProcess(arguments, 0, b"Done\n", b"")

    monkeypatch.setattr(vela, "run_tool", silent)
    with pytest.raises(TuneError, match="Vela refuses the model: Done"):
        vela.compile_ethos_u(b"", **OPTIONS)
