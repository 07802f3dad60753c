"""Whether a student's certainty can be believed: the temperature that mends it, how right it is when how sure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import optimize
from torch import Tensor
from torch.nn import functional as F

_COLDEST, _HOTTEST = 0.05, 20.0


def fit_temperature(logits: Tensor, labels: Tensor) -> float:
    """Return the temperature at which held-out images are likeliest, searched between 0.05 and 20.

    Args:
        logits: (n, K) of images that were neither trained on nor tested. labels: (n,).

    Returns:
        T > 0; dividing logits by it changes no choice. Above 1 the network was too certain.

    Source: Guo et al. 2017, arXiv:1706.04599, section 4.2 (temperature scaling).
    """
    wide = logits.double()

    def loss(log_temperature: float) -> float:
        return float(F.cross_entropy(wide / math.exp(log_temperature), labels))

    found = optimize.minimize_scalar(loss, bounds=(math.log(_COLDEST), math.log(_HOTTEST)), method="bounded")
    return math.exp(float(found.x))


@dataclass(frozen=True)
class Bin:
    """Images of about one certainty: how many, their mean certainty, and the share that is right; both in [0, 1]."""

    count: int
    confidence: float
    accuracy: float


def reliability(confidence: NDArray[np.float64], right: NDArray[np.bool_], *, bins: int = 15) -> Sequence[Bin]:
    """Sort images into bins of equal width by their certainty, empty ones left out.

    Args:
        confidence: (n,) in (0, 1]. right: (n,). bins: over (0, 1], each with its upper edge.
    """
    place = np.clip(np.ceil(confidence * bins), 1, bins).astype(int) - 1
    found = []
    for number in range(bins):
        inside = place == number
        if inside.any():
            found.append(Bin(int(inside.sum()), float(confidence[inside].mean()), float(right[inside].mean())))
    return found
