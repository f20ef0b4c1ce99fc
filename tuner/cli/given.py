"""What stands on the command line."""

from __future__ import annotations

import typer

from tuner.errors import InputError


def is_given(context: typer.Context, option: str) -> bool:
    """Whether an option, by the name of its parameter, stands there."""
    source = context.get_parameter_source(option)
    return source is not None and source.name == "COMMANDLINE"


def refuse_before_command(context: typer.Context) -> None:
    """Options between a group and its command, which would count for nothing.

    Raises:
        InputError: there is one.
    """
    for parameter in context.command.params:
        if parameter.name not in (None, "debug") and is_given(context, str(parameter.name)):
            command = context.invoked_subcommand
            raise InputError(
                f"{parameter.opts[-1]} stands before '{command}' and counts for nothing there. Put "
                f"it after '{command}', if '{context.command_path} {command} --help' has it."
            )
