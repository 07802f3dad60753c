"""Adapters: geometry of every kind of pair of maps, names of published checkpoints, values by hand."""

import pytest
import torch
from torch import nn

from compressor.distiller import StageSpec
from compressor.modules import MapRegressor, UnitEmbedding, projection_head


def stage(channels: int, height: int, width: int) -> StageSpec:
    return StageSpec(name="stage2", channels=channels, height=height, width=width)


@pytest.mark.parametrize(
    ("student", "teacher", "kind", "kernel", "size"),
    [
        ((8, 8), (4, 4), nn.Conv2d, (3, 3), (4, 4)),
        ((4, 4), (8, 8), nn.ConvTranspose2d, (4, 4), (8, 8)),
        ((8, 8), (8, 8), nn.Conv2d, (1, 1), (8, 8)),
        ((8, 8), (6, 6), nn.Conv2d, (3, 3), (6, 6)),
        ((7, 5), (4, 5), nn.Conv2d, (4, 1), (4, 5)),
        ((12, 6), (6, 3), nn.Conv2d, (3, 3), (6, 3)),
        ((3, 2), (6, 4), nn.ConvTranspose2d, (4, 4), (6, 4)),
        ((7, 7), (16, 16), nn.Conv2d, (1, 1), (7, 7)),
        ((3, 9), (5, 7), nn.Conv2d, (1, 3), (3, 7)),
    ],
)
def test_regressor_has_the_geometry_of_its_pair_of_maps(
    student: tuple[int, int],
    teacher: tuple[int, int],
    kind: type[nn.Module],
    kernel: tuple[int, int],
    size: tuple[int, int],
) -> None:
    regressor = MapRegressor(stage(5, *student), stage(6, *teacher))
    assert type(regressor.conv) is kind
    assert regressor.conv.kernel_size == kernel
    assert regressor.conv.bias is not None
    answer = regressor(torch.randn(2, 5, *student))
    assert answer.shape == (2, 6, *size)
    assert (answer >= 0).all()


def test_regressor_normalises_with_the_batch_before_it_cuts_off() -> None:
    regressor = MapRegressor(stage(3, 4, 4), stage(2, 4, 4))
    assert isinstance(regressor.conv, nn.Conv2d)
    maps = torch.randn(5, 3, 4, 4)
    mixed = torch.einsum("oc,bchw->bohw", regressor.conv.weight[:, :, 0, 0], maps)  # a bias drops out of the variance
    spread, mean = torch.var_mean(mixed, dim=(0, 2, 3), keepdim=True, correction=0)
    expected = ((mixed - mean) / (spread + 1e-5).sqrt()).clamp(min=0)
    assert torch.allclose(regressor(maps), expected, atol=1e-5)


def test_regressor_has_the_keys_of_the_benchmark() -> None:
    keys = set(MapRegressor(stage(3, 4, 4), stage(2, 4, 4)).state_dict())
    norm = {f"bn.{name}" for name in ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")}
    assert keys == {"conv.weight", "conv.bias"} | norm


def test_projection_head_has_the_keys_of_published_checkpoints() -> None:
    head = projection_head(6)
    published = nn.ModuleDict({"proj_head": head}).state_dict()
    assert {key: tuple(value.shape) for key, value in published.items()} == {
        "proj_head.0.weight": (6, 6),
        "proj_head.0.bias": (6,),
        "proj_head.2.weight": (6, 6),
        "proj_head.2.bias": (6,),
    }


def test_unit_embedding_is_the_linear_answer_divided_by_its_length() -> None:
    embedding = UnitEmbedding(2, 2)
    with torch.no_grad():
        embedding.linear.weight.copy_(torch.tensor([[3.0, 0.0], [0.0, 4.0]]))
        embedding.linear.bias.zero_()
    assert torch.allclose(embedding(torch.ones(1, 2)), torch.tensor([[0.6, 0.8]]))
    assert embedding(torch.zeros(1, 2)).tolist() == [[0, 0]]
