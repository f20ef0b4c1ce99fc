"""Names -> files: targets, search spaces, tasks, runtimes and exporters.

One file adds one; its stem is its name. Each kind has a folder of its own name, looked for in the
current folder, then in each entry of `$TUNE_PATH`, then in what the package carries; the first
file of a name wins.

What counts: `*.toml` for targets, `*.py` for the rest. Names that begin with `_` are skipped, and
so is a module whose text does not define what its kind needs (`MARKERS`): that leaves out helper
modules, such as the interpreter that several runtimes share, without importing anything.
"""

from __future__ import annotations

import hashlib
import importlib
import importlib.util
import os
import re
import sys
import tomllib
import traceback
from collections.abc import Iterator
from importlib import resources
from pathlib import Path
from types import ModuleType
from typing import Literal, cast, get_args

from tuner.errors import SpecError, TuneError, UnknownNameError
from tuner.spec import SearchSpace, Target, from_plain

Kind = Literal["targets", "search_spaces", "tasks", "runtimes", "exporters"]
ModuleKind = Literal["search_spaces", "tasks", "runtimes", "exporters"]

KINDS: tuple[Kind, ...] = get_args(Kind)

MARKERS: dict[ModuleKind, tuple[str, ...]] = {
    "search_spaces": ("draw",),
    "tasks": (),
    "runtimes": ("KERNELS", "cost"),
    "exporters": (),
}
"""Names that a file defines at its top level (or imports there) to be an entry of its kind."""

# The packages whose modules are the bundled entries, imported the usual way.
_PACKAGES: dict[Kind, str] = {
    "targets": "tuner._bundled.targets",
    "search_spaces": "tuner._bundled.search_spaces",
    "tasks": "tuner.tasks",
    "runtimes": "tuner.runtimes",
    "exporters": "tuner.exporters",
}


def names(kind: Kind) -> dict[str, Path]:
    """The entries of a kind and their files, sorted by name; none is opened as a module."""
    found: dict[str, Path] = {}
    for folder in _folders(kind):
        for path in sorted(folder.glob("*.toml" if kind == "targets" else "*.py")):
            if path.stem not in found and _is_entry(kind, path):
                found[path.stem] = path
    return dict(sorted(found.items()))


def load_target(name_or_path: str) -> Target:
    """Read a target.

    Args:
        name_or_path: a name of the catalog; or a path, if it ends in `.toml` or contains a
            separator. In a file given by path the `name` is free.

    Raises:
        UnknownNameError: no such name.
        SpecError: the file cannot be read, is not TOML, or has a missing, unknown or wrong field.
    """
    is_path = name_or_path.endswith(".toml") or any(
        separator in name_or_path for separator in (os.sep, os.altsep) if separator
    )
    if is_path:
        path = Path(name_or_path).expanduser()
    else:
        known = names("targets")
        if name_or_path not in known:
            raise UnknownNameError(
                "target", name_or_path, known, f"Or add targets/{name_or_path}.toml."
            )
        path = known[name_or_path]
    target = from_plain(Target, _read_toml(path), str(path))
    if not is_path and target.name != path.stem:
        raise SpecError(
            f"{path}: expected name = '{path.stem}', as the file is called. "
            f"Received: name='{target.name}'."
        )
    return target


def load_runnable_target(name_or_path: str) -> Target:
    """Read a target and look its runtime and kernels up.

    Raises:
        UnknownNameError: no such name.
        SpecError: as `load_target` and `check_runtime`.
    """
    target = load_target(name_or_path)
    check_runtime(target, str(names("targets").get(name_or_path, name_or_path)))
    return target


def load_targets() -> tuple[dict[str, Target], list[SpecError]]:
    """All targets by name, and what is wrong with the files of others."""
    loaded: dict[str, Target] = {}
    broken: list[SpecError] = []
    for name in names("targets"):
        try:
            loaded[name] = load_target(name)
        except SpecError as error:
            broken.append(error)
    return loaded, broken


def is_carried(target: Path) -> bool:
    """Whether a target's file is one of the package's own, which its tests check."""
    checkout = Path(__file__).resolve().parent.parent / "targets"
    return target.resolve().parent in (checkout, *_package_folders(_PACKAGES["targets"]))


def check_runtime(target: Target, where: str) -> None:
    """Look up the runtime and the kernels that a target names.

    Args:
        target: the device.
        where: names its source in errors.

    Raises:
        SpecError: there is no such runtime, or it does not have the kernels.
    """
    try:
        kernels = load_module("runtimes", target.runtime).KERNELS
        if target.kernels not in kernels:
            of = f"These are the kernels of the runtime '{target.runtime}'."
            raise UnknownNameError("kernels", target.kernels, kernels, of)
    except UnknownNameError as error:
        raise SpecError(f"{where}: {error}") from None


