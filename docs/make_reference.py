"""Write docs/reference from the commands, targets, spaces and exporters themselves: `make docs`.

The pages are made from data, not from the text of `--help`, whose layout differs between versions
of Python and Typer. A test compares them with what this file would write.
"""

from __future__ import annotations

import ast
import inspect
import os
import re
import types
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo

from tuner.catalog import load_target, names
from tuner.cli.main import app
from tuner.cli.spaces import choice_rows, describe
from tuner.cli.targets import size_text
from tuner.cost.latency_nets import architecture
from tuner.dashboard.terminal import milliseconds
from tuner.engine.costs import costs_on
from tuner.spec import Quantity, Target

ROOT = Path(__file__).resolve().parent.parent
REFERENCE = ROOT / "docs" / "reference"
NOTICE = "<!-- Written by docs/make_reference.py; change the code and run: make docs -->"

NET = "resnet8"
"""The net whose latency stands beside each target: image classification of MLPerf Tiny."""

PLACE = re.compile(r"^([\w.-]+)/([\w.-]+)(/[\w./-]*\w)?|^[a-z]+(\.[a-z]+)*\.(com|org|io)\b")
"""What a source begins with: a repository of GitHub, a page, or a host."""

KIND_WORDS: dict[Any, str] = {str: "text", int: "whole number", float: "number", Path: "path"}


def pages() -> dict[str, str]:
    """Each page by its file name.

    Only what this checkout carries is listed, so the current folder must be its root.
    """
    os.environ.pop("TUNE_PATH", None)
    if Path.cwd() != ROOT:
        raise SystemExit(f"Run it in {ROOT}: the catalog lists the current folder's files, too.")
    return {
        "commands.md": commands_page(),
        "targets.md": targets_page(),
        "spaces.md": spaces_page(),
    }


def commands_page() -> str:
    """All commands with arguments, options, values, defaults and help."""
    commands = list(_commands(app, ("tune",)))
    lines = [
        "# Commands",
        NOTICE,
        "",
        *_table(
            ("command", "does"),
            [(f"[`{name}`](#{_anchor(name)})", _summary(call)) for name, call in commands],
        ),
        "",
        "Every command takes `--help`, and `--debug` for the traceback of an error. Exit codes: 0",
        "done, 1 failed while running, 2 wrong options or data, 3 nothing fits the device, 130",
        "interrupted and resumable. Results go to stdout, progress and notes to stderr.",
    ]
    for name, call in commands:
        lines += ["", f"## {name}", *_described(call), "", f"```\n{_usage(name, call)}\n```"]
        rows = [_parameter_row(*parameter) for parameter in _parameters(call)]
        if rows:
            lines += ["", *_table(("", "value", "default", "what"), rows)]
        if name == "tune export":
            lines += ["", "Formats:", "", *_table(("`--to`", "gives"), _exporters())]
    return "\n".join(lines) + "\n"


def targets_page() -> str:
    """All targets in one table, then the sources of each."""
    targets = [load_target(name) for name in names("targets")]
    net = architecture(NET)
    latencies = {name: cost.latency_ms for name, cost in costs_on(net, targets).items()}
    rows = [_target_row(target, latencies[target.name]) for target in targets]
    titles = ("target", "CPU", "MHz", "RAM", "flash", "runtime", "kernels", "ResNet-8, ms")
    lines = [
        "# Targets",
        NOTICE,
        "",
        "RAM and flash are what a model may use: the memory less what the system takes. The last",
        "column is the estimate for MLPerf Tiny's ResNet-8 (32x32 rgb, int8, 12.5 million MACs),",
        "whether it fits or not, with its 90 % band. A name leads to its sources.",
        "`tune targets show NAME` prints every number; a target of your own is one file:",
        "[own-target.md](../guides/own-target.md).",
        "",
        *_table(titles, rows, right=(2, 3, 4, 7)),
    ]
    for target in targets:
        lines += ["", *_target_section(target, latencies[target.name])]
    return "\n".join(lines) + "\n"


def spaces_page() -> str:
    """The card, starting points and choices of each space."""
    described = [describe(name) for name in names("search_spaces")]
    lines = [
        "# Search spaces",
        NOTICE,
        "",
        *_table(
            ("space", "nets"),
            [(f"[`{row['name']}`](#{row['name']})", _cell(row["card"][0])) for row in described],
        ),
        "",
        "`--space NAME` takes one or several; `auto` is described in [search.md](../search.md).",
        "The options of a choice are those of three devices, from a very small one to one without",
        "limits; a small device and small images have fewer. A space of your own is one file:",
        "[own-space.md](../guides/own-space.md).",
    ]
    for row in described:
        lines += ["", f"## {row['name']}", f"[The file](../../search_spaces/{row['name']}.py)"]
        for paragraph in row["card"]:
            lines += ["", paragraph]
        lines += ["", f"Starting points: {'; '.join(row['starting_points']) or 'none'}.", ""]
        lines += _table(
            ("choice", "options"),
            [(f"`{label}`", _cell(options)) for label, options in choice_rows(row["choices"])],
        )
    return "\n".join(lines) + "\n"


