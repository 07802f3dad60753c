"""Writes ``docs/reference/cli.md`` from the application itself: ``python docs/generate_cli.py``."""

import inspect
import sys
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import typer

from compressor.cli.main import application
from compressor.cli.options import OUTPUT, PANELS, SETTINGS, variable
from compressor.config.settings import RunConfig

PAGE = Path(__file__).parent / "reference" / "cli.md"
_HEAD = """# Command line

*This page is generated from the application by `python docs/generate_cli.py`.*

`compress COMMAND --help` shows the same in the terminal. Every option has an environment variable: `--batch-size` is
`COMPRESS_BATCH_SIZE`. What counts, weakest first: defaults, recipes, the user's config file, `--config` files from left
to right, environment variables, options and `--set`. One setting given twice with different values among options and
`--set` is an error. `compress distill --print-config` shows every value and where it came from.

stdout carries the result, stderr the talk. Exit codes are on [their own page](../concepts/exit-codes.md).
"""
_SETTINGS = """## Settings

Every key of a config file and of `--set`. The values are what recipes start from: those that apply by themselves change
some of them, and `compress distill --print-config` shows what comes out. `method.KEY` is a setting of the method that
runs, `method.NAME.KEY` one of method NAME only; the pages of the [methods](../methods/index.md) list them.
[The settings classes](python.md#settings) say what each key means and which values are allowed.
"""


def page() -> str:
    """Return the whole page."""
    root: Any = typer.main.get_command(application())
    context = root.context_class(root, info_name="compress")
    blocks = [_HEAD, _table("## Options of every command", _rows(_shared(root, context)))]
    for path, command in _commands(root, context, "compress"):
        blocks += _of_command(path, command, context)
    return "\n\n".join(block.strip() for block in [*blocks, _SETTINGS, _keys()]) + "\n"


def _commands(group: Any, context: Any, path: str) -> Iterator[tuple[str, Any]]:
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if hasattr(command, "list_commands"):
            yield from _commands(command, context, f"{path} {name}")
        else:
            yield f"{path} {name}", command


def _of_command(path: str, command: Any, context: Any) -> list[str]:
    params = command.get_params(context)
    arguments = [item for item in params if item.param_type_name == "argument"]
    words = [path, *(_argument(item) for item in arguments), "[OPTIONS]"]
    blocks = [f"## {path}", inspect.cleandoc(command.help), f"```\n{' '.join(words)}\n```"]
    blocks.append("Examples:\n\n```\n" + inspect.cleandoc(command.epilog) + "\n```")
    if arguments:
        blocks.append(_table("**Arguments**", [(f"`{item.metavar}`", item.help or "", "") for item in arguments]))
    panels = _by_panel(item for item in params if item.param_type_name == "option")
    return blocks + [_table(f"**{panel}**", _rows(items)) for panel, items in panels.items()]


def _by_panel(options: Any) -> dict[str, list[Any]]:
    """Group options as the terminal's help does; the global ones stand at the head of the page."""
    found: dict[str, list[Any]] = defaultdict(list)
    for item in options:
        panel = getattr(item, "rich_help_panel", None) or "Options"
        if panel != OUTPUT and item.name != "help":
            found[panel].append(item)
    order = [*(name for name in found if name not in PANELS), *(name for name in PANELS if name in found)]
    return {name: found[name] for name in order}


def _shared(root: Any, context: Any) -> list[Any]:
    unique = {}
    for item in root.get_params(context):
        if getattr(item, "rich_help_panel", None) == OUTPUT:
            unique[item.name] = item
    return list(unique.values())


def _rows(options: list[Any]) -> list[tuple[str, str, str]]:
    return [(_names(item), item.help or "", _default(item)) for item in options]


def _names(item: Any) -> str:
    names = sorted([*item.opts, *item.secondary_opts], key=lambda name: name.startswith("--"))
    value = "" if item.is_flag else f" {item.metavar or 'TEXT'}"
    return f"`{', '.join(names)}{value}`"


def _default(item: Any) -> str:
    return item.show_default if isinstance(item.show_default, str) else ""


def _argument(item: Any) -> str:
    name = f"{item.metavar}..." if item.nargs != 1 else str(item.metavar)
    return name if item.required else f"[{name}]"


def _table(title: str, rows: list[tuple[str, str, str]]) -> str:
    head = ["", "Meaning", "Default"] if any(row[2] for row in rows) else ["", "Meaning"]
    lines = [title, "", _line(head), _line(["---"] * len(head))]
    return "\n".join(lines + [_line(list(row[: len(head)])) for row in rows])


def _line(cells: list[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _keys() -> str:
    options = {item.key: item.option for item in SETTINGS}
    lines = [_line(["Key", "Starts as", "Option", "Environment"]), _line(["---"] * 4)]
    for key, value in _start_values():
        option = options.get(key)
        named = ["", ""] if option is None else [f"`--{option}`", f"`{variable(option)}`"]
        lines.append(_line([f"`{key}`", "" if value is None else f"`{_text(value)}`", *named]))
    return "\n".join(lines)


def _start_values() -> Iterator[tuple[str, Any]]:
    start = RunConfig()
    for item in fields(start):
        part = getattr(start, item.name)
        if item.name == "method":
            yield "method.name", part.name
        elif is_dataclass(part):
            yield from ((f"{item.name}.{inner.name}", getattr(part, inner.name)) for inner in fields(part))
        else:
            yield item.name, part


def _text(value: Any) -> str:
    if isinstance(value, tuple):
        return "[" + ", ".join(map(str, value)) + "]"
    return str(value).lower() if isinstance(value, bool) else str(value)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
    sys.stdout.write(f"{PAGE}\n")
