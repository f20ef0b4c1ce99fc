"""Templates as TOML files that people edit."""

from __future__ import annotations

from pathlib import Path

from tuner.errors import SpecError
from tuner.spec import Template, from_plain, to_plain
from tuner.store.toml import read_toml, write_toml


def write_template(path: Path, template: Template, card: str) -> None:
    """Write a template under its card, a comment that says what the candidate reached."""
    write_toml(path, to_plain(template), card)


def read_template(path: Path) -> Template:
    """Read a template.

    Raises:
        SpecError: it is missing, not TOML, or a field or layer is wrong.
    """
    plain = read_toml(path)
    template = from_plain(Template, plain, str(path))
    try:
        template.as_candidate  # noqa: B018 - checks that the input fits the preprocessing
    except SpecError as error:
        raise SpecError(f"{path}: {error}") from None
    return template
