"""`tune retrain TEMPLATE`: full training, a new model version."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from tuner.cli.background import Background, OnFinish, finishing, print_started, start
from tuner.spec.times import LEAST_TRAIN_MINUTES

if TYPE_CHECKING:
    from tuner.spec import ModelVersion


def retrain(
    template: Annotated[
        Path | None,
        typer.Argument(
            metavar="TEMPLATE", help="A template of 'tune select', .toml; none with --continue."
        ),
    ] = None,
    data: Annotated[
        str | None, typer.Option(metavar="PATH", help="Other data than the template's.")
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Other epochs than the template's.")
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=LEAST_TRAIN_MINUTES,
            help="Minutes of training; as many epochs as they allow.",
        ),
    ] = None,
    max_train_minutes: Annotated[
        float | None,
        typer.Option(metavar="NUMBER", min=0.001, help="Refuse what is predicted to train longer."),
    ] = None,
    patience_percent: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=1,
            max=100,
            help="End when this share of it brought nothing better.",
        ),
    ] = None,
    steady_epochs: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER",
            min=2,
            help="End when the loss of so many, say 40, spans less than 0.05.",
        ),
    ] = None,
    learning_rate: Annotated[
        float | None, typer.Option(metavar="NUMBER", help="Other peak rate than the template's.")
    ] = None,
    batch_size: Annotated[
        int | None, typer.Option(metavar="NUMBER", min=1, help="Other batch than the template's.")
    ] = None,
    schedule: Annotated[
        Literal["linear", "cosine", "constant"] | None,
        typer.Option(help="Other schedule of the rate than the template's."),
    ] = None,
    quantization_percent: Annotated[
        float | None,
        typer.Option(
            metavar="NUMBER",
            min=0,
            max=100,
            help="Of the training, at its end, quantization-aware; 30 by default, 0 for none.",
        ),
    ] = None,
    keep: Annotated[
        Literal["best", "last"], typer.Option(help="Weights of the best epoch, or of the last.")
    ] = "best",
    metric: Annotated[
        Literal["accuracy", "loss"],
        typer.Option(help="What makes an epoch the best, as int8 on the validation images."),
    ] = "accuracy",
    continued: Annotated[
        str | None,
        typer.Option("--continue", metavar="MODEL@N", help="Train the weights of this on."),
    ] = None,
    name: Annotated[str | None, typer.Option(metavar="NAME", help="Name of the model.")] = None,
    threads: Annotated[
        int | None,
        typer.Option(
            metavar="NUMBER", min=1, help="Threads; all cores by default, 1 repeats exactly."
        ),
    ] = None,
    background: Background = False,
    on_finish: OnFinish = None,
) -> None:
    """Train a template in full, with all cores, into a new version of a model.

    What is best is judged as int8: in the quantization-aware part after each epoch, without one by
    the int8 files of the best few epochs and the last.

    Ctrl-C ends it after the epoch and keeps what is best so far. The same command goes on with
    what was killed.
    """
    from tuner.cli.epochs import EpochLine
    from tuner.dashboard.terminal import percent
    from tuner.engine.signals import interrupt_on_signals
    from tuner.models.int8_loss import int8_warning
    from tuner.models.retrain import retrain as train_in_full
    from tuner.store.models import find_model
    from tuner.store.runs import check_name
    from tuner.store.templates import read_template
    from tuner.store.work import remove_ended_logs, retraining_log

    plain = None if template is None else read_template(template)
    own = find_model(continued).read().template if plain is None and continued else plain
    model = name or (own.name if own else "")
    if background and model:
        check_name("model", model)
        arguments = [word for word in sys.argv[1:] if word != "--background"]
        remove_ended_logs(model)
        unnamed = retraining_log(model, os.getpid())
        process = start(arguments, unnamed)
        log = unnamed.rename(retraining_log(model, process.pid))
        print_started(process, model, log)
        return
    interrupt_on_signals()
    line = EpochLine(sys.stderr, shutil.get_terminal_size().columns)
    with finishing(on_finish, model):
        try:
            folder = train_in_full(
                plain,
                data=data,
                epochs=epochs,
                minutes=minutes,
                max_train_minutes=max_train_minutes,
                patience_percent=patience_percent,
                steady_epochs=steady_epochs,
                quantization_percent=quantization_percent,
                learning_rate=learning_rate,
                batch_size=batch_size,
                schedule=schedule,
                keep=keep,
                metric=metric,
                continued=continued,
                threads=threads,
                name=name,
                on_progress=line.show,
                on_note=line.note,
            )
        finally:
            line.end()
    version = folder.read()
    aware = version.quantization
    print(
        f"{version.name}@{version.version}: {version.epochs} epochs in "
        f"{version.train_seconds:.0f} s"
        + (
            f", {aware.epochs} of them quantization-aware in {aware.train_seconds:.0f} s"
            if aware
            else ""
        )
        + (", stopped" if version.stopped else "")
    )
    for text in _scored(version):
        print(textwrap.fill(text, 80, initial_indent="  ", subsequent_indent="    "))
    for precision, build in version.builds.items():
        splits = ", ".join(
            f"{split} {percent(accuracy, error=True)} %"
            for split, accuracy in build.accuracy.items()
        )
        print(f"  {precision:<8} {splits}  ({build.size_bytes} bytes)")
        if build.recipe:
            indent = " " * 11
            print(textwrap.fill(build.recipe, 80, initial_indent=indent, subsequent_indent=indent))
    if warning := int8_warning(version):
        line.note(f"Warning: {warning}")
    print(f"Next: tune export {version.name}@{version.version} --to tflite")


def _scored(version: ModelVersion) -> Iterator[str]:
    """The best epoch and the last, as they did on the validation images; which was kept."""
    last = max(item.epoch for item in version.scored)
    keeps_last = version.retraining is not None and version.retraining.keep == "last"
    kept = last if keeps_last else version.best_epoch
    for item in version.scored:
        names = [
            name
            for name, epoch in (("best", version.best_epoch), ("last", last))
            if epoch == item.epoch
        ]
        if names:
            yield (
                f"epoch {item.epoch}, the {' and '.join(names)}: "
                + "; ".join(
                    f"{precision} {100 * accuracy:.1f} %, loss {item.loss[precision]:.3f}"
                    for precision, accuracy in sorted(item.accuracy.items(), reverse=True)
                )
                + (", kept" if item.epoch == kept else "")
            )
