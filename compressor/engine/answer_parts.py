"""A teacher's answer as named tensors, and back: what tables keep is tensors under names."""

from collections.abc import Mapping

import torch
from torch import Tensor

from compressor.distiller import ModelOutput
from compressor.engine.replay_table import Numbers
from compressor.models.taps import Wanted


def parts_of(answer: ModelOutput, wanted: Wanted) -> dict[str, Tensor]:
    """Return the tensors of an answer by name: ``logits``, ``embedding``, ``stages.0``, ``preacts.0`` ..."""
    parts = {"logits": answer.logits}
    if wanted.embedding:
        parts["embedding"] = answer.embedding
    if wanted.stages:
        parts |= {f"stages.{number}": stage for number, stage in enumerate(answer.stages)}
    if wanted.preacts:
        parts |= {f"preacts.{number}": stage for number, stage in enumerate(answer.preacts)}
    return parts


def answer_of(parts: Mapping[str, Tensor], wanted: Wanted) -> ModelOutput:
    """Undo `parts_of`."""

    def numbered(kind: str) -> tuple[Tensor, ...]:
        count = sum(name.startswith(f"{kind}.") for name in parts)
        return tuple(parts[f"{kind}.{number}"] for number in range(count))

    return ModelOutput(
        logits=parts["logits"],
        embedding=parts["embedding"] if wanted.embedding else None,
        stages=numbered("stages") if wanted.stages else None,
        preacts=numbered("preacts") if wanted.preacts else None,
        owner="teacher",
    )


def merged(first: Numbers, some: Tensor, second: Numbers, others: Tensor) -> Tensor:
    """Return (n + m, ...) on the device of ``others``: rows (n, ...) at ``first`` and (m, ...) at ``second``."""
    whole = others.new_empty((len(first) + len(second), *others.shape[1:]))
    whole[torch.from_numpy(first).to(whole.device)] = some.to(whole.device)
    whole[torch.from_numpy(second).to(whole.device)] = others
    return whole


def difference(before: Tensor, after: Tensor) -> float:
    """Return the largest difference of two tensors over the largest number in ``after``; NaN where either has one."""
    before, after = before.float().cpu(), after.float().cpu()
    return float((before - after).abs().max() / after.abs().max().clamp(min=1e-6))
