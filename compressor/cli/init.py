"""``compress init``: a commented config file to start from."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from compressor.cli.command import Ask, command
from compressor.cli.options import SETTINGS
from compressor.errors import UsageError

if TYPE_CHECKING:
    from compressor.config.layers import Resolved

EXAMPLES = (
    "compress init mine.toml",
    "compress init mine.toml -m kd -t resnet32x4 -s resnet8x4 -d torch/cifar100",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "init", examples=EXAMPLES, settings=SETTINGS)(init)


def init(
    ask: Ask,
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The TOML file to write; it must not exist.")],
) -> None:
    """Write a commented config file: every setting with its value, of a recipe or of the options given.

    Change what you like, then: compress distill --config FILE.
    """
    from compressor.storage import write_text

    if file.exists() or file.is_symlink():
        raise UsageError(f"{file} is already there", hint="choose another name, or remove it")
    write_text(file, commented(ask.given.resolved(), file))
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, "file": str(file)})
    else:
        ask.output.result(str(file))


def commented(resolved: "Resolved", file: Path) -> str:
    """Return the settings as TOML with what each means, or else where its value came from."""
    from compressor.config.document import to_toml

    meanings = {setting.key: setting.help for setting in SETTINGS}
    section = ""
    lines = [f"# compress distill --config {file}"]
    for line in to_toml(resolved.config, resolved.origins).splitlines():
        if line.startswith("["):
            section = line.strip("[]") + "."
        key, equals, _ = line.partition(" = ")
        if equals and section + key in meanings:
            value, _, origin = line.rpartition("  # ")
            line = f"{value}  # {meanings[section + key]} ({origin})"
        lines.append(line)
    return "\n".join(lines) + "\n"
