"""TOML files that people read and edit; written and read with tomlkit."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tuner.errors import SpecError
from tuner.store.files import write_atomic


def read_toml(path: Path) -> dict[str, Any]:
    """Read a TOML file as plain data.

    Raises:
        SpecError: it is not there or not TOML.
    """
    import tomlkit
    from tomlkit.exceptions import ParseError

    try:
        return tomlkit.parse(path.read_text(encoding="utf-8")).unwrap()
    except FileNotFoundError:
        raise SpecError(f"Expected a file at {path}; there is none.") from None
    except ParseError as error:
        raise SpecError(f"{path} is not TOML: {error}.") from None
    except (OSError, UnicodeDecodeError) as error:
        raise SpecError(f"{path} cannot be read: {error}.") from None


def write_toml(path: Path, plain: Mapping[str, Any], comment: str) -> None:
    """Write plain data under a comment; None values are left out.

    Lists of tables whose values are all plain are written one table a line.
    """
    import tomlkit

    document = tomlkit.document()
    for line in comment.splitlines():
        document.add(tomlkit.comment(line))
    document.add(tomlkit.nl())
    for key, value in plain.items():
        if value is not None:
            document.add(key, _item(value))
    write_atomic(path, tomlkit.dumps(document))


def edit_toml(source: Path, target: Path, changes: Mapping[str, Any]) -> None:
    """Write `target` as `source` with some keys changed; all else, comments too, stays.

    Args:
        source: a TOML file.
        target: where to write; may be `source`.
        changes: new values by top-level key; a new key goes to the end.

    Raises:
        SpecError: `source` is not there or not TOML.
    """
    import tomlkit

    read_toml(source)  # one place that words what can be wrong with a file
    document = tomlkit.parse(source.read_text(encoding="utf-8"))
    for key, value in changes.items():
        if key not in document and isinstance(value, Mapping):
            document.add(tomlkit.nl())
        document[key] = _item(value)
    write_atomic(target, tomlkit.dumps(document))


def _item(value: Any) -> Any:
    import tomlkit

    if isinstance(value, Mapping):
        table = tomlkit.table()
        for key, item in value.items():
            if item is not None:
                table.add(key, _item(item))
        return table
    if isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
        rows = tomlkit.array()
        rows.multiline(True)
        for item in value:
            row = tomlkit.inline_table()
            row.update({key: field for key, field in item.items() if field is not None})
            rows.append(row)
        return rows
    return tomlkit.item(value)
