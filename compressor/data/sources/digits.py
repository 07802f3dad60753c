"""The handwritten digits that come with scikit-learn: small, offline, quick."""

import numpy as np
import torch
from sklearn.datasets import load_digits

from compressor.data.splits import hold_out
from compressor.data.stores import ArrayImages, Part, RawData

TEST_SHARE = 0.3
# The test part is the same for everybody and for ever, so it has a seed that nobody can set.
_TEST_SEED = 20_240_101


def load() -> RawData:
    """Return 1,797 digits of 8x8 pixels, 0..16 spread over 0..255, of which 30 % of each class are the test part.

    Source: Alpaydin and Kaynak 1998, "Optical Recognition of Handwritten Digits", UCI repository, as shipped with
    scikit-learn.
    """
    flat, targets = load_digits(return_X_y=True)
    pixels = torch.from_numpy(np.rint(flat * (255 / 16)).astype(np.uint8)).reshape(-1, 1, 8, 8)
    part = Part(ArrayImages(pixels, "digits"), torch.from_numpy(targets.astype(np.int64)))
    train, test = hold_out(part.labels, TEST_SHARE, seed=_TEST_SEED, purpose="digits-test")
    return RawData(
        class_names=tuple(str(digit) for digit in range(10)),
        train=part.take(train.tolist()),
        test=part.take(test.tolist()),
    )
