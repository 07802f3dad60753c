"""What the tests of the zoo share: one network of each family, and images."""

import pytest
import timm
import torch
from torch import Tensor

from compressor_zoo.architectures.base import ZooNetwork

# One of each family, the cheap ones: the others differ in numbers alone.
FAMILIES = (
    "cifar_resnet8",
    "cifar_resnet8x4",
    "cifar_wrn_16_1",
    "cifar_wrn_16_2",
    "cifar_vgg8",
    "cifar_resnet50",
    "cifar_mobilenetv2_half",
    "cifar_mobilenetv2_half_stride1",
    "cifar_shufflenetv1",
    "cifar_shufflenetv2",
)
each_family = pytest.mark.parametrize("name", FAMILIES)


def create(name: str, **kwargs: object) -> ZooNetwork:
    torch.manual_seed(0)
    model = timm.create_model(name, **kwargs)
    assert isinstance(model, ZooNetwork)
    return model.eval()


def images(side: int = 32, channels: int = 3, batch: int = 2) -> Tensor:
    return torch.randn(batch, channels, side, side, generator=torch.Generator().manual_seed(1))
