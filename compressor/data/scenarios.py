"""What the student learns from when its training images are made few, uneven or wrongly labelled.

Everything is chosen class by class and by a seed that is not the run's: all methods and seeds see the same images and
the same wrong labels, and a smaller choice is part of a larger one.
"""

from dataclasses import asdict, dataclass
from typing import Any

import torch
from torch import Tensor

from compressor.data.splits import first_of_each_class
from compressor.errors import UsageError
from compressor.streams import generator

_NEARLY = 1e-9  # 49 * (1 / 49) is a little less than 1 in floating point


@dataclass(frozen=True, kw_only=True)
class Scenario:
    """How the student's training images differ from the teacher's; the defaults leave them as they are.

    Args:
        shots: images a class, >= 1; None for all. Not together with ``fraction``.
        fraction: percent of each class that are kept, in [1, 100].
        imbalance: images of the first class over those of the last, >= 1; 1 leaves the classes as they are.
        label_noise: share of the labels that are replaced by another class, in [0, 1).

    Raises:
        UsageError: a value is out of range, or two contradict each other.
    """

    shots: int | None = None
    fraction: float = 100.0
    imbalance: float = 1.0
    label_noise: float = 0.0

    def __post_init__(self) -> None:
        if self.shots is not None and self.shots < 1:
            raise UsageError(f"shots must be >= 1, got {self.shots}", hint="leave it out to train on all images")
        if not 1 <= self.fraction <= 100:
            raise UsageError(f"fraction must be 1 to 100 percent, got {self.fraction}", hint="--fraction 25")
        if self.shots is not None and self.fraction != 100:
            raise UsageError("shots and fraction both say how many images a class has", hint="leave one of them out")
        if not 1 <= self.imbalance < float("inf"):
            raise UsageError(f"imbalance must be >= 1, got {self.imbalance}", hint="--imbalance 100")
        if not 0 <= self.label_noise < 1:
            raise UsageError(f"label_noise must be in [0, 1), got {self.label_noise}", hint="--label-noise 0.2")

    def document(self) -> dict[str, Any]:
        """Return the settings as plain JSON values."""
        return asdict(self)

    def describe(self) -> str:
        """Say in words what differs from the teacher's images; empty where nothing does."""
        parts = [
            f"{self.shots} a class" if self.shots is not None else "",
            f"{self.fraction:g} % of each class" if self.fraction != 100 else "",
            f"imbalance {self.imbalance:g}" if self.imbalance != 1 else "",
            f"{100 * self.label_noise:g} % wrong labels" if self.label_noise else "",
        ]
        return ", ".join(part for part in parts if part)


@dataclass(frozen=True)
class LabelNoise:
    """Which label each of the student's training images has, and which it should have.

    Args:
        rows: (N,) int64 position of each image in the source's own training part, rising.
        given: (N,) int64 what the student is told. clean: (N,) int64 what the source says.
    """

    rows: Tensor
    given: Tensor
    clean: Tensor

    @property
    def flipped(self) -> Tensor:
        """(N,) bool: where both differ."""
        return self.given != self.clean

    def tensors(self) -> dict[str, Tensor]:
        """Return all three by name, to be written to a file."""
        return {"rows": self.rows, "labels": self.given, "clean_labels": self.clean}


def choose(labels: Tensor, scenario: Scenario, class_names: tuple[str, ...], *, seed: int) -> Tensor:
    """Choose the student's part of the training images; ``imbalance`` applies to what the others leave.

    Args:
        labels: (N,) int64, each class present. class_names: K names in label order.

    Returns:
        Positions, rising; a function of the arguments alone.

    Raises:
        UsageError: some class has too few images; names it and says what is possible.
    """
    if (scenario.shots, scenario.fraction, scenario.imbalance) == (None, 100, 1):
        return torch.arange(len(labels))
    counts = torch.bincount(labels, minlength=len(class_names))
    if scenario.shots is not None:
        counts = few_shot_counts(counts, scenario.shots, class_names)
    if scenario.fraction != 100:
        counts = fraction_counts(counts, scenario.fraction)
    if scenario.imbalance != 1:
        counts = imbalanced_counts(counts, scenario.imbalance, class_names)
    return first_of_each_class(labels, counts, seed=seed)


def few_shot_counts(counts: Tensor, shots: int, class_names: tuple[str, ...]) -> Tensor:
    """Return ``shots`` for each class.

    Args:
        counts: (K,) int64 images of each class. shots: >= 1.

    Raises:
        UsageError: some class has fewer images.
    """
    fewest = int(counts.argmin())
    most = int(counts[fewest])
    if most < shots:
        raise UsageError(
            f"{shots} shots a class were asked for, class {class_names[fewest]!r} has {most} training images",
            hint=f"--shots {most}, or fewer",
        )
    return torch.full_like(counts, shots)


def fraction_counts(counts: Tensor, fraction: float) -> Tensor:
    """Return ``fraction`` percent of each class, rounded half up to whole images, one at least.

    Args:
        counts: (K,) int64 images of each class. fraction: in [1, 100].

    Source: the few-shot protocol of Xu et al. 2020, arXiv:2006.07114: the same share of each class.
    """
    return torch.tensor([max(1, int(count * fraction / 100 + 0.5)) for count in counts.tolist()])


def imbalanced_counts(counts: Tensor, ratio: float, class_names: tuple[str, ...]) -> Tensor:
    """Return an exponential profile: class k of K keeps ``n * ratio ** (-k / (K - 1))`` images, rounded down.

    ``n`` is the size of the smallest class, so that every class has as many images as the profile asks for.

    Args:
        counts: (K,) int64 images of each class. ratio: >= 1, of the first class to the last one.

    Raises:
        UsageError: the last class would keep no image.

    Source: the long-tailed CIFAR profile, as in Li, Wang and Wu 2021, arXiv:2109.04075.
    """
    fewest, last = int(counts.min()), len(counts) - 1
    if fewest < ratio:
        smallest = class_names[int(counts.argmin())]
        raise UsageError(
            f"imbalance {ratio:g} leaves the last class no image: class {smallest!r}, the smallest, has {fewest}",
            hint=f"--imbalance {fewest}, or less",
        )
    return torch.tensor([int(fewest * ratio ** (-label / last) + _NEARLY) for label in range(last + 1)])


def flip_labels(labels: Tensor, rows: Tensor, share: float, num_classes: int, *, seed: int) -> Tensor:
    """Replace a share of the labels at ``rows`` by other classes, all of them equally likely (symmetric noise).

    The order in which images lose their label, and the class each of them gets, belong to the image: a larger share
    keeps what a smaller one has done, and so does a smaller part of the images as far as it can.

    Args:
        labels: (M,) int64 of all images. rows: (N,) int64 which of them the student sees. share: in [0, 1); exactly
            that share of the N, rounded half up. num_classes: K >= 2.

    Returns:
        (M,) int64: a copy with the wrong labels in place.

    Source: symmetric noise as in Xu et al. 2020, arXiv:2006.07114: of the student's labels alone, never to itself.
    """
    ranks = torch.randperm(len(labels), generator=generator(seed, "label-noise"))
    steps = torch.randint(1, num_classes, (len(labels),), generator=generator(seed, "label-noise/class"))
    chosen = rows[ranks[rows].argsort()[: int(share * len(rows) + 0.5)]]
    flipped = labels.clone()
    flipped[chosen] = (labels[chosen] + steps[chosen]) % num_classes
    return flipped
