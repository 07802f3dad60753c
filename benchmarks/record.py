"""What a measurement leaves: a table on the terminal, and a file that says where it was made."""

import argparse
import json
import os
import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

Row = dict[str, Any]


def write(name: str, rows: Sequence[Row], file: Path | None, *, ratios: Mapping[str, float]) -> None:
    """Print the rows as a table and write them, with machine and versions, where ``file`` says."""
    print(table(rows))
    if file is not None:
        document = {"benchmark": name, "ratio": dict(ratios), "rows": list(rows), "where": where()}
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps(document, indent=1) + "\n", encoding="utf-8")


def asked_of(about: str | None, arguments: Sequence[str] | None, *, rounds: int = 5) -> argparse.Namespace:
    """Read ``--rounds`` and ``--json``, all that most scripts take; None takes the process's own arguments."""
    parser = argparse.ArgumentParser(description=about)
    parser.add_argument("--rounds", type=int, default=rounds)
    parser.add_argument("--json", type=Path)
    return parser.parse_args(arguments)


def table(rows: Sequence[Row]) -> str:
    """Return rows in aligned columns; a row that lacks a key has nothing there."""
    if not rows:
        return "nothing was measured"
    keys = list(dict.fromkeys(key for row in rows for key in row))
    lines = [keys, *([_shown(row.get(key, "")) for key in keys] for row in rows)]
    wide = [max(len(line[place]) for line in lines) for place in range(len(lines[0]))]
    return "\n".join("  ".join(f"{cell:{wide[n]}}" for n, cell in enumerate(line)).rstrip() for line in lines)


def where() -> Row:
    """Describe machine, versions and commit."""
    import timm
    import torch

    from compressor.engine.convolution_times import processor

    commit = subprocess.run(["git", "rev-parse", "--short", "HEAD"], capture_output=True, text=True, check=False)
    return {
        "machine": f"{platform.machine()}, {processor()}, {os.cpu_count()} logical CPUs",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "timm": timm.__version__,
        "commit": commit.stdout.strip() or "unknown",
    }


def _shown(value: Any) -> str:
    return f"{value:.3f}" if isinstance(value, float) else str(value)
