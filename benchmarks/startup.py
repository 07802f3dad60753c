"""How long the command line takes to say something, and whether torch was imported for it.

``ratio`` is a bare ``import torch, timm`` over the command: how much of a careless start is saved.
"""

import argparse
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from statistics import median

from benchmarks.record import Row, write

COMMANDS = (("--help",), ("distill", "--help"), ("list", "methods"), ("distill", "--no-such-option"))
_LISTING = "import sys; from compressor.cli.main import main; main({arguments!r}); sys.exit('torch' in sys.modules)"


def seconds(command: Sequence[str], rounds: int) -> float:
    """Return the median time of a fresh process, after one that warms the disk's cache."""
    taken = []
    for _ in range(rounds + 1):
        began = time.monotonic()
        subprocess.run(command, capture_output=True, check=False)
        taken.append(time.monotonic() - began)
    return median(taken[1:])


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure every command, print a table, write the file."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--json", type=Path)
    asked = parser.parse_args(arguments)
    bare = seconds([sys.executable, "-c", "import torch, timm"], asked.rounds)
    rows: list[Row] = []
    for command in COMMANDS:
        own = seconds([sys.executable, "-m", "compressor", *command], asked.rounds)
        script = _LISTING.format(arguments=list(command))
        loads = subprocess.run([sys.executable, "-c", script], capture_output=True, check=False).returncode
        rows.append(
            {"case": f"compress {' '.join(command)}", "seconds": own, "torch": bool(loads), "ratio": bare / own}
        )
    write("startup", rows, asked.json, ratios={str(row["case"]): float(row["ratio"]) for row in rows})


if __name__ == "__main__":
    main()
