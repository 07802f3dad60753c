"""The self-check: a published folder counts only when a fresh Python process answers as the student does."""

import json
import math
import os
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from compressor import storage
from compressor.errors import InputError
from compressor.publishing.files import WEIGHTS
from compressor.publishing.loading import Loading, load_here

TOLERANCE = 1e-6  # largest difference of a logit, absolute, or relative to the largest logit when that is above 1
IMAGES = 8
_SCRIPT = Path(__file__).with_name("fresh_process.py")
_SECONDS = 600.0


def probe_images(loading: Loading) -> Tensor:
    """Return the (8, C, H, W) fixed images of the check: uniform noise, prepared as the network expects it."""
    generator = torch.Generator().manual_seed(0)
    pixels = torch.rand(IMAGES, *loading.input_size, generator=generator)
    mean, std = (torch.tensor(values).view(-1, 1, 1) for values in (loading.mean, loading.std))
    return (pixels - mean) / std


def probe_logits(loading: Loading, module: nn.Module, images: Tensor) -> Tensor:
    """Return the student's (8, K) answers.

    Raises:
        InputError: It cannot take images of that size, has another number of classes, or answers with NaN.
    """
    try:
        with torch.no_grad():
            logits = module(images)
    except (RuntimeError, ValueError, AssertionError, TypeError) as cause:
        raise InputError(f"the student cannot take images of {loading.input_size}: {cause}") from cause
    if not isinstance(logits, Tensor) or logits.shape != (IMAGES, loading.num_classes):
        shape = tuple(logits.shape) if isinstance(logits, Tensor) else type(logits).__name__
        raise InputError(f"the student answers with {shape}, not ({IMAGES}, {loading.num_classes}) for its class names")
    if not bool(torch.isfinite(logits).all()):
        raise InputError("the student answers with NaN or infinite logits; it is not published")
    return logits


def check_in_fresh_process(
    folder: Path, loading: Loading, images: Tensor, logits: Tensor, *, seconds: float = _SECONDS
) -> float:
    """Load ``folder`` in a new interpreter, without this package for timm models; return the largest difference.

    Raises:
        InputError: It does not load there, or answers differently.
    """
    with tempfile.TemporaryDirectory() as place:
        probe = Path(place) / "probe.safetensors"
        storage.write_tensors(probe, {"images": images, "logits": logits})
        answer = _ask(_request(folder, loading, probe), place, seconds)
    if answer["difference"] is None:
        raise InputError(f"the published student answers with shape {answer['shape']}, not {list(logits.shape)}")
    return _small(float(answer["difference"]), logits)


def check_here(folder: Path, loading: Loading, images: Tensor, logits: Tensor) -> float:
    """Load ``folder`` in this process and return the largest difference: a tenth of the time, and nearly as sure.

    What it cannot see is a need of something that only this process has imported.

    Raises:
        InputError: It does not load, or answers differently.
    """
    answers = probe_logits(loading, load_here(folder, loading), images)
    return _small((answers - logits).abs().max().item(), logits)


def _small(difference: float, logits: Tensor) -> float:
    if not difference <= TOLERANCE * max(1.0, logits.abs().max().item()) or math.isnan(difference):
        raise InputError(
            f"the published student answers differently when it is loaded again (by {difference:.3g})",
            hint="its architecture name and model_args must build exactly this network",
        )
    return difference


def check_tensors(folder: Path, tensors: Mapping[str, Tensor]) -> None:
    """Read the weights file back and compare it value by value.

    Raises:
        InputError: It differs.
    """
    back = storage.read_tensors(folder / WEIGHTS)
    if back.keys() != tensors.keys() or any(not torch.equal(back[name], tensors[name]) for name in back):
        raise InputError(f"{folder / WEIGHTS} does not hold what was written")


def _request(folder: Path, loading: Loading, probe: Path) -> dict[str, Any]:
    own = loading.factory is not None
    return {
        "folder": str(folder.resolve()),
        "probe": str(probe),
        "requires": list(loading.requires),
        "factory": loading.factory,
        "arguments": dict(loading.arguments),
        "threads": torch.get_num_threads(),
        "path": [str(Path(place).resolve()) for place in sys.path] if own else [],
    }


def _ask(request: dict[str, Any], place: str, seconds: float) -> dict[str, Any]:
    try:
        process = subprocess.run(
            [sys.executable, "-c", _SCRIPT.read_text("utf-8"), json.dumps(request)],
            cwd=place,
            env={**os.environ, "HF_HUB_OFFLINE": "1"},
            capture_output=True,
            text=True,
            encoding="utf-8",
            errors="replace",
            timeout=seconds,
            check=False,
        )
    except subprocess.TimeoutExpired as cause:
        raise InputError(f"the published student did not load in a fresh process within {seconds:g} s") from cause
    if process.returncode != 0:
        last = (process.stderr.strip().splitlines() or [f"exit status {process.returncode}"])[-1]
        raise InputError(f"the published student does not load in a fresh process: {last}")
    answer: dict[str, Any] = json.loads(process.stdout.strip().splitlines()[-1])
    return answer
