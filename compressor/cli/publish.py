"""``compress publish``: write the folder that anybody with timm can load."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.command import Ask, command
from compressor.errors import UsageError

EXAMPLES = (
    "compress publish runs/NAME --to my-student",
    "compress publish runs/NAME --to my-student --onnx --license apache-2.0",
    "compress publish runs/NAME --push organisation/name --yes",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "publish", examples=EXAMPLES)(publish)


def publish(
    ask: Ask,
    run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a finished run, or of a published student.")],
    to: Annotated[
        Path | None, typer.Option("--to", metavar="DIR", help="Folder to write.", show_default="RUN/student")
    ] = None,
    push: Annotated[
        str | None, typer.Option("--push", metavar="ORG/NAME", help="Upload it to the hub as one commit.")
    ] = None,
    onnx: Annotated[bool, typer.Option("--onnx", help="Write model.onnx as well.")] = False,
    license: Annotated[  # noqa: A002  # the option's name
        str | None, typer.Option("--license", metavar="ID", help="Of the weights, for the model card.")
    ] = None,
    yes: Annotated[bool, typer.Option("--yes", "-y", help="Do not ask before the upload.")] = False,
) -> None:
    """Publish a finished student as safetensors that plain timm loads.

    The folder appears only after a fresh Python process has loaded it with equal answers.
    """
    if push is not None and not yes:
        _ask(push)
    from compressor.api import publish as publish_run

    folder = publish_run(run, to, push=push, onnx=onnx, license=license)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, "folder": str(folder), "pushed": push})
    else:
        ask.output.result(str(folder))


def _ask(repository: str) -> None:
    """Ask before anything leaves this machine.

    Raises:
        UsageError: nobody is there to answer, or the answer is no.
    """
    if not sys.stdin.isatty():
        raise UsageError(f"--push {repository} uploads; nobody is here to confirm it", hint="add --yes")
    if not typer.confirm(f"Upload to {repository}?", err=True):
        raise UsageError("not uploaded", hint="--to DIR writes a folder only")
