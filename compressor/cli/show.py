"""``compress show``: what became of a run, as text."""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from compressor.cli.command import Ask, command
from compressor.cli.wording import duration, extras

if TYPE_CHECKING:
    from compressor.engine.history import RunStatus

EXAMPLES = ("compress show runs/NAME", "compress show runs/NAME --json")
_HEIGHT, _WIDTH = 8, 60
_SHOWN = ("top1", "teacher_top1", "agreement", "ece", "many_top1", "medium_top1", "few_top1")


def register(app: typer.Typer) -> None:
    """Add the command."""
    command(app, "show", examples=EXAMPLES)(show)


def show(ask: Ask, run: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run.")]) -> None:
    """Show a run: its state, its curves, and the command that goes on with it."""
    from compressor.engine.history import read_run

    status = read_run(run)
    if ask.output.manner.json:
        ask.output.document(
            {
                "schema": 1,
                "run": str(status.folder),
                "state": status.state,
                "command": status.run.get("command"),
                "epochs": list(status.history),
                "result": status.result,
            }
        )
    elif ask.output.manner.quiet:
        ask.output.result(status.state)
    else:
        ask.output.result("\n".join(lines_of(status)))


def lines_of(status: "RunStatus") -> list[str]:
    """Return what is to be said of a run."""
    lines = [f"Run      {status.folder}", f"State    {status.state}"]
    if status.run.get("began"):
        lines.append(f"Began    {status.run['began']} on {status.run.get('host', 'unknown')}")
    if status.result is not None:
        lines += _result(status.result)
    curve = _curve(status.history)
    lines += ["", *curve] if curve else []
    word = "Again" if status.result is not None else "Resume"
    return [*lines, "", f"{word:8} {status.run.get('command', 'unknown')}"]


def _result(result: Mapping[str, Any]) -> list[str]:
    metrics = result["metrics"]
    parts = [f"{key} {metrics[key]:.2f}" for key in _SHOWN if key in metrics]
    return [
        f"Result   {'   '.join(parts)}",
        f"Trained  {duration(result['cost']['train_seconds'])}",
        f"Student  {result['student']['folder']}",
        *(f"         {line}" for line in extras(result["student"])),
    ]


def _curve(history: Sequence[Mapping[str, Any]]) -> list[str]:
    """Draw the accuracy over the epochs, or the training loss where nothing was held out."""
    for key, title in (("eval_top1", "val top-1"), ("train_loss", "training loss")):
        told = [float(row[key]) for row in history if row.get(key) not in (None, "")]
        points = [number for number in told if math.isfinite(number)]
        if len(points) > 1:
            return [f"{title}, {len(points)} points", *chart(points)]
    return []


def chart(points: Sequence[float], height: int = _HEIGHT, width: int = _WIDTH) -> list[str]:
    """Draw numbers as columns of ``*`` on ``height`` lines, the largest and smallest named at the left."""
    count = min(width, len(points))
    chosen = [points[round(place * (len(points) - 1) / max(1, count - 1))] for place in range(count)]
    low, high = min(chosen), max(chosen)
    rows = [round((value - low) / (high - low) * (height - 1)) if high > low else 0 for value in chosen]
    names = {height - 1: f"{high:.2f}", 0: f"{low:.2f}"}
    wide = max(map(len, names.values()))
    return [
        f"{names.get(line, ''):>{wide}} |" + "".join("*" if row == line else " " for row in rows).rstrip()
        for line in range(height - 1, -1, -1)
    ]
