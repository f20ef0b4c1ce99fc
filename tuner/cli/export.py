"""`tune export MODEL --to FORMAT`: files for the device."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tuner.cli.complete import exporter_names, model_names


def export(
    model: Annotated[
        str,
        typer.Argument(
            metavar="MODEL", help="NAME, NAME@VERSION or latest.", autocompletion=model_names
        ),
    ],
    to: Annotated[
        list[str],
        typer.Option(
            "--to",
            metavar="FORMAT",
            help="Format: tflite, tflite_int16x8, k230, k230_int16, tensorflow, keras or one of "
            "your own; repeatable.",
            autocompletion=exporter_names,
        ),
    ],
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FOLDER",
            help="Folder to write, new or empty; exports/NAME-VERSION, here, by default.",
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Where the data of the model lies now, if no longer where it was trained on.",
        ),
    ] = None,
) -> None:
    """Export a model version; every file is run against the model before it is handed over."""
    import sys

    from tuner.models.export import check_passed
    from tuner.models.export import export as export_model
    from tuner.models.int8_loss import export_warnings, int8_warning
    from tuner.store.files import read_json
    from tuner.store.models import find_model
    from tuner.train.quiet import import_tensorflow

    found = find_model(model)
    version = found.read()
    if warning := int8_warning(version):
        print(f"Warning: {warning}", file=sys.stderr)
    import_tensorflow()
    folder = export_model(found, to, output, data)
    report = read_json(folder / "export_report.json")
    for row in report["artifacts"]:
        print(
            f"{'passed' if row['passed'] else 'FAILED'}  {folder / row['file']}  "
            f"{row['size_bytes']} bytes, {row['correct']}/{row['images']} {row['split']} images "
            f"correct, {row['agreement']:.1%} as the float32 model"
        )
    for warning in export_warnings(version, folder):
        print(f"Warning: {warning}", file=sys.stderr)
    print(f"Beside them: labels.txt, preprocessing.json, export_report.json in {folder}")
    check_passed(folder)
