"""The command `tune`: its options start a search, its sub-commands do the rest."""

from __future__ import annotations

import sys

import typer

from tuner.cli import export as export_command
from tuner.cli import models as models_command
from tuner.cli import report as report_command
from tuner.cli import resume as resume_command
from tuner.cli import retrain as retrain_command
from tuner.cli import search as search_command
from tuner.cli import select as select_command
from tuner.cli import targets as targets_command

app = typer.Typer(
    add_completion=True,
    invoke_without_command=True,
    no_args_is_help=False,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)
app.callback()(search_command.tune)
app.command("resume")(resume_command.resume)
app.command("report")(report_command.report)
app.command("select")(select_command.select)
app.command("retrain")(retrain_command.retrain)
app.command("models")(models_command.models)
app.command("export")(export_command.export)
app.add_typer(targets_command.app, name="targets")


def run() -> None:
    """Run the command line; an error of the user's becomes one line and its exit code."""
    from tuner.errors import TuneError

    # Every command takes --debug, wherever it stands.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        app(arguments, prog_name="tune")
    except TuneError as error:
        if debug:
            raise
        print(f"tune: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except BrokenPipeError:
        sys.exit(0)
    except KeyboardInterrupt:
        print("tune: stopped.", file=sys.stderr)
        sys.exit(130)
