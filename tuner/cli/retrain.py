"""`tune retrain TEMPLATE`: full training, a new model version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from tuner.cli.background import Background, OnFinish, finishing, print_started, start


def retrain(
    template: Annotated[
        Path | None,
        typer.Argument(help="A template of 'tune select', .toml; none with --continue."),
    ] = None,
    data: Annotated[str | None, typer.Option(help="Other data than the template's.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Other epochs than the template's.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(min=0.1, help="Minutes of training; as many epochs as they allow."),
    ] = None,
    patience_percent: Annotated[
        float | None,
        typer.Option(min=1, max=100, help="End when this share of it brought nothing better."),
    ] = None,
    keep: Annotated[
        Literal["best", "last"], typer.Option(help="Weights of the best epoch, or of the last.")
    ] = "best",
    continued: Annotated[
        str | None,
        typer.Option("--continue", metavar="MODEL@N", help="Train the weights of this on."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; all cores by default, 1 repeats exactly.")
    ] = None,
    background: Background = False,
    on_finish: OnFinish = None,
) -> None:
    """Train a template in full, with all cores, into a new version of a model.

    Ctrl-C ends it after the epoch and keeps what is best so far. The same command goes on with
    what was killed.
    """
    from tuner.cli.run import interrupt_on_signals
    from tuner.cli.show import percent
    from tuner.models.int8_loss import int8_warning
    from tuner.models.retrain import retrain as train_in_full
    from tuner.store.models import find_model
    from tuner.store.templates import read_template
    from tuner.store.work import retraining_log

    plain = None if template is None else read_template(template)
    own = find_model(continued).read().template if plain is None and continued else plain
    model = name or (own.name if own else "")
    if background and model:
        arguments = [word for word in sys.argv[1:] if word != "--background"]
        log = retraining_log(model)
        print_started(start(arguments, log), model, log)
        return
    interrupt_on_signals()
    terminal = sys.stderr.isatty()
    shown = [0]

    def show(epoch: Mapping[str, Any]) -> None:
        if epoch["number"] == shown[0]:
            return
        shown[0] = epoch["number"]
        line = (
            f"epoch {epoch['number']}/{epoch['planned']}  loss {epoch['loss']:.3f}  "
            f"validation {100 * epoch['validation_accuracy']:.1f} %  {epoch['seconds']:.0f} s"
        )
        print(f"\r{line}\033[K" if terminal else line, end="" if terminal else "\n",
              file=sys.stderr, flush=True)  # fmt: skip

    def note(text: str) -> None:
        print(f"\n{text}" if shown[0] and terminal else text, file=sys.stderr)

    with finishing(on_finish, model):
        folder = train_in_full(
            plain,
            data=data,
            epochs=epochs,
            minutes=minutes,
            patience_percent=patience_percent,
            keep=keep,
            continued=continued,
            threads=threads,
            name=name,
            on_progress=show,
            on_note=note,
        )
    if terminal:
        print(file=sys.stderr)
    version = folder.read()
    print(
        f"{version.name}@{version.version}: {version.epochs} epochs in "
        f"{version.train_seconds:.0f} s, best at epoch {version.best_epoch}"
        + (", weights of the last" if keep == "last" else "")
        + (", stopped" if version.stopped else "")
    )
    for precision, build in version.builds.items():
        splits = ", ".join(
            f"{split} {percent(accuracy, error=True)} %"
            for split, accuracy in build.accuracy.items()
        )
        print(f"  {precision:<8} {splits}  ({build.size_bytes} bytes)")
    if warning := int8_warning(version):
        note(f"Warning: {warning}")
    print(f"Next: tune export {version.name}@{version.version} --to tflite")
