"""Convolutions by minimal filtering: the same maps as summing up, whatever the size, and nothing else taken on."""

import pytest
import torch
from torch import Tensor, nn

from compressor.models.copies import exchange, sharing_copy
from compressor.models.winograd import WinogradConvolution, is_suitable, transform_weight

_TOLERANCE = 1e-5  # of the largest value of a map, in float32


def convolution(inputs: int, outputs: int, *, bias: bool = True, **changes: object) -> nn.Conv2d:
    torch.manual_seed(0)
    given: dict[str, object] = {"padding": 1, "bias": bias, **changes}
    return nn.Conv2d(inputs, outputs, 3, **given).eval().requires_grad_(False)  # type: ignore[arg-type]


def images(count: int, channels: int, size: tuple[int, int]) -> Tensor:
    return torch.randn(count, channels, *size, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize(
    ("inputs", "outputs", "size", "count", "bias"),
    [
        (8, 5, (8, 8), 3, True),
        (16, 16, (7, 9), 5, False),
        (64, 64, (32, 32), 9, True),
        (256, 32, (8, 8), 19, True),
        (3, 4, (1, 1), 2, True),
        (4, 4, (30, 3), 2, False),
    ],
)
def test_maps_are_those_of_the_sum(inputs: int, outputs: int, size: tuple[int, int], count: int, bias: bool) -> None:
    layer, pictures = convolution(inputs, outputs, bias=bias), images(count, inputs, size)
    seen = WinogradConvolution(layer, size)(pictures)
    exact = layer.double()(pictures.double())
    assert seen.shape == exact.shape
    assert seen.is_contiguous(memory_format=torch.channels_last) or size[0] % 4 or size[1] % 4
    assert (seen - exact).abs().max() <= _TOLERANCE * exact.abs().max()


def test_in_float64_nothing_but_rounding_is_left() -> None:
    layer, pictures = convolution(8, 8).double(), images(3, 8, (12, 12)).double()
    assert torch.allclose(WinogradConvolution(layer, (12, 12))(pictures), layer(pictures), rtol=0, atol=1e-13)


def test_the_centre_of_a_weight_is_seen_by_hand() -> None:
    weight = torch.zeros(1, 1, 3, 3)
    weight[0, 0, 0, 0] = 6.0
    # At the points 0, -+1/sqrt(2), -+sqrt(2) the constant 6 is divided by 1, -1.5, 6; at infinity only squares count.
    one = torch.tensor([1.0, -1 / 1.5, -1 / 1.5, 1 / 6, 1 / 6, 0.0])
    assert torch.allclose(transform_weight(weight).reshape(6, 6), 6 * one[:, None] * one[None])


def test_an_images_bits_do_not_hang_on_its_neighbours() -> None:
    layer = WinogradConvolution(convolution(64, 64), (16, 16))
    pictures = images(37, 64, (16, 16))
    whole = layer(pictures)
    assert torch.equal(layer(pictures[20:21]), whole[20:21])
    assert torch.equal(layer(pictures[3:36]), whole[3:36])
    assert torch.equal(layer(pictures.to(memory_format=torch.channels_last)), whole)


def test_what_it_cannot_do_the_convolution_does() -> None:
    plain = convolution(4, 4)
    layer = WinogradConvolution(plain, (8, 8))
    other = images(2, 4, (9, 9))
    assert torch.equal(layer(other), plain(other))
    traced = images(2, 4, (8, 8)).requires_grad_()
    layer(traced).sum().backward()
    expected = images(2, 4, (8, 8)).requires_grad_()
    plain(expected).sum().backward()
    assert traced.grad is not None
    assert expected.grad is not None
    assert torch.equal(traced.grad, expected.grad)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert layer(images(2, 4, (8, 8))).dtype == torch.bfloat16


@pytest.mark.parametrize(
    "changes",
    [{"stride": 2}, {"groups": 4}, {"padding": 0}, {"dilation": 2, "padding": 2}, {"padding_mode": "reflect"}],
)
def test_other_convolutions_are_left_alone(changes: dict[str, object]) -> None:
    assert is_suitable(convolution(4, 4))
    assert is_suitable(convolution(4, 4, padding="same"))
    assert not is_suitable(convolution(4, 4, **changes))  # type: ignore[arg-type]
    assert not is_suitable(nn.Conv2d(4, 4, 1))
    assert not is_suitable(convolution(4, 4).double())
    watched = convolution(4, 4)
    watched.register_forward_hook(lambda *_: None)
    assert not is_suitable(watched)


def test_a_copy_shares_numbers_and_a_module_is_exchanged_wherever_it_stands() -> None:
    layer = nn.Linear(2, 2)
    net = nn.ModuleDict({"one": layer, "two": layer, "other": nn.Linear(2, 2)})
    copied = sharing_copy(net)
    exchange(copied, "two", nn.Identity())
    assert [type(module) for module in copied.values()] == [nn.Identity, nn.Identity, nn.Linear]
    assert copied["other"].weight is net["other"].weight
    assert net["one"] is net["two"] is layer