def load_module(kind: ModuleKind, name: str) -> ModuleType:
    """Import the entry `name` of a kind; a second call returns the same module.

    Bundled entries are imported under the name they have in the package, others from their file
    under a name that depends on its path alone.

    Raises:
        UnknownNameError: no such name.
        SpecError: a drop-in file raises while it is imported; names its line.
    """
    known = names(kind)
    if name not in known:
        word = kind.removesuffix("s").replace("_", " ")
        raise UnknownNameError(word, name, known, f"Or add {kind}/{name}.py.")
    path = known[name]
    package = _PACKAGES[kind]
    if importlib.util.find_spec(package) and path.parent in _package_folders(package):
        return importlib.import_module(f"{package}.{name}")
    return _import_file(kind, path.resolve())


def load_space(name: str) -> SearchSpace:
    """Import a search space.

    Raises:
        UnknownNameError: no such space.
        SpecError: its file raises while it is imported, or lacks a function.
    """
    module = load_module("search_spaces", name)
    _check_functions(module, name, "search space", ("draw", "starting_points"), "own-space.md")
    return cast(SearchSpace, module)


def load_exporter(name: str) -> ModuleType:
    """Import an exporter; see `tuner.exporters.Exporter`.

    Raises:
        UnknownNameError: no such exporter.
        SpecError: its file raises while it is imported, or lacks a function.
    """
    module = load_module("exporters", name)
    _check_functions(module, name, "exporter", ("export", "run"), "own-exporter.md")
    return module


def _check_functions(
    module: ModuleType, name: str, word: str, functions: tuple[str, ...], guide: str
) -> None:
    for function in functions:
        if not hasattr(module, function):
            raise SpecError(
                f"Expected the {word} '{name}' ({module.__file__}) to define "
                f"'{function}'; see docs/guides/{guide}."
            )


def _folders(kind: Kind) -> Iterator[Path]:
    entries = [entry for entry in os.environ.get("TUNE_PATH", "").split(os.pathsep) if entry]
    for root in (Path(), *(Path(entry).expanduser() for entry in entries)):
        yield root / kind
    carried = _package_folders(_PACKAGES[kind])
    yield from carried
    checkout = Path(__file__).resolve().parent.parent / kind
    # An editable install or a plain checkout has no bundled files: they lie beside the package.
    if kind in ("targets", "search_spaces") and checkout not in carried:
        yield checkout


def _package_folders(package: str) -> list[Path]:
    try:
        folder = resources.files(package)
    except ModuleNotFoundError:
        return []
    # A package without __init__.py is a MultiplexedPath over its folders.
    parts = getattr(folder, "_paths", [folder])
    return [Path(str(part)) for part in parts]


def _is_entry(kind: Kind, path: Path) -> bool:
    if path.stem.startswith("_") or not path.is_file():
        return False
    if kind == "targets":
        return True
    text = path.read_text(encoding="utf-8", errors="replace")
    return all(
        re.search(rf"^(?:def {name}\b|{name}\b\s*[:=]|from .+ import .*\b{name}\b)", text, re.M)
        for name in MARKERS[kind]
    )


def _read_toml(path: Path) -> dict[str, object]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise SpecError(f"{path}: there is no such file.") from None
    except IsADirectoryError:
        raise SpecError(f"{path}: expected a TOML file. Received a folder.") from None
    except UnicodeDecodeError as error:
        raise SpecError(f"{path}: expected UTF-8 text. Byte {error.start} is not.") from None
    except tomllib.TOMLDecodeError as error:
        raise SpecError(f"{path}: not a TOML file: {error}.") from None
    except OSError as error:
        raise SpecError(f"{path}: cannot be read: {error.strerror}.") from None


def _import_file(kind: ModuleKind, path: Path) -> ModuleType:
    digest = hashlib.sha256(str(path).encode()).hexdigest()[:8]
    module_name = f"tuner_dropin_{kind}_{path.stem.replace('-', '_')}_{digest}"
    if module_name in sys.modules:
        return sys.modules[module_name]
    spec = importlib.util.spec_from_file_location(module_name, path)
    if spec is None or spec.loader is None:
        raise SpecError(f"{path}: cannot be imported as Python.")
    module = importlib.util.module_from_spec(spec)
    # Registered first, as `import` does: dataclasses and pickle look their module up by name.
    sys.modules[module_name] = module
    try:
        spec.loader.exec_module(module)
    except Exception as error:
        del sys.modules[module_name]
        reason = getattr(error, "msg", None) or str(error)
        raise SpecError(
            f"{path}, line {line_of(error, path)}: {type(error).__name__}: {reason}."
        ) from error
    return module


def failed_at(word: str, name: str, path: Path, error: Exception) -> str:
    """What to say of an error that the entry `name` raises, with the line of its file."""
    reason = str(error) if isinstance(error, TuneError) else f"{type(error).__name__}: {error}"
    where = f"{path}, line {line_of(error, path)}"
    return f"The {word} '{name}' failed at {where}: {reason.rstrip('.')}."


def line_of(error: Exception, path: Path) -> int:
    """The last line of the drop-in that the error passed through."""
    if isinstance(error, SyntaxError) and error.lineno is not None:
        return error.lineno
    lines = [
        frame.lineno
        for frame in traceback.extract_tb(error.__traceback__)
        if frame.filename == str(path) and frame.lineno is not None
    ]
    return lines[-1] if lines else 1
