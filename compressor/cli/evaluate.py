"""``compress eval``: what a trained network is worth on some data."""

from typing import Annotated, Any

import typer

from compressor.cli.command import Ask, command
from compressor.cli.options import MODELS, pick

EXAMPLES = (
    "compress eval runs/NAME --data digits",
    "compress eval resnet8x4 --weights student.safetensors --data digits",
    "compress eval runs/NAME --data digits --agree-with runs/OTHER",
)
_SETTINGS = pick(
    "data", "data-dir", "val-split", "img-size", "workers", "skip-bad-images", "precision", "device", "threads"
)


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "eval", examples=EXAMPLES, settings=_SETTINGS)(evaluate)


def evaluate(
    ask: Ask,
    model: Annotated[str, typer.Argument(metavar="MODEL", help="A run, a published folder, or a name with --weights.")],
    weights: Annotated[
        str | None,
        typer.Option("--weights", metavar="PATH", rich_help_panel=MODELS, help="A file, or `pretrained`."),
    ] = None,
    agree_with: Annotated[
        str | None,
        typer.Option(
            "--agree-with", metavar="MODEL", rich_help_panel=MODELS, help="Count how often both say the same class."
        ),
    ] = None,
) -> None:
    """Measure accuracy, calibration and latency of a trained network on the test images."""
    config = ask.given.resolved().config
    from compressor.cli.process import prepare_process

    prepare_process(config.runtime.threads)
    from compressor.api import evaluate as measure

    values = measure(model, config, weights=weights, teacher=agree_with)
    if ask.output.manner.json:
        ask.output.document({"schema": 1, "status": "done", "exit": 0, **values})
    else:
        ask.output.result("\n".join(_lines(values)))


def _lines(values: dict[str, Any]) -> list[str]:
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update({f"{key}.{inner}": item for inner, item in value.items()})
        else:
            flat[key] = value
    return [f"{key:20} {value:.4f}" if isinstance(value, float) else f"{key:20} {value}" for key, value in flat.items()]
