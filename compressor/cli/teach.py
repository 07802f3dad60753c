"""``compress teach``: train or import a teacher into the bank."""

from pathlib import Path
from typing import Annotated

import typer

from compressor.cli.command import Ask, command
from compressor.cli.options import RUN, SCENARIO, moved, without

EXAMPLES = (
    "compress teach -t resnet32x4 -d digits",
    "compress teach -t wrn_40_2 -d torch/cifar100 --data-dir data --weights teacher.pth",
)
_OF_STUDENTS = ("augmentation-pool", "replay-limit", "watch-test")
_SETTINGS = moved(
    without("teacher-weights", "student", "student-init", "method", *SCENARIO, "seed", "processes", *_OF_STUDENTS),
    "training",
    "teacher_training",
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "teach", examples=EXAMPLES, settings=_SETTINGS)(teach)


def teach(
    ask: Ask,
    weights: Annotated[
        Path | None,
        typer.Option(
            "--weights", metavar="PATH", help="Import these weights instead of training.", rich_help_panel=RUN
        ),
    ] = None,
    fresh: Annotated[bool, typer.Option("--fresh", rich_help_panel=RUN, help="Train it anew.")] = False,
    print_config: Annotated[
        bool, typer.Option("--print-config", rich_help_panel=RUN, help="Print each setting and where it comes from.")
    ] = False,
) -> None:
    """Train a teacher, or import one, into the bank.

    `distill` and `compare` do this by themselves when the bank has none.
    """
    from compressor.cli.listeners import listening
    from compressor.cli.process import prepare_process

    resolved = ask.given.resolved()
    if print_config:
        from compressor.cli.distill import show_config

        show_config(ask.output, resolved)
        return
    from compressor.models.catalogue import resolve_name

    resolve_name(resolved.config.teacher.name, role="teacher")
    prepare_process(resolved.config.runtime.threads, plain=resolved.config.runtime.plain)
    from compressor.engine.teaching import teach as teach_bank

    with listening(ask.output) as listener:
        record = teach_bank(resolved.config, listener=listener, fresh=fresh, weights=weights)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, "teacher": record.document()})
        return
    ask.output.talk(f"Teacher  {record.name} on {record.data}   top-1 {record.top1:.1f}   {record.origin}")
    ask.output.result(str(record.folder))
