"""`tune completion SHELL`, sourced in the real shells and asked through their own machinery."""

from __future__ import annotations

import os
import pty
import select
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

# What is typed, and words that Tab must offer; exactly these where they are a tuple.
TYPED: dict[str, tuple[str, ...] | set[str]] = {
    "tune re": ("report", "resume", "retrain"),
    "tune retrain --": {"--data", "--epochs", "--name", "--threads"},
    "tune --target k2": ("k230",),
    "tune targets show nano": ("nano33ble",),
    "tune spaces show res": ("residual",),
}

SCRIPTS = {
    "bash": """
eval "$(tune completion bash)"
complete -p tune | grep -q -- '-F _tune_completion' || exit 1
for line in "$@"; do
  read -ra COMP_WORDS <<< "$line"
  COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
  _tune_completion tune
  echo "> $line"
  printf '%s\\n' "${COMPREPLY[@]}"
done
""",
    "fish": """
tune completion fish | source
for line in $argv
  echo "> $line"
  complete -C $line | string split -f 1 \\t
end
exit 0
""",
}


@pytest.fixture
def with_tune(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A command `tune` on the path, and no files of a user's shell."""
    command = tmp_path / "bin" / "tune"
    command.parent.mkdir()
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m tuner "$@"\n')
    command.chmod(0o755)
    monkeypatch.setenv("PATH", f"{command.parent}{os.pathsep}{os.environ['PATH']}")
    monkeypatch.setenv("HOME", str(tmp_path))


def shell(name: str) -> str:
    path = shutil.which(name)
    if path is None:
        pytest.skip(f"no {name}; apt-get install {name}")
    return path


@pytest.mark.usefixtures("with_tune")
@pytest.mark.parametrize(("name", "options"), [("bash", ["--norc"]), ("fish", ["-N"])])
def test_tab_offers_commands_options_and_names(
    name: str, options: list[str], tmp_path: Path
) -> None:
    script = tmp_path / "ask"
    script.write_text(SCRIPTS[name])
    done = subprocess.run(
        [shell(name), *options, script, *TYPED], cwd=tmp_path, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    offered = {}
    for block in done.stdout.split("> ")[1:]:
        line, *words = block.splitlines()
        offered[line] = words
    assert list(offered) == list(TYPED)
    for line, expected in TYPED.items():
        if isinstance(expected, tuple):
            assert tuple(sorted(offered[line])) == expected
        else:
            assert expected <= set(offered[line])


@pytest.mark.usefixtures("with_tune")
@pytest.mark.parametrize(
    ("name", "options", "before"),
    [
        ("bash", ["--norc", "-i"], ""),
        ("zsh", ["-f", "-i"], "autoload -Uz compinit; compinit -u -D; "),
    ],
)
def test_tab_in_a_terminal(name: str, options: list[str], before: str) -> None:
    terminal = Terminal([shell(name), *options])
    try:
        terminal.type(f"{before}eval \"$(tune completion {name})\"; echo re''ady\n", until="ready")
        terminal.type("tune retr\t", until="tune retrain ")
        terminal.type("--ep\t", until="--epochs ")
        terminal.type("\x15tune --target k2\t", until="k230 ")
    finally:
        terminal.close()


class Terminal:
    """A shell that believes it is used by a person."""

    def __init__(self, command: list[str]) -> None:
        self._process, self._file = pty.fork()
        if self._process == 0:
            os.environ |= {"TERM": "dumb", "PS1": "$ "}
            os.execv(command[0], command)

    def type(self, keys: str, *, until: str, seconds: float = 30.0) -> None:
        """Press keys and wait until a text is shown."""
        os.write(self._file, keys.encode())
        shown, deadline = "", time.monotonic() + seconds
        while until not in shown:
            left = deadline - time.monotonic()
            assert left > 0, f"expected {until!r} after {keys!r}; shown: {shown!r}"
            if select.select([self._file], [], [], left)[0]:
                shown += os.read(self._file, 4096).decode(errors="replace")

    def close(self) -> None:
        os.close(self._file)
        os.waitpid(self._process, 0)
