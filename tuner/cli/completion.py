"""`tune completion SHELL`: the script that completes `tune` on Tab."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def completion(
    context: typer.Context,
    shell: Annotated[
        Literal["bash", "zsh", "fish"], typer.Argument(metavar="SHELL", help="The shell.")
    ],
) -> None:
    """Print the script that completes commands, options, targets and runs on Tab.

    For bash: eval "$(tune completion bash)" in ~/.bashrc; for zsh the same with zsh, in
    ~/.zshrc after compinit; for fish: tune completion fish > ~/.config/fish/completions/tune.fish
    """
    from typer.completion import shell_complete

    # The script calls `tune` with this variable set; Typer answers before any command runs.
    shell_complete(context.find_root().command, {}, "tune", "_TUNE_COMPLETE", f"source_{shell}")
