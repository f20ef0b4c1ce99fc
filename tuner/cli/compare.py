"""`tune compare MODEL@1 MODEL@2`: two versions on the same images."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import Annotated, Literal

import typer

from tuner.cli.output import write_output


def compare(
    first: Annotated[str, typer.Argument(metavar="MODEL", help="NAME, NAME@VERSION or latest.")],
    second: Annotated[str, typer.Argument(metavar="OTHER", help="Another, of the same classes.")],
    input: Annotated[
        str | None,
        typer.Option(
            metavar="PATH",
            help="Images to compare on, labelled by their folders or not; the first's test images "
            "by default.",
        ),
    ] = None,
    format: Annotated[
        Literal["table", "json", "html"], typer.Option(help="How to write it.")
    ] = "table",
    output: Annotated[
        Path | None,
        typer.Option(
            "-o",
            "--output",
            metavar="FILE",
            help="The page to write instead of FIRST-SECOND.html; - is stdout.",
        ),
    ] = None,
) -> None:
    """Run two model versions on the same images and tell which is better.

    The difference is of pairs: images that only one of them has right. Of images without a label
    it is counted on how many both say the same. html writes one page that
    opens without a network: the images with what both say, those first on which they differ.
    """
    import json

    from tuner.errors import InputError
    from tuner.models.compare import compare as compare_models
    from tuner.spec import to_plain
    from tuner.store.models import find_model

    if output is not None and (format != "html" or output.is_dir()):
        raise InputError(
            f"Expected -o together with --format html, and a file. Received: --format {format}, "
            f"-o {output}."
        )
    taken = compare_models(find_model(first), find_model(second), input)
    told = taken.comparison
    if format == "html":
        from tuner.dashboard.compare_page import compare_page

        path = output or Path("-".join(told.models).replace("@", "-") + ".html")
        write_output(path, compare_page(taken))
        return
    if format == "json":
        print(json.dumps(to_plain(told), indent=2, ensure_ascii=False))
        return
    splits = f" ({', '.join(told.splits)})" if told.splits else ""
    count = "1 image" if told.images == 1 else f"{told.images:,} images"
    print(f"{count} of {told.source}{splits}")
    for note in told.notes():
        print(textwrap.fill(note, 80))
    print()
    one, other = told.models
    width = max(len(one), len(other)) + 5
    for precision, alike in told.alike.items():
        rows = [("alike", f"{alike:,} of {told.images:,} images, {alike / told.images:.1%}")]
        pairs = told.pairs.get(precision)
        if pairs:
            rows += [
                (one, f"{(pairs.both + pairs.first) / pairs.images:.1%} right"),
                (other, f"{(pairs.both + pairs.second) / pairs.images:.1%} right"),
                (f"only {one}", f"{pairs.first:,} images"),
                (f"only {other}", f"{pairs.second:,} images"),
                ("neither", f"{pairs.neither:,} images"),
            ]
        print(precision)
        for label, value in rows:
            print(f"  {label:<{width}}  {value}")
        if pairs:
            gain, error = 100 * pairs.gain, 100 * pairs.gain_error
            sure = "" if abs(gain) > 2 * error else ", within chance"
            side = "behind" if gain < 0 else "ahead"
            print(f"  {other} is {side} by {abs(gain):.2f} ±{error:.2f} points{sure}")
        print()
