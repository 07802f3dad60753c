"""What a finished run left on disk beside its result: its choice for each test image, curves, errors, class names."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from compressor.comparison.calibration import fit_temperature
from compressor.engine.evaluate import Predictions
from compressor.engine.history import read_run
from compressor.errors import InputError
from compressor.storage import join_inside, read_json, read_tensors

Whole = NDArray[np.int64]
_WEIGHTS = "model.safetensors"


@dataclass(frozen=True)
class WorstError:
    """A test image that the student was wrong about and sure of: (C, h, w) uint8 pixels, classes by number."""

    pixels: NDArray[np.uint8]
    label: int
    chosen: int
    confidence: float


@dataclass(frozen=True, kw_only=True)
class Evidence:
    """One finished run in numbers that a report needs; what older runs did not write is None or empty.

    Args:
        labels, chosen: (n,) of each test image. confidence: (n,) probability of the chosen class.
        teacher_chosen: (n,) of its teacher. class_names: in label order, empty where they are not known.
        temperature: fitted on held-out images; scaled_error: expected calibration error with it, in [0, 1].
        size_bytes: of the published weights. history: rows of ``metrics.csv``, as text. run: ``run.json``.
    """

    labels: Whole
    chosen: Whole
    confidence: NDArray[np.float64]
    teacher_chosen: Whole | None = None
    temperature: float | None = None
    scaled_error: float | None = None
    class_names: tuple[str, ...] = ()
    worst: Sequence[WorstError] = ()
    size_bytes: int | None = None
    history: Sequence[Mapping[str, Any]] = ()
    run: Mapping[str, Any] = field(default_factory=dict)

    @property
    def right(self) -> NDArray[np.bool_]:
        """(n,): whether the student is right about each test image."""
        return np.asarray(self.chosen == self.labels)

    def class_name(self, number: int) -> str:
        """Name a class, by its number where the names are not known."""
        return self.class_names[number] if number < len(self.class_names) else str(number)


def read_evidence(folder: Path) -> Evidence | None:
    """Read what a finished run left; None where its test answers are not there.

    Logits are reduced at once: a comparison of many runs on a large test set must fit into memory.

    Raises:
        InputError: a file is damaged. StorageError: it could not be read.
    """
    answers = join_inside(folder, "test.safetensors")
    if not answers.is_file():
        return None
    tensors = read_tensors(answers)
    if fault := _fault(tensors):
        raise InputError(f"{answers} is damaged: {fault}")
    confidence, chosen = tensors["logits"].double().softmax(1).max(1)
    temperature, scaled_error = _calibrated(tensors)
    status = read_run(folder)
    teacher = tensors.get("teacher_classes")
    weights = folder / "student" / _WEIGHTS
    return Evidence(
        labels=_whole(tensors["labels"]),
        chosen=_whole(chosen),
        confidence=confidence.numpy(),
        teacher_chosen=None if teacher is None else _whole(teacher),
        temperature=temperature,
        scaled_error=scaled_error,
        class_names=_class_names(folder),
        worst=_worst(tensors, confidence, chosen),
        size_bytes=weights.stat().st_size if weights.is_file() else None,
        history=status.history,
        run=status.run,
    )


def _fault(tensors: Mapping[str, Tensor]) -> str | None:
    """Say what keeps the tensors from being a run's answers, None for nothing: they may be a stranger's."""
    for prefix in ("", "val_") if "val_logits" in tensors else ("",):
        logits, labels = tensors.get(f"{prefix}logits"), tensors.get(f"{prefix}labels")
        if logits is None or logits.dim() != 2 or 0 in logits.shape or not logits.is_floating_point():
            return f"{prefix}logits are no table of numbers"
        if not bool(logits.isfinite().all()):
            return f"{prefix}logits are not finite"
        if labels is None or not _classes(labels, len(logits), logits.shape[1]):
            return f"{prefix}labels are not a class for each image"
    count, classes = tensors["logits"].shape
    taught, index, images = (tensors.get(name) for name in ("teacher_classes", "worst_index", "worst_images"))
    if taught is not None and not _classes(taught, count, classes):
        return "teacher_classes are not a class for each image"
    if index is None:
        return None
    pictures = images is not None and images.dim() == 4 and images.dtype == torch.uint8 and images.shape[1] in (1, 3)
    if images is None or not pictures or max(images.shape[2:]) > 256 or not _classes(index, len(images), count):
        return "worst_images are no small pictures of test images"
    return None


def _classes(numbers: Tensor, count: int, below: int) -> bool:
    """Say whether these are ``count`` whole numbers in [0, below)."""
    whole = not numbers.is_floating_point() and not numbers.is_complex() and numbers.shape == (count,)
    return whole and bool(((numbers >= 0) & (numbers < below)).all())


def _calibrated(tensors: Mapping[str, Tensor]) -> tuple[float | None, float | None]:
    if "val_logits" not in tensors:
        return None, None
    temperature = fit_temperature(tensors["val_logits"], tensors["val_labels"])
    scaled = Predictions(tensors["logits"].double() / temperature, tensors["labels"])
    return temperature, scaled.calibration_error


def _class_names(folder: Path) -> tuple[str, ...]:
    file = join_inside(folder, "student/config.json")
    config = read_json(file) if file.is_file() else None
    names = config.get("label_names") if isinstance(config, dict) else None
    return tuple(str(name) for name in names) if isinstance(names, list) else ()


def _worst(tensors: Mapping[str, Tensor], confidence: Tensor, chosen: Tensor) -> list[WorstError]:
    if "worst_index" not in tensors:
        return []
    return [
        WorstError(pixels.numpy(), int(tensors["labels"][place]), int(chosen[place]), float(confidence[place]))
        for place, pixels in zip(tensors["worst_index"].tolist(), tensors["worst_images"], strict=True)
    ]


def _whole(tensor: Tensor) -> Whole:
    return np.asarray(tensor.to(torch.int64).numpy())
