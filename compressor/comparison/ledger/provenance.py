"""What a record says in words, and from which checkout it was made."""

import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import compressor
from compressor.engine.provenance import TRAINED_BY_METHOD
from compressor.storage import read_json


def schedule_words(training: Mapping[str, Any], images: int) -> str:
    """Say how a student was trained: epochs, batches, optimiser, rate."""
    epochs = training["epochs"]
    return "; ".join(
        [
            f"{epochs:,} epoch{'s' * (epochs > 1)} of {images:,} images in batches of {training['batch_size']}",
            f"{training['optimizer']}, rate {training['lr']:g}, {_falling(training)}",
            f"momentum {training['momentum']:g}, weight decay {training['weight_decay']:g}, {training['precision']}",
        ]
    )


def _falling(training: Mapping[str, Any]) -> str:
    if training["schedule"] == "cosine":
        return f"to {training['min_lr']:g} by a cosine"
    if training["schedule"] == "constant":
        return "constant"
    places = ", ".join(f"{share * training['epochs']:g}" for share in training["milestones"])
    return f"times {training['decay']:g} after epochs {places}"


def selection_words(training: Mapping[str, Any], held_out: int) -> str:
    """Say which epoch counts and on what it was chosen."""
    if training["select"] == "best":
        return f"the best epoch on {held_out:,} held-out training images"
    return "the last epoch, chosen on nothing"


def teacher_origin(origin: str) -> str:
    """Say where a teacher's weights came from without naming a place on somebody's disk."""
    if origin in ("pretrained", "given"):
        return origin
    if origin == TRAINED_BY_METHOD:
        return "trained by the method"
    file = Path(origin) / "teacher.json"
    known = read_json(file) if file.is_file() else None
    told = known.get("origin") if isinstance(known, dict) else None
    if told == "trained here":
        return "trained by its recipe, in the bank"
    return str(told) if told else "weights from a file"


def checkout() -> str | None:
    """Return the commit of the checkout this package runs from, with ``+changes`` where files differ from it.

    None where it is no checkout: an installed package, or no git.
    """
    package = Path(compressor.__file__).parent
    if _git(package, "ls-files", "--error-unmatch", "__init__.py") is None:
        return None
    commit = _git(package, "rev-parse", "HEAD")
    if commit is None:
        return None
    changed = _git(
        package.parent, "status", "--porcelain", "--untracked-files=no", "--", "compressor", "plugins", "zoo"
    )
    return f"{commit[:12]}+changes" if changed else commit[:12]


def _git(folder: Path, *arguments: str) -> str | None:
    command = ["git", "-c", "core.fsmonitor=false", "-C", str(folder), *arguments]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=20)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() if done.returncode == 0 else None
