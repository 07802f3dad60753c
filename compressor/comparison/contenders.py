"""What stands in a comparison: methods, variants of one, and the baseline that sees as many images as a dear method."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

EQUAL_COMPUTE = "kd"
"""The method that can be given more views of each image, to tell what a method adds from what more images bring."""
VIEWS = "views"


@dataclass(frozen=True)
class Contender:
    """One row of a comparison.

    Args:
        label: of the row. method: its name. settings: of the method, that make this row differ from others of it.
    """

    label: str
    method: str
    settings: Mapping[str, Any] = field(default_factory=dict)


def contenders(methods: Sequence[str], views_of: Callable[[str], int], *, equal_compute: bool) -> list[Contender]:
    """Return a row for each method, then one of equal compute for each number of views that some method asks.

    Args:
        methods: names. views_of: how many views of an image a method asks for; 1 where that cannot be known.
        equal_compute: whether to add those rows. Nothing is added for what `EQUAL_COMPUTE` itself sees.
    """
    rows = [Contender(name, name) for name in methods]
    if not equal_compute:
        return rows
    own = views_of(EQUAL_COMPUTE) if EQUAL_COMPUTE in methods else 1
    wanted = sorted({views_of(name) for name in methods if name != EQUAL_COMPUTE} - {1, own})
    return rows + [Contender(equal_label(views), EQUAL_COMPUTE, {VIEWS: views}) for views in wanted]


def equal_label(views: int) -> str:
    """Name the row that sees so many views of each image: ``kd (4 views)``."""
    return label_of(EQUAL_COMPUTE, {VIEWS: views})


def label_of(method: str, settings: Mapping[str, Any]) -> str:
    """Name a variant of a method by the settings that tell it from others: ``kd (4 views, kd_weight 0.5)``."""
    words = [f"{value} {key}" if key == VIEWS else f"{key} {value}" for key, value in sorted(settings.items())]
    return f"{method} ({', '.join(words)})" if words else method


def labels_of(runs: Sequence[tuple[str, Mapping[str, Any]]]) -> list[str]:
    """Name finished runs by method, and by those settings in which runs of one method differ.

    Args:
        runs: method and settings of each, as far as they differ from the method's defaults.
    """
    labels = []
    for method, settings in runs:
        others = [given for name, given in runs if name == method]
        telling = {
            key: value
            for key, value in settings.items()
            if any(given.get(key) != value for given in others) or (method, key) == (EQUAL_COMPUTE, VIEWS)
        }
        labels.append(label_of(method, telling))
    return labels
