"""`tune compare MODEL@1 MODEL@2`: two versions on the same images."""

from __future__ import annotations

from typing import Annotated, Literal

import typer


def compare(
    first: Annotated[str, typer.Argument(help="NAME, NAME@VERSION or latest.")],
    second: Annotated[str, typer.Argument(help="Another, of the same classes.")],
    input: Annotated[
        str | None,
        typer.Option(help="Labelled images to compare on; the first's test images by default."),
    ] = None,
    format: Annotated[Literal["table", "json"], typer.Option(help="How to write it.")] = "table",
) -> None:
    """Run two model versions on the same images and tell which is better.

    The difference is of pairs: images that only one of them has right.
    """
    import json

    from tuner.models.compare import compare as compare_models
    from tuner.spec import to_plain
    from tuner.store.models import find_model

    told = compare_models(find_model(first), find_model(second), input)
    if format == "json":
        print(json.dumps(to_plain(told), indent=2, ensure_ascii=False))
        return
    one, other = told.models
    images = next(iter(told.pairs.values())).images
    print(f"{images:,} images of {told.source} ({', '.join(told.splits)})\n")
    width = max(len(one), len(other)) + 5
    for precision, pairs in told.pairs.items():
        rows = [
            (one, f"{(pairs.both + pairs.first) / images:.1%} right"),
            (other, f"{(pairs.both + pairs.second) / images:.1%} right"),
            (f"only {one}", f"{pairs.first:,} images"),
            (f"only {other}", f"{pairs.second:,} images"),
            ("neither", f"{pairs.neither:,} images"),
        ]
        print(precision)
        for label, value in rows:
            print(f"  {label:<{width}}  {value}")
        gain, error = 100 * pairs.gain, 100 * pairs.gain_error
        sure = "" if abs(gain) > 2 * error else ", within chance"
        side = "behind" if gain < 0 else "ahead"
        print(f"  {other} is {side} by {abs(gain):.2f} ±{error:.2f} points{sure}\n")
