"""`tune retrain TEMPLATE`: full training, a new model version."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer


def retrain(
    template: Annotated[Path, typer.Argument(help="A template of 'tune select', .toml.")],
    data: Annotated[str | None, typer.Option(help="Other data than the template's.")] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Other epochs than the template's.")
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the model.")] = None,
    threads: Annotated[
        int | None, typer.Option(min=1, help="Threads; all cores by default, 1 repeats exactly.")
    ] = None,
) -> None:
    """Train a template in full, with all cores, into a new version of a model."""
    from tuner.cli.run import interrupt_on_signals
    from tuner.cli.show import percent
    from tuner.models.retrain import retrain as train_in_full
    from tuner.store.templates import read_template

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

    folder = train_in_full(
        read_template(template),
        data=data,
        epochs=epochs,
        threads=threads,
        name=name,
        on_progress=show,
        on_note=lambda text: print(text, file=sys.stderr),
    )
    if terminal:
        print(file=sys.stderr)
    version = folder.read()
    print(
        f"{version.name}@{version.version}: {version.epochs} epochs in "
        f"{version.train_seconds:.0f} s, best at epoch {version.best_epoch}"
    )
    for precision, build in version.builds.items():
        splits = ", ".join(
            f"{split} {percent(accuracy, error=True)} %"
            for split, accuracy in build.accuracy.items()
        )
        print(f"  {precision:<8} {splits}  ({build.size_bytes} bytes)")
    print(f"Next: tune export {version.name}@{version.version} --to tflite")
