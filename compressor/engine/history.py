"""What a run writes down: ``metrics.csv``, ``events.jsonl``, ``run.json`` and, at its end, ``result.json``."""

import csv
import io
import json
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from compressor.engine.documents import RESULT, RUN, read_document
from compressor.errors import InputError
from compressor.events import Event, Progress
from compressor.storage import append_line, is_in_use, join_inside, read_text, write_json, write_text

_FIRST_COLUMNS = ("phase", "epoch", "train_loss", "eval_loss", "eval_top1", "eval_top5", "lr", "seconds")


class RunLog:
    """Writes a run's own story into its folder.

    Args:
        folder: of the run; None writes nothing (other processes than the main one).
    """

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder

    def tell(self, event: Event) -> None:
        """Append an event; progress inside an epoch is not kept."""
        if self._folder is None or isinstance(event, Progress):
            return
        line = {"event": type(event).__name__, "time": _now(), **asdict(event)}
        append_line(self._folder / "events.jsonl", json.dumps(line, default=str))

    def metrics(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write ``metrics.csv`` anew from the epochs so far: the columns of timm's ``summary.csv``, then terms."""
        if self._folder is None or not history:
            return
        terms = sorted({key for row in history for key in row} - set(_FIRST_COLUMNS))
        out = io.StringIO()
        writer = csv.DictWriter(out, [*_FIRST_COLUMNS, *terms], lineterminator="\n", restval="")
        writer.writeheader()
        writer.writerows(history)
        write_text(self._folder / "metrics.csv", out.getvalue())

    def state(self, document: Mapping[str, Any]) -> None:
        """Write ``run.json``: who runs what, where, since when."""
        if self._folder is not None:
            write_json(self._folder / "run.json", dict(document))

    def result(self, document: Mapping[str, Any]) -> None:
        """Write ``result.json``; its presence says that the run is finished."""
        if self._folder is not None:
            write_json(self._folder / "result.json", dict(document))


@dataclass(frozen=True)
class RunStatus:
    """What a run's folder says of it, for ``compress show``; ``state`` is ``done``, ``running`` or ``stopped``."""

    folder: Path
    state: str
    run: Mapping[str, Any]
    history: Sequence[Mapping[str, Any]] = field(default_factory=tuple)
    result: Mapping[str, Any] | None = None


def read_run(folder: Path) -> RunStatus:
    """Read a run's folder.

    Raises:
        InputError: it is no run of ours, or a file in it is damaged.
    """
    run = read_description(folder)
    if run is None:
        raise InputError(f"{folder} is not a run: it has no run.json", hint="compress distill makes one below runs/")
    history = _read_metrics(folder)
    result = read_result(folder)
    state = "done" if result is not None else "running" if is_in_use(folder) else "stopped"
    return RunStatus(folder, state, run, history, result)


def read_description(folder: Path) -> Mapping[str, Any] | None:
    """Return ``run.json``, None where there is none; InputError where it is damaged."""
    return read_document(folder, "run.json", RUN)


def read_result(folder: Path) -> Mapping[str, Any] | None:
    """Return ``result.json`` of a finished run, None while it is not finished; InputError where it is damaged."""
    return read_document(folder, "result.json", RESULT)


def _read_metrics(folder: Path) -> list[Mapping[str, Any]]:
    file = join_inside(folder, "metrics.csv")
    if not file.is_file():
        return []
    try:
        rows: list[Mapping[str, Any]] = list(csv.DictReader(io.StringIO(read_text(file))))
        for row in rows:
            for key, text in row.items():
                if key != "phase" and text:
                    float(text)
    except (csv.Error, ValueError, TypeError) as cause:
        raise InputError(f"{file} is damaged: {cause}") from cause
    return rows


def _now() -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
