"""``compress convert``: foreign weights to safetensors, reading nothing but weights."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.command import Ask, command

EXAMPLES = ("compress convert teacher.pth teacher.safetensors",)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "convert", examples=EXAMPLES)(convert)


def convert(
    ask: Ask,
    source: Annotated[Path, typer.Argument(metavar="FILE.pth", help="A .pth, .pt, .bin, .tar or .safetensors file.")],
    target: Annotated[Path, typer.Argument(metavar="OUT.safetensors", help="The file to write; it must not exist.")],
) -> None:
    """Convert a foreign checkpoint to safetensors; a file that holds more than weights is refused."""
    from compressor.weights import convert as convert_file

    count = convert_file(source, target)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, "file": str(target), "tensors": count})
        return
    ask.output.talk(f"{count} tensors")
    ask.output.result(str(target))
