"""Batches, networks and answers for the tests of methods."""

from typing import Any

import torch
from torch import Tensor

from compressor.distiller import Batch, ModelOutput, NetworkSpec, Pair, StageSpec


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def leaf(*shape: int, seed: int = 0) -> Tensor:
    return draw(*shape, seed=seed).requires_grad_()


def network(name: str = "net", *, classes: int = 3, width: int = 0, maps: tuple[Any, ...] = ()) -> NetworkSpec:
    stages = tuple(
        StageSpec(name=f"stage{number}", channels=channels, height=height, width=across)
        for number, (channels, height, across) in enumerate(maps)
    )
    return NetworkSpec(name=name, stages=stages, preacts=False, embedding_width=width, num_classes=classes)


def pair(student: NetworkSpec, teacher: NetworkSpec | None, *, train_size: int = 12) -> Pair:
    classes = student.num_classes
    counts = torch.bincount(torch.arange(train_size) % classes, minlength=classes)
    return Pair(
        student=student,
        teacher=teacher,
        num_classes=classes,
        train_size=train_size,
        class_counts=tuple(counts.tolist()),
    )


def batch(labels: Tensor, *, views: int = 1, step: int = 0, **more: Any) -> Batch:
    return Batch(labels=labels, views=views, epoch=0, step=step, progress=0.0, **more)


def nothing(owner: str = "teacher") -> ModelOutput:
    return ModelOutput(owner=owner)
