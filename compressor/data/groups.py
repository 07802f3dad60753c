"""Many, medium and few: accuracies of the classes with many training images apart from those with few."""

from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor

from compressor.data.types import DataSet

NAMES = ("many", "medium", "few")
MANY, FEW = 100, 20


@dataclass(frozen=True)
class ClassGroups:
    """Classes by how many training images they have.

    Args:
        classes: labels of each group, by its name in `NAMES`; a group may be empty.
        rule: ``counts`` (more than 100 images are many, fewer than 20 few), or ``thirds`` of the classes.
    """

    classes: dict[str, tuple[int, ...]]
    rule: Literal["counts", "thirds"]

    def accuracies(self, predicted: Tensor, labels: Tensor) -> dict[str, float]:
        """Return ``many_top1``, ``medium_top1`` and ``few_top1`` in percent; those without a test image are left out.

        A group's accuracy is the mean of the accuracies of its classes, however many test images each has.

        Args:
            predicted, labels: (N,) int64 of the test images.
        """
        found = {name: self._accuracy(self.classes[name], predicted, labels) for name in NAMES}
        return {f"{name}_top1": value for name, value in found.items() if value is not None}

    def document(self) -> dict[str, Any]:
        """Return rule and groups as plain JSON values."""
        return {"rule": self.rule, **{name: list(members) for name, members in self.classes.items()}}

    @staticmethod
    def _accuracy(classes: tuple[int, ...], predicted: Tensor, labels: Tensor) -> float | None:
        each = [
            (predicted[labels == label] == label).double().mean() for label in classes if bool((labels == label).any())
        ]
        return 100.0 * float(torch.stack(each).mean()) if each else None


def group_classes(counts: Tensor) -> ClassGroups:
    """Part classes by their training images.

    More than 100 images are many, fewer than 20 few, the others medium. Where no class has more than 100, which leaves
    nothing to be called many, the classes are cut into thirds by their counts, the earlier thirds larger by one.

    Args:
        counts: (K,) int64 training images of each class, as their true labels have it.

    Source: the bounds are those of Li, Wang and Wu 2021, arXiv:2109.04075.
    """
    if int(counts.max()) > MANY:
        named = ["many" if count > MANY else "few" if count < FEW else "medium" for count in counts.tolist()]
        classes = {name: tuple(label for label, own in enumerate(named) if own == name) for name in NAMES}
        return ClassGroups(classes, "counts")
    order = counts.argsort(descending=True, stable=True)
    thirds = torch.tensor_split(order, 3)
    return ClassGroups(
        {name: tuple(sorted(third.tolist())) for name, third in zip(NAMES, thirds, strict=True)}, "thirds"
    )


def groups_of(data: DataSet) -> ClassGroups | None:
    """Return the groups of a data set whose student was given uneven classes, None for any other."""
    if data.scenario.imbalance == 1:
        return None
    return group_classes(torch.bincount(data.clean_labels, minlength=data.num_classes))
