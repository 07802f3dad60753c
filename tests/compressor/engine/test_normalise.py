"""What a network's weights say of their images: taken where it makes sense, refused in one line where it does not."""

from typing import Any

import pytest
import torch
from torch import nn

from compressor.engine.normalise import Normalisation
from compressor.engine.teachers import label_names
from compressor.errors import InputError


def told(**settings: Any) -> nn.Module:
    net = nn.Identity()
    net.pretrained_cfg = settings  # type: ignore[assignment]  # as timm does
    return net


def test_what_the_weights_say_is_applied() -> None:
    normalisation = Normalisation.of_network(told(mean=[0.5, 0, 1], std=(0.5, 1, 2)), 3)
    assert normalisation == Normalisation((0.5, 0.0, 1.0), (0.5, 1.0, 2.0))
    seen = normalisation(torch.full((1, 3, 1, 1), 255, dtype=torch.uint8))
    assert seen.flatten().tolist() == [1.0, 1.0, 0.0]


def test_networks_that_say_nothing_have_none() -> None:
    assert Normalisation.of_network(nn.Identity(), 3) is None
    assert Normalisation.of_network(told(mean=[0.5]), 3) is None


@pytest.mark.parametrize(
    ("mean", "std"),
    [
        ("", [1, 1, 1]),
        ("\\\\host\\share", "\\\\host\\share"),
        ([0, 0, 0], [1, 1]),
        ([0, 0], [1, 1]),
        ([0, 0, float("nan")], [1, 1, 1]),
        ([0, 0, 0], [1, 0, 1]),
        ([0, 0, 10**400], [1, 1, 1]),
        (None, 3),
        ([[1], [2], [3]], [1, 1, 1]),
    ],
)
def test_values_that_make_no_sense_are_refused(mean: Any, std: Any) -> None:
    with pytest.raises(InputError, match="as many finite means and positive deviations"):
        Normalisation.of_network(told(mean=mean, std=std), 3)


@pytest.mark.parametrize(("mean", "channels"), [([0.5], 3), ([0.1, 0.2, 0.3], 1)])
def test_one_value_or_one_channel_fits_any_number(mean: list[float], channels: int) -> None:
    assert Normalisation.told(mean, [1.0] * len(mean), channels).mean == tuple(mean)


@pytest.mark.parametrize("names", [3, "cat dog", [1, 2], {"a": 1}])
def test_class_names_that_are_none_are_refused(names: Any) -> None:
    with pytest.raises(InputError, match="no list of names"):
        label_names(told(label_names=names))


@pytest.mark.parametrize(("names", "seen"), [(None, None), ([], None), (["a", "b"], ("a", "b"))])
def test_class_names_are_taken_as_they_are(names: Any, seen: Any) -> None:
    assert label_names(told(label_names=names)) == seen