def _commands(group: typer.Typer, path: tuple[str, ...]) -> Iterator[tuple[str, Any]]:
    """Full name and function of a group and of all commands below it, as they were registered."""
    if group.registered_callback is not None:
        yield " ".join(path), group.registered_callback.callback
    for command in group.registered_commands:
        yield " ".join((*path, str(command.name))), command.callback
    for below in group.registered_groups:
        if below.typer_instance is None:
            raise SystemExit(f"Expected the group {below.name} to hold commands. It holds none.")
        yield from _commands(below.typer_instance, (*path, str(below.name)))


def _parameters(call: Any) -> Iterator[tuple[str, Any, ArgumentInfo | OptionInfo, Any]]:
    """Name, type, what Typer is told, and default of each parameter but the context."""
    hints = get_type_hints(call, include_extras=True)
    for parameter in inspect.signature(call).parameters.values():
        if hints[parameter.name] is typer.Context:
            continue
        kind, info = get_args(hints[parameter.name])
        default = parameter.default
        yield parameter.name, kind, info, None if default is parameter.empty else default


def _required(call: Any, name: str) -> bool:
    return inspect.signature(call).parameters[name].default is inspect.Parameter.empty


def _usage(command: str, call: Any) -> str:
    words = [command]
    for name, _, info, _ in _parameters(call):
        if isinstance(info, ArgumentInfo):
            word = info.metavar or name.upper()
            optional = not _required(call, name) and not word.startswith("[")
            words.append(f"[{word}]" if optional else word)
        elif _required(call, name):
            words.append(f"{_flags(name, info)[-1]} {info.metavar or name.upper()}")
    return " ".join((*words, "[OPTIONS]"))


def _parameter_row(
    name: str, kind: Any, info: ArgumentInfo | OptionInfo, default: Any
) -> tuple[str, ...]:
    if isinstance(info, ArgumentInfo):
        shown = f"`{_cell((info.metavar or name.upper()).strip('[].'))}`"
    else:
        shown = ", ".join(f"`{flag}`" for flag in _flags(name, info))
    silent = default in (None, "", False)
    return shown, _value(kind, info), "" if silent else f"`{default}`", _cell(info.help or "")


def _flags(name: str, info: OptionInfo) -> Sequence[str]:
    # In Annotated, the first spelling lands in `default`: Typer's first positional parameter.
    spelled = [word for word in (info.default, *(info.param_decls or ())) if isinstance(word, str)]
    return spelled or [f"--{name.replace('_', '-')}"]


def _value(kind: Any, info: ArgumentInfo | OptionInfo) -> str:
    """What an option takes: its choices, or the kind of its value; nothing for a switch."""
    if get_origin(kind) in (Union, types.UnionType):
        kind = next(part for part in get_args(kind) if part is not type(None))
    if get_origin(kind) is list:
        return f"{_value(get_args(kind)[0], info)}, repeatable"
    if get_origin(kind) is Literal:
        return ", ".join(f"`{choice}`" for choice in get_args(kind))
    if kind is bool:
        return ""
    return KIND_WORDS[kind] + ("" if info.min is None else f", {info.min} or more")


def _described(call: Any) -> list[str]:
    return inspect.cleandoc(call.__doc__).split("\n")


def _summary(call: Any) -> str:
    return _cell(_described(call)[0])


def _exporters() -> list[tuple[str, str]]:
    """Name and first line of each exporter; none is imported, for they need TensorFlow."""
    found = []
    for name, path in names("exporters").items():
        text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
        found.append((f"`{name}`", _cell(" ".join(text.split("\n\n")[0].split()))))
    return found


def _target_row(target: Target, latency: Quantity) -> tuple[str, ...]:
    limits = target.model_limits
    core = target.cpu if target.accelerator == "none" else f"{target.cpu}, {target.accelerator}"
    return (
        f"[`{target.name}`](#{target.name})",
        core,
        f"{target.clock_mhz:g}",
        size_text(limits.ram_bytes or 0),
        size_text(limits.flash_bytes or 0),
        f"`{target.runtime}`",
        f"`{target.kernels}`",
        _band(latency),
    )


def _band(latency: Quantity) -> str:
    low, value, high = map(milliseconds, (latency.low, latency.value, latency.high))
    return f"{value} ({low} to {high})"


def _target_section(target: Target, latency: Quantity) -> list[str]:
    lines = [
        f"## {target.name}",
        f"{target.title}: [the file](../../targets/{target.name}.toml). {target.note}".rstrip(),
        "",
    ]
    lines += [f"- `{field}`: {_linked(source)}" for field, source in target.sources.items()]
    lines.append(f"- latency: {latency.basis}")
    return lines


def _linked(source: str) -> str:
    """A source with a link where it names a repository of GitHub, `owner/name`, or a page."""
    parts = re.split(r"(; | and (?=github\.com))", source.replace(" / ", "/"))
    return "".join(PLACE.sub(_link, part) for part in parts)


def _link(found: re.Match[str]) -> str:
    text = found.group()
    is_host = "." in text.split("/")[0]
    return f"[{text}](https://{'' if is_host else 'github.com/'}{text})"


def _table(
    titles: Sequence[str], rows: Sequence[Sequence[str]], *, right: Sequence[int] = ()
) -> list[str]:
    rule = ["--:" if column in right else "---" for column in range(len(titles))]
    return [f"| {' | '.join(row)} |" for row in (titles, rule, *rows)]


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _anchor(heading: str) -> str:
    return heading.replace(" ", "-")


if __name__ == "__main__":
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
        print(f"Written: docs/reference/{name}")
