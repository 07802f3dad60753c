"""Is a network's embedding the mean of its last map? Told by asking it, as no name or width tells it."""

import pytest
import timm
import torch
from torch import nn

import compressor_zoo
from compressor.models.specs import network_spec
from compressor.models.taps import TappedModel, Wanted

EXPECTED = {
    "cifar_resnet8": True,
    "cifar_vgg8": True,
    "cifar_shufflenetv1": True,
    "test_resnet": True,
    "cifar_wrn_16_1": False,  # batch normalisation and ReLU stand between, and the width is the same
    "cifar_mobilenetv2_half": False,  # a convolution
    "cifar_shufflenetv2": False,
    "mobilenetv3_small_050": False,
    "test_convnext": False,  # a layer normalisation
    "vit_tiny_patch16_224": False,  # attention and a class token
}


def is_pooled(net: nn.Module, side: int = 32, **wanted: bool) -> bool:
    asked = Wanted(**{"stages": True, "embedding": True, **wanted})
    return network_spec(TappedModel(net, owner="teacher"), "net", (3, side, side), wanted=asked).pooled_embedding


@pytest.mark.parametrize("name", EXPECTED)
def test_told_of_networks_with_random_weights(name: str) -> None:
    assert compressor_zoo.ARCHITECTURES
    torch.manual_seed(0)
    size = {"img_size": 32} if "vit" in name else {}
    assert is_pooled(timm.create_model(name, num_classes=4, **size)) is EXPECTED[name]


def test_a_network_that_pools_otherwise_is_not_taken_for_one_that_averages() -> None:
    torch.manual_seed(0)
    assert not is_pooled(timm.create_model("cifar_resnet8", num_classes=4, global_pool="max"))


def test_not_told_where_maps_or_embedding_were_not_asked_for() -> None:
    net = timm.create_model("cifar_resnet8", num_classes=4)
    assert not is_pooled(net, stages=False)
    assert not is_pooled(net, embedding=False)


def test_asking_changes_no_random_draw() -> None:
    net = timm.create_model("cifar_resnet8", num_classes=4)
    torch.manual_seed(5)
    before = torch.random.get_rng_state()
    is_pooled(net)
    assert torch.equal(torch.random.get_rng_state(), before)
