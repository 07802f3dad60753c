"""What it costs to keep a run's place, and to find it again: ``ratio`` is the time between saves over that of a save.

A save writes, hashes and syncs a checkpoint; finding it hashes every byte again and reads the tensors.
"""

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.our_steps import loop_of
from benchmarks.record import Row, asked_of, write
from compressor.cli.process import prepare_process
from compressor.engine.checkpoint import Checkpoints
from compressor.engine.session import Session

CASES = ("resnet32x4:shufflenetv2", "resnet20:resnet18")
_INTERVAL = Session.save_every  # seconds, unless a user says otherwise


def measure(pair: str, rounds: int) -> Row:
    """Save and read the checkpoint of a student that has done one step, on the disk of the temporary folder."""
    with tempfile.TemporaryDirectory() as folder:
        loop = loop_of(["kd"], pair, Path(folder), images=640)
        loop.rehearse(1)
        lane = loop.seats[0].lane
        checkpoints = Checkpoints(Path(folder) / "run", "0" * 64)
        saves = []
        for _ in range(rounds):
            lane.position.step += 1
            saves.append(_seconds(lambda: checkpoints.save(lane)))
        size = sum(file.stat().st_size for file in checkpoints.save(lane).iterdir())
        finds = [_seconds(lambda: checkpoints.read(checkpoints.whole()[0][-1])) for _ in range(rounds)]
    save = median(saves)
    return {
        "case": f"kd {pair}",
        "megabytes": size / 1e6,
        "save_s": save,
        "share of a run %": 100 * save / (_INTERVAL + save),
        "find_s": median(finds),
        "ratio": _INTERVAL / save,
    }


def _seconds(action: Callable[[], Any]) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the students, print a table, write the file."""
    asked = asked_of(__doc__, arguments)
    prepare_process(0)
    rows = [measure(pair, asked.rounds) for pair in CASES]
    write("saves", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
