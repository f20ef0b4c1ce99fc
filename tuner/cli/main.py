"""The command `tune`: its options start a search, its sub-commands do the rest."""

from __future__ import annotations

import os
import sys
import traceback
from contextlib import suppress

import typer

from tuner.cli import attach as attach_command
from tuner.cli import calibrate as calibrate_command
from tuner.cli import clean as clean_command
from tuner.cli import compare as compare_command
from tuner.cli import completion as completion_command
from tuner.cli import data as data_command
from tuner.cli import doctor as doctor_command
from tuner.cli import export as export_command
from tuner.cli import extend as extend_command
from tuner.cli import logs as logs_command
from tuner.cli import models as models_command
from tuner.cli import profile as profile_command
from tuner.cli import ps as ps_command
from tuner.cli import report as report_command
from tuner.cli import resume as resume_command
from tuner.cli import retrain as retrain_command
from tuner.cli import runs as runs_command
from tuner.cli import search as search_command
from tuner.cli import select as select_command
from tuner.cli import spaces as spaces_command
from tuner.cli import stop as stop_command
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
app.command("runs")(runs_command.runs)
app.command("resume")(resume_command.resume)
app.command("extend")(extend_command.extend)
app.command("logs")(logs_command.logs)
app.command("report")(report_command.report)
app.command("select")(select_command.select)
app.command("retrain")(retrain_command.retrain)
app.command("compare")(compare_command.compare)
app.command("export")(export_command.export)
app.command("ps")(ps_command.ps)
app.command("attach")(attach_command.attach)
app.command("stop")(stop_command.stop)
app.command("profile")(profile_command.profile)
app.command("calibrate")(calibrate_command.calibrate)
app.command("doctor")(doctor_command.doctor)
app.command("clean")(clean_command.clean)
app.command("completion")(completion_command.completion)
app.add_typer(data_command.app, name="data")
app.add_typer(models_command.app, name="models")
app.add_typer(targets_command.app, name="targets")
app.add_typer(spaces_command.app, name="spaces")


def run() -> None:
    """Run the command line; an error becomes one line and its exit code."""
    from tuner.errors import InputError, TuneError

    # Every command takes --debug, wherever it stands.
    arguments = [argument for argument in sys.argv[1:] if argument != "--debug"]
    debug = len(arguments) < len(sys.argv) - 1
    try:
        sys.exit(app(arguments, prog_name="tune", standalone_mode=False) or 0)
    except TuneError as error:
        if debug:
            traceback.print_exception(error)
        message, code = str(error), error.exit_code
    except (KeyboardInterrupt, typer.Abort):
        message, code = "Stopped.", 130
    except BrokenPipeError:
        # The reader of stdout has gone; there is nobody left to tell.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(0)
    except Exception as error:
        if hasattr(error, "format_message"):  # wrong options or arguments
            message, code = f"{error.format_message()} Try 'tune --help'.", InputError.exit_code
        elif isinstance(error, OSError) and error.strerror:
            message, code = f"{error.strerror}: {error.filename or 'a file'}.", 1
        else:
            message, code = f"Unexpected {type(error).__name__}: {error}; --debug shows it all.", 1
        if debug:
            traceback.print_exception(error)
    with suppress(OSError):  # where stderr is a file on a full disk
        print(f"tune: {message}", file=sys.stderr)
    sys.exit(code)
