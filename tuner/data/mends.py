"""Commands that mend how images are packed: new folders of links; originals stay as they are."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from tuner.data.tree import Tree, ZipTree, join, readable


@dataclass(frozen=True, slots=True)
class Packing:
    """A layout that was recognised.

    Args:
        found: what it is, as sentences, with the count of images that the mend leaves out.
        mend: what to do; a command where there is one.
    """

    found: str
    mend: str


def inside(tree: Tree, folder: str) -> str:
    """The command that opens a folder of the tree."""
    return f"{unpacked(tree)}tune data check {shell(tree, folder)}"


def linked(tree: Tree, folders: Mapping[str, str]) -> str:
    """The command that makes a folder of links, named by the keys, to folders of the tree."""
    new = new_folder(tree)
    # mkdir without -p fails on a second run, where ln would follow the links into the originals.
    links = "".join(f"ln -s {shell(tree, path)} {new}/{name} && " for name, path in folders.items())
    return f"{unpacked(tree)}mkdir {new} && {links}tune data check {new}"


def leaves_out(tree: Tree, kept: int) -> str:
    """A sentence on the images that a command does not take along; empty if it takes all."""
    images = len(tree.walk(tree.top))
    if kept >= images:
        return ""
    return f" The command below leaves out {images - kept} of {images} images."


def unpacked(tree: Tree) -> str:
    """What goes before a command that needs files on disk."""
    if not isinstance(tree, ZipTree):
        return ""
    return f"unzip -q {shlex.quote(tree.where)} -d {shlex.quote(_stem(tree))} && "


def shell(tree: Tree, path: str) -> str:
    """A path of the tree as a word of a command, once it is unpacked."""
    if isinstance(tree, ZipTree):
        return shlex.quote(join(_stem(tree), path))
    return shlex.quote(tree.shown(path))


def new_folder(tree: Tree) -> str:
    """The folder that commands make, as a word of a command."""
    return shlex.quote(f"{_stem(tree)}-sorted")


def words(names: Sequence[str]) -> str:
    """Names as words of a command."""
    return " ".join(shlex.quote(name) for name in names)


def listed(names: Sequence[str]) -> str:
    """Names for people, the first five of them."""
    shown = [readable(name) for name in names[:5]]
    return ", ".join([*shown, f"{len(names) - 5} more"] if len(names) > 5 else shown)


def _stem(tree: Tree) -> str:
    return (
        str(PurePosixPath(tree.where).with_suffix("")) if isinstance(tree, ZipTree) else tree.where
    )
