"""What a run is made of, by name or brought from Python: data, and names for what has none."""

import math
import os
from dataclasses import dataclass, replace
from typing import Any

from torch import nn

from compressor.config.settings import DataConfig, RunConfig
from compressor.data.load import load_data
from compressor.data.types import Augmentation, DataSet
from compressor.engine.runtime import Runtime
from compressor.errors import UsageError
from compressor.models.catalogue import resolve_name
from compressor.models.create import default_crop, default_size
from compressor.storage import memory_bytes, readable_bytes
from compressor.weights import state_sha256


@dataclass(frozen=True)
class Objects:
    """What a Python caller brings instead of names; None where a name says it.

    Args:
        data: a pair of map-style datasets (training, test) of (image, label).
    """

    teacher: nn.Module | None = None
    student: nn.Module | None = None
    data: tuple[Any, Any] | None = None


def load(config: RunConfig, runtime: Runtime, objects: Objects) -> DataSet:
    """Load a run's data, from its name or from what a Python caller brought; errors as `load_data`."""
    wanted, student = config.data, resolve_name(config.student.name, role="student")
    data = load_data(
        objects.data if objects.data is not None else wanted.source,
        directory=wanted.directory,
        val_split=wanted.val_split,
        image_size=wanted.image_size,
        default_size=default_size(student),
        crop_pct=default_crop(student),
        shots=wanted.shots,
        fraction=wanted.fraction,
        imbalance=wanted.imbalance,
        label_noise=wanted.label_noise,
        skip_bad_images=wanted.skip_bad_images,
        pipeline=wanted.pipeline,
        workers=loader_workers(config.runtime.workers),
        device=runtime.device,
        split_seed=wanted.split_seed,
    )
    _refuse_large_batches(config.training.batch_size, data)
    return data


def augmentation_of(wanted: DataConfig, data: DataSet) -> Augmentation:
    """Return how the student's training images are varied.

    Raises:
        UsageError: answers to all draws cannot be kept, as streamed images are cut anywhere and to any size.
    """
    pool = wanted.augmentation_pool
    if pool == "all" and data.pipeline == "stream":
        raise UsageError(
            f"--augmentation-pool all needs images in memory: those of {data.name} are streamed, no two crops equal",
            hint="--augmentation-pool 8, or --set data.pipeline=resident",
        )
    return Augmentation(
        crop_padding=wanted.crop_padding,
        flip=wanted.flip,
        crop_scale=wanted.crop_scale,
        pool=pool if isinstance(pool, int) else 0,
        pool_seed=wanted.split_seed if isinstance(pool, int) else 0,
        numbered=pool == "all",
    )


def _refuse_large_batches(asked: int, data: DataSet) -> None:
    """Say before training that a batch cannot lie in memory, rather than be ended by the system amid it."""
    batch = min(asked, len(data.train))
    needed, present = 4 * batch * math.prod(data.image_size), memory_bytes()
    if present is not None and needed > present:
        _, height, width = data.image_size
        raise UsageError(
            f"a batch of {batch} images of {height} x {width} takes {readable_bytes(needed)}, "
            f"this machine has {readable_bytes(present)}",
            hint="--batch-size or --img-size smaller",
        )


def loader_workers(asked: int) -> int:
    """Return how many processes decode images: as asked, or for -1 one less than the cores, four at most."""
    return min(4, max(0, (os.cpu_count() or 1) - 1)) if asked < 0 else asked


def object_names(objects: Objects, config: RunConfig) -> RunConfig:
    """Name what a Python caller brought, by type and content, so that a run's identity says what it was."""
    changed = config
    if objects.teacher is not None:
        name = f"python:{type(objects.teacher).__name__}"
        digest = state_sha256(objects.teacher.state_dict())[:12]
        changed = replace(changed, teacher=replace(changed.teacher, name=name, weights=digest))
    if objects.student is not None:
        name = f"python:{type(objects.student).__name__}"
        digest = state_sha256(objects.student.state_dict())[:12]
        changed = replace(changed, student=replace(changed.student, name=name, init=digest))
    if objects.data is not None:
        changed = replace(changed, data=replace(changed.data, source=f"python:{type(objects.data[0]).__name__}"))
    return changed
