"""Turn spec dataclasses into plain JSON types and back, with errors that name the field."""

from __future__ import annotations

import dataclasses
import difflib
import functools
import types
import typing
from collections.abc import Mapping
from typing import Any, TypeVar

from tuner.errors import SpecError

T = TypeVar("T")


def to_plain(value: Any) -> Any:
    """Return `value` as dicts, lists, strings, numbers, booleans and None."""
    if hasattr(value, "__to_plain__"):
        return value.__to_plain__()
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {
            field.name: to_plain(getattr(value, field.name)) for field in dataclasses.fields(value)
        }
    if isinstance(value, Mapping):
        return {str(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, tuple | list):
        return [to_plain(item) for item in value]
    return value


def from_plain(cls: type[T], data: Any, where: str) -> T:
    """Build `cls` from plain data.

    Args:
        cls: a spec dataclass.
        data: what `to_plain` gave, or what a person wrote.
        where: names the source in errors, for example ``targets/my.toml``.

    Raises:
        SpecError: a field is missing, unknown or of the wrong type.
    """
    return typing.cast(T, _convert(cls, data, where))


def _convert(expected: Any, data: Any, where: str) -> Any:
    origin = typing.get_origin(expected)
    arguments = typing.get_args(expected)
    if expected is Any:
        return data
    if origin in (types.UnionType, typing.Union):
        if data is None and type(None) in arguments:
            return None
        return _convert(next(item for item in arguments if item is not type(None)), data, where)
    if origin is typing.Literal:
        if data not in arguments:
            options = ", ".join(repr(item) for item in arguments)
            raise SpecError(f"{where}: expected one of {options}. Received: {data!r}.")
        return data
    if origin is tuple:
        if not isinstance(data, list | tuple):
            raise SpecError(f"{where}: expected a list. Received: {data!r}.")
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            return tuple(
                _convert(arguments[0], item, f"{where}[{index}]") for index, item in enumerate(data)
            )
        if len(data) != len(arguments):
            raise SpecError(f"{where}: expected {len(arguments)} entries. Received: {data!r}.")
        return tuple(
            _convert(kind, item, f"{where}[{index}]")
            for index, (kind, item) in enumerate(zip(arguments, data, strict=True))
        )
    if isinstance(origin, type) and issubclass(origin, Mapping):
        if not isinstance(data, Mapping):
            raise SpecError(f"{where}: expected a table of names and values. Received: {data!r}.")
        return {
            str(key): _convert(arguments[1], item, f"{where}.{key}") for key, item in data.items()
        }
    if hasattr(expected, "__from_plain__"):
        return expected.__from_plain__(data, where)
    if dataclasses.is_dataclass(expected):
        return convert_fields(typing.cast(type, expected), data, where)
    return _scalar(expected, data, where)


def _scalar(expected: Any, data: Any, where: str) -> Any:
    if expected is float and isinstance(data, int) and not isinstance(data, bool):
        return float(data)
    if isinstance(data, expected) and not (isinstance(data, bool) and expected is not bool):
        # A subclass (tomlkit's Integer, String) becomes the plain type it stands for.
        return data if expected is bool else expected(data)
    words = {int: "a whole number", float: "a number", str: "a text", bool: "true or false"}
    raise SpecError(f"{where}: expected {words.get(expected, expected)}. Received: {data!r}.")


@functools.cache
def _hints(cls: type[Any]) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def convert_fields(cls: type[T], data: Any, where: str) -> T:
    """Build the dataclass `cls` field by field; see `from_plain`."""
    if not isinstance(data, Mapping):
        raise SpecError(f"{where}: expected a table of fields. Received: {data!r}.")
    fields = {field.name: field for field in dataclasses.fields(cls)}  # type: ignore[arg-type]
    hints = _hints(typing.cast(Any, cls))
    for name in data:
        if name not in fields:
            close = difflib.get_close_matches(str(name), fields, n=1)
            hint = f" Did you mean '{close[0]}'?" if close else ""
            raise SpecError(
                f"{where}: unknown field '{name}'.{hint} Known fields: {', '.join(fields)}."
            )
    values = {}
    for name, field in fields.items():
        if name in data:
            values[name] = _convert(hints[name], data[name], f"{where}: {name}")
        elif field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING:
            raise SpecError(f"{where}: the field '{name}' is missing; it has to be given.")
    try:
        return cls(**values)
    except SpecError as error:
        raise SpecError(f"{where}: {error}") from None
