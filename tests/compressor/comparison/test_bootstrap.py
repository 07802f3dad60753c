"""The bootstrap over test images: against scipy's, and against the interval that is known for a mean."""

import numpy as np
import pytest
from scipy import stats

from compressor.comparison.bootstrap import image_interval


def drawn(images: int) -> np.ndarray:
    return np.random.default_rng(1).choice([-1.0, 0.0, 1.0, 0.5], images, p=[0.1, 0.6, 0.2, 0.1])


def test_interval_is_that_of_scipy() -> None:
    gaps = drawn(300)
    theirs = stats.bootstrap(
        (gaps,), np.mean, n_resamples=4000, method="percentile", rng=np.random.default_rng(2)
    ).confidence_interval
    assert image_interval(gaps) == pytest.approx((theirs.low, theirs.high), abs=0.01)


def test_interval_of_many_images_is_the_normal_one() -> None:
    gaps = drawn(20_000)
    half = 1.96 * float(gaps.std()) / len(gaps) ** 0.5
    mean = float(gaps.mean())
    assert image_interval(gaps) == pytest.approx((mean - half, mean + half), rel=0.02)


def test_equal_answers_leave_no_doubt_and_the_same_images_give_the_same_interval() -> None:
    assert image_interval(np.zeros(50)) == (0.0, 0.0)
    assert image_interval(drawn(100)) == image_interval(drawn(100))
