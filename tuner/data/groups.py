"""Images that belong together, such as frames of one video, by their file names."""

from __future__ import annotations

import re
from collections.abc import Sequence

from tuner.errors import DataError


def group_names(pattern: str, paths: Sequence[str], where: str) -> list[str] | None:
    """The group of each image: what the first group of a regular expression matches.

    Args:
        pattern: searched for in each path; empty for no groups.
        paths: below the class's folder, with `/`.
        where: the source, for errors.

    Returns:
        A name each, empty where the pattern is not found, so that an image is on its own; None
        without a pattern.

    Raises:
        DataError: it is no pattern with a group, or no path matches.
    """
    if not pattern:
        return None
    expected = (
        "Expected a regular expression for --group-by (group_by in a template) whose first group "
        "in brackets names what belongs together, such as '^(.+)_[0-9]+'."
    )
    try:
        compiled = re.compile(pattern)
    except re.error as error:
        raise DataError(f"{expected} Received: {pattern!r}, which is none ({error}).") from None
    if not compiled.groups:
        raise DataError(f"{expected} Received: {pattern!r}, without a group. Add brackets.")
    matches = (compiled.search(path) for path in paths)
    names = [(match.group(1) or "") if match else "" for match in matches]
    if not any(names):
        raise DataError(
            f"{expected} Received: {pattern!r}, which names no group in any of {len(paths)} names "
            f"of {where}, for example {paths[0]!r}. Change or leave out the pattern."
        )
    return names


def no_groups(pattern: str, where: str) -> None:
    """Refuse a pattern for data without file names.

    Raises:
        DataError: there is a pattern.
    """
    if pattern:
        raise DataError(
            f"Expected a folder or a zip of image files for --group-by. Received: {where}, whose "
            "images have no file names. Leave it out, or save the images as files."
        )
