"""Reads the folders of numbers that official implementations produced, and compares with them.

A folder holds ``losses/`` (per method a JSON and a safetensors file, and ``architectures.*``) and ``trajectories/``.
The environment variable ``COMPRESSOR_ORACLES`` names another folder of this layout than the one beside this file.
"""

import json
import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

DEFAULT_FOLDER = Path(__file__).parent / "data"


@dataclass(frozen=True)
class Case:
    """One run of the official code: tensors by name, settings, and the value of the loss."""

    inp: dict[str, Tensor]
    param: dict[str, Tensor]
    out: dict[str, Tensor]
    grad: dict[str, Tensor]
    hyper: dict[str, Any]
    notes: Any
    loss: Any
    meta: dict[str, Any]


class Oracle:
    """The files of one sub-folder, read once each."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._read: dict[str, tuple[dict[str, Any], dict[str, Tensor]]] = {}

    def methods(self) -> list[str]:
        """Return the names of the methods that the folder holds."""
        return sorted(path.stem for path in self.folder.glob("*.json") if path.stem != "architectures")

    def cases(self, method: str) -> list[str]:
        """Return the names of the cases of ``method``."""
        return list(self.files(method)[0]["cases"])

    def files(self, method: str) -> tuple[dict[str, Any], dict[str, Tensor]]:
        """Return the JSON and the tensors of ``method`` as they are stored."""
        if method not in self._read:
            description = json.loads((self.folder / f"{method}.json").read_text(encoding="utf-8"))
            self._read[method] = (description, load_file(self.folder / f"{method}.safetensors"))
        return self._read[method]

    def load(self, method: str, case: str, dtype: torch.dtype = torch.float64) -> Case:
        """Return one case with its floating-point tensors in ``dtype``."""
        description, stored = self.files(method)
        meta = description["cases"][case]
        groups: dict[str, dict[str, Tensor]] = {"in": {}, "param": {}, "out": {}, "grad": {}}
        for name, key in meta["tensors"].items():
            kind, rest = name.split("/", 1)
            value = stored[key].clone()
            groups[kind][rest] = value.to(dtype) if value.is_floating_point() else value
        return Case(
            inp=groups["in"],
            param=groups["param"],
            out=groups["out"],
            grad=groups["grad"],
            hyper=meta["hyper"],
            notes=meta["notes"],
            loss=meta["loss"],
            meta=meta,
        )


def oracle_folder(part: str) -> Path:
    """Return the sub-folder ``part`` ("losses" or "trajectories") of the folder in use."""
    return Path(os.environ.get("COMPRESSOR_ORACLES") or DEFAULT_FOLDER) / part


def close(got: Any, want: Any, rtol: float = 1e-6, atol: float = 1e-12) -> bool:
    """Return whether no entry differs by more than ``atol`` plus ``rtol`` times the largest wanted entry."""
    got, want = (torch.as_tensor(value, dtype=torch.float64).reshape(-1) for value in (got, want))
    return got.shape == want.shape and bool(((got - want).abs() <= atol + rtol * want.abs().max()).all())


def hashed_fill(model: nn.Module, salt: int) -> nn.Module:
    """Give the model the closed-form float64 weights of ``architectures.json``, numbered in state-dict order."""
    norms = {name for name, module in model.named_modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)}
    filled = {}
    for position, (key, old) in enumerate(model.state_dict().items()):
        owner, leaf = key.rsplit(".", 1)
        uniform = _hashed_uniform(position, old.numel(), salt).view(old.shape)
        if leaf == "num_batches_tracked":
            filled[key] = torch.zeros_like(old)
        elif owner in norms:
            offset, scale = {"weight": (1, 0.1), "bias": (0, 0.05), "running_mean": (0, 0.02), "running_var": (1, 0.2)}[
                leaf
            ]
            filled[key] = offset + scale * uniform
        else:
            filled[key] = (math.sqrt(6.0 / old[0].numel()) if old.dim() > 1 else 0.01) * uniform
    model.double().load_state_dict(filled)
    return model


def _hashed_uniform(position: int, count: int, salt: int) -> Tensor:
    x = (torch.arange(count, dtype=torch.int64) + 1000003 * position + salt) & 0xFFFFFFFF
    for _ in range(2):
        x = ((x ^ (x >> 16)) * 0x45D9F3B) & 0xFFFFFFFF
    return (x ^ (x >> 16)).double() / 2**31 - 1
