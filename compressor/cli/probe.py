"""``compress probe``: a linear classifier on a frozen student's embedding, on other data."""

from collections.abc import Mapping
from typing import Annotated, Any

import typer

from compressor.cli.command import Ask, command
from compressor.cli.options import TRAINING, pick

EXAMPLES = (
    "compress probe runs/NAME --data digits",
    "compress probe runs/NAME --data torch/cifar10 --data-dir data --seeds 3",
    "compress probe runs/NAME --data digits --no-augment --epochs 30",
)
_SETTINGS = pick("data", "data-dir", "img-size", "workers", "skip-bad-images", "device", "threads")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "probe", examples=EXAMPLES, settings=_SETTINGS)(probe)


def probe(
    ask: Ask,
    student: Annotated[str, typer.Argument(metavar="STUDENT", help="A run, a published folder, or hf-hub:ORG/NAME.")],
    epochs: Annotated[
        int,
        typer.Option(
            "--epochs", metavar="N", rich_help_panel=TRAINING, help="Of the linear classifier.", show_default="100"
        ),
    ] = 100,
    batch_size: Annotated[
        int,
        typer.Option("--batch-size", metavar="N", rich_help_panel=TRAINING, help="Images a step.", show_default="64"),
    ] = 64,
    lr: Annotated[
        float,
        typer.Option(
            "--lr", metavar="X", rich_help_panel=TRAINING, help="Learning rate at the start.", show_default="0.1"
        ),
    ] = 0.1,
    seeds: Annotated[
        int, typer.Option("--seeds", metavar="N", rich_help_panel=TRAINING, help="Seeds 0 to N - 1.", show_default="1")
    ] = 1,
    augment: Annotated[
        bool,
        typer.Option(
            "--augment/--no-augment", rich_help_panel=TRAINING, help="Random crops and flips; without, a pass in all."
        ),
    ] = True,
) -> None:
    """Probe a student: train a linear classifier on its frozen embedding and look at the test images.

    The default settings are those of the transfer tables of the SSKD and HSAKD papers; the last epoch counts.
    """
    config = ask.given.resolved().config
    from compressor.cli.listeners import listening
    from compressor.cli.process import prepare_process

    prepare_process(config.runtime.threads)
    from compressor.engine.probe import probe as probe_student
    from compressor.engine.probe_training import ProbeSettings

    settings = ProbeSettings(epochs=epochs, batch_size=batch_size, lr=lr, seeds=seeds, augment=augment)
    with listening(ask.output) as listener:
        values = probe_student(student, config, settings, listener=listener)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, **values})
    elif ask.output.manner.quiet:
        ask.output.result(f"{values['top1']:.2f}")
    else:
        ask.output.result("\n".join(_lines(values)))


def _lines(values: Mapping[str, Any]) -> list[str]:
    spread = "" if values["top1_sd"] is None else f" ± {values['top1_sd']:.2f}"
    count = len(values["seeds"])
    images = f"{values['train']:,} train, {values['test']:,} test"
    return [
        f"top1        {values['top1']:.2f}{spread} ({count} seed{'s' * (count > 1)}, last epoch)",
        f"data        {values['data']}, {values['classes']} classes, {images}",
        f"embedding   {values['embedding']} of {values['model']}",
        f"seconds     {values['seconds']:.1f}",
    ]
