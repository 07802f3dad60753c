"""Help as plain text: what the command does, examples, then its options in panels. No boxes, no colours."""

import inspect
import textwrap
from collections import defaultdict
from typing import Any

from typer.core import TyperCommand, TyperGroup

from compressor.cli.manner import width
from compressor.cli.options import OUTPUT, PANELS

_INDENT = 26
MAIN, MORE = "Main commands", "More commands"


class PlainCommand(TyperCommand):
    """A command whose help begins with examples; they are the epilog, one a line."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help page."""
        formatter.write(command_help(self, ctx))


class PlainGroup(TyperGroup):
    """The command `compress` itself, or a command with commands of its own."""

    def format_help(self, ctx: Any, formatter: Any) -> None:
        """Write the whole help page."""
        formatter.write(group_help(self, ctx))


def command_help(command: Any, ctx: Any) -> str:
    """Return the help page of a command."""
    params = command.get_params(ctx)
    arguments = [item for item in params if item.param_type_name == "argument"]
    words = [ctx.command_path, *(_argument(item) for item in arguments), "[OPTIONS]"]
    blocks = [_about(command), f"Usage: {' '.join(words)}", _examples(command)]
    if arguments:
        blocks.append(
            _section("Arguments", [(item.metavar or item.name.upper(), item.help or "") for item in arguments])
        )
    return _page([*blocks, *_panels(params)])


def group_help(group: Any, ctx: Any) -> str:
    """Return the help page of a command that has commands."""
    panels: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for name in group.list_commands(ctx):
        command = group.get_command(ctx, name)
        panels[getattr(command, "rich_help_panel", None) or "Commands"].append((name, command.short_help or ""))
    blocks = [_about(group), f"Usage: {ctx.command_path} COMMAND [OPTIONS]", _examples(group)]
    blocks += [_section(title, rows) for title, rows in panels.items()]
    return _page([*blocks, *_panels(group.get_params(ctx))])


def _page(blocks: list[str]) -> str:
    return "\n\n".join(block for block in blocks if block) + "\n"


def _about(command: Any) -> str:
    paragraphs = inspect.cleandoc(command.help or "").split("\n\n")
    return "\n\n".join(textwrap.fill(" ".join(text.split()), _columns()) for text in paragraphs)


def _examples(command: Any) -> str:
    if not command.epilog:
        return ""
    return "Examples:\n" + "\n".join(f"  {line}" for line in inspect.cleandoc(command.epilog).splitlines())


def _panels(params: list[Any]) -> list[str]:
    rows: dict[str, list[tuple[str, str]]] = defaultdict(list)
    for item in params:
        if item.param_type_name == "option" and not item.hidden:
            rows[getattr(item, "rich_help_panel", None) or OUTPUT].append((_names(item), _option_help(item)))
    order = [*(name for name in rows if name not in PANELS), *(name for name in PANELS if name in rows)]
    return [_section(name, rows[name]) for name in order]


def _names(item: Any) -> str:
    short = [name for name in item.opts if not name.startswith("--")]
    long = [name for name in item.opts if name.startswith("--")]
    text = ", ".join([*short, *long]) if short else "    " + ", ".join(long)
    return text if item.is_flag else f"{text} {item.metavar or 'TEXT'}"


def _option_help(item: Any) -> str:
    text = item.help or ""
    return f"{text} [{item.show_default}]" if isinstance(item.show_default, str) else text


def _argument(item: Any) -> str:
    name = item.metavar or item.name.upper()
    name = f"{name}..." if item.nargs != 1 else name
    return name if item.required else f"[{name}]"


def _section(title: str, rows: list[tuple[str, str]]) -> str:
    return "\n".join([f"{title}:", *(_row(left, right) for left, right in rows)])


def _row(left: str, right: str) -> str:
    lines = textwrap.wrap(right, _columns() - _INDENT - 2) or [""]
    gap = " " * (_INDENT + 2)
    if len(left) > _INDENT - 2:
        return "\n".join([f"  {left}", *(gap + line for line in lines)])
    return "\n".join([f"  {left:{_INDENT}}{lines[0]}".rstrip(), *(gap + line for line in lines[1:])])


def _columns() -> int:
    import os

    return min(width(os.environ), 100)
