"""Hand model versions on through a folder, or a store that fsspec knows, with checksums."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from tuner.engine.transfer import begun_with, install
from tuner.errors import InputError, TuneError
from tuner.spec import ModelVersion, Origin, from_plain
from tuner.store.models import ModelFolder, new_version, write_version

CHECKSUMS = "checksums.json"
"""SHA-256 of each file of a published version, written last: without it nothing was published."""

BACKBONE = "backbone.npz"
"""The weights that the training of a published version's template begins with, if with any."""


def publish(
    model: ModelFolder, place: str, on_note: Callable[[str], None] = lambda text: None
) -> str:
    """Copy a version to `PLACE/NAME/VERSION/`, and return that address.

    Args:
        model: the version.
        place: a folder, or an address such as `s3://bucket/models`.
        on_note: called with a line that the user should read.

    Raises:
        InputError: it was published there before, or the place is of an unknown kind.
        TuneError: it could not be written.
    """
    name, _, number = model.reference.partition("@")
    with _opened(place) as (files, root):
        folder = f"{root}/{name}/{number}"
        if files.exists(f"{folder}/{CHECKSUMS}"):
            raise InputError(
                f"{model.reference} is published at {place} already; versions are never "
                "overwritten. Retrain for a new version, or name another place."
            )
        files.makedirs(folder, exist_ok=True)
        paths = {path.name: path for path in sorted(model.path.iterdir()) if path.is_file()}
        template = model.read().template
        if template.training.weights:
            try:
                paths[BACKBONE] = begun_with(template)
            except InputError as error:
                on_note(f"Published without what its training began with. {error}")
        sums = {}
        for file, path in paths.items():
            content = path.read_bytes()
            sums[file] = hashlib.sha256(content).hexdigest()
            files.pipe_file(f"{folder}/{file}", content)
        files.pipe_file(f"{folder}/{CHECKSUMS}", json.dumps(sums, indent=2).encode())
    return f"{place.rstrip('/')}/{name}/{number}"


def get(place: str, reference: str, name: str | None = None) -> ModelFolder:
    """Fetch `NAME@VERSION`, or the newest of NAME, as the next version here.

    Args:
        place: that it was published to.
        reference: of the version there.
        name: of the model here; None for the same.

    Raises:
        InputError: there is no such version, or the place is of an unknown kind.
        TuneError: a file is missing or damaged.
    """
    wanted, _, number = reference.partition("@")
    with _opened(place) as (files, root):
        folder = f"{root}/{wanted}"
        known = sorted(
            int(path.rstrip("/").rpartition("/")[2])
            for path in (files.ls(folder, detail=False) if files.exists(folder) else ())
            if path.rstrip("/").rpartition("/")[2].isdigit()
            and files.exists(f"{path.rstrip('/')}/{CHECKSUMS}")
        )
        if not known or (number and number not in map(str, known)):
            there = ", ".join(f"{wanted}@{version}" for version in known) or "none of that name"
            raise InputError(f"Expected a version published at {place}: {there}. "
                             f"Received: {reference}.")  # fmt: skip
        folder += f"/{number or known[-1]}"
        again = (
            f"Publish it again from where it was made; first remove {wanted}/"
            f"{number or known[-1]} there."
        )
        contents = {}
        for file, expected in _checksums(files.cat_file(f"{folder}/{CHECKSUMS}")).items():
            try:
                contents[file] = files.cat_file(f"{folder}/{file}")
            except FileNotFoundError:
                raise TuneError(f"{file} of {reference} is missing at {place}. {again}") from None
            if hashlib.sha256(contents[file]).hexdigest() != expected:
                raise TuneError(
                    f"{file} of {reference} at {place} is damaged: its checksum differs. {again}"
                )
    if "model.json" not in contents:
        raise TuneError(
            f"{CHECKSUMS} of {reference} at {place} is damaged: it does not name model.json. "
            f"{again}"
        )
    version = from_plain(ModelVersion, json.loads(contents["model.json"]), "model.json")
    before = version.origin.parent if version.origin else None
    name = name or version.name
    version = replace(
        version,
        name=name,
        template=replace(version.template, name=name),  # of what is trained on from it
        parent=None,
        origin=Origin(reference=f"{wanted}@{number or known[-1]}", parent=version.parent or before),
    )
    with new_version(
        version.name, f"get-{hashlib.sha256(folder.encode()).hexdigest()[:12]}"
    ) as path:
        for file, content in contents.items():
            if file != "model.json":
                (path / Path(file).name).write_bytes(content)
        if BACKBONE in contents:
            install(path / BACKBONE, version.template.training.weights)
            (path / BACKBONE).unlink()
        return write_version(path, version)


def _checksums(content: bytes) -> dict[str, str]:
    """By file; none where they cannot be read."""
    try:
        sums = json.loads(content)
    except ValueError:
        return {}
    return sums if isinstance(sums, dict) else {}


@contextmanager
def _opened(place: str) -> Iterator[tuple[Any, str]]:
    """The file system of an address, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        files, root = url_to_fs(place)
    except (ImportError, ValueError) as error:
        raise InputError(
            f"Expected a folder, or an address whose kind fsspec knows. Received: {place}. {error}."
        ) from None
    try:
        yield files, str(root).rstrip("/")
    except OSError as error:
        raise TuneError(f"{place} cannot be read or written: {error}.") from None
